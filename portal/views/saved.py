"""Saved filters: kept and forgotten from the log pages."""

from __future__ import annotations

from flask import Blueprint, flash, g, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.errors import Conflict, Invalid
from portal.logs import saved
from portal.views import log_filters

bp = Blueprint("saved", __name__, url_prefix="/m/<slug>/saved")


@bp.post("/<any(events, attempts):log>")
def create(slug: str, log: str) -> ResponseReturnValue:
    """Keep the filters of a log page by a name, and show that page again."""
    query = request.form.get("query", "")
    try:
        saved.save_filter(current_user.id, g.merchant.id, log, request.form.get("name", ""), query)
    except (Invalid, Conflict) as error:
        flash(error.detail, "error")
    return redirect(log_filters.address_of(slug, log, query), 303)


@bp.post("/<any(events, attempts):log>/<int(max=2147483647):filter_id>/delete")
def delete(slug: str, log: str, filter_id: int) -> ResponseReturnValue:
    """Forget a saved filter of one's own."""
    saved.delete_filter(current_user.id, g.merchant.id, log, filter_id)
    return redirect(log_filters.address_of(slug, log, request.form.get("query", "")), 303)
