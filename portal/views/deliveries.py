"""Deliveries: sending one again."""

from __future__ import annotations

from flask import Blueprint, flash, g, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.audit.log import actor_of
from portal.delivery import actions

bp = Blueprint("deliveries", __name__, url_prefix="/m/<slug>/deliveries")


@bp.post("/<delivery_id>/resend")
def resend(slug: str, delivery_id: str) -> ResponseReturnValue:
    """Make one more attempt as soon as possible, and show the event."""
    sent = actions.resend(g.merchant.id, delivery_id, actor_of(current_user))
    flash("One more attempt is on its way; this page shows it when it is done.")
    return redirect(url_for("events.show", slug=slug, event_id=sent.event_id), 303)
