"""Attempts: the header log, and one attempt with its payload log."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, flash, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.audit.log import actor_of
from portal.clock import now
from portal.diagnosis import diagnoses, reports, shares, signatures
from portal.errors import Conflict, Invalid
from portal.logs import browse
from portal.models import Merchant
from portal.models.delivery import TRIGGERS
from portal.models.webhook import METHODS
from portal.views import log_filters
from portal.views.log_filters import LogFilters
from portal.web import rendering, snippets
from portal.webhooks import setup

bp = Blueprint("attempts", __name__, url_prefix="/m/<slug>/attempts")

EXPLAINED: dict[str, Any] = {
    "signature_headers": signatures.SIGNATURE_HEADERS,
    "snippets": snippets.verify(),
    "whom": diagnoses.WHOM,
}
"""What templates/attempts/_report.html needs beside a report."""


@bp.get("")
def index(slug: str) -> ResponseReturnValue:
    """The header log of the merchant."""
    return log_page(g.merchant)


@bp.get("/<attempt_id>")
def show(slug: str, attempt_id: str) -> ResponseReturnValue:
    """One attempt: what was sent, what came back, what it means and what to do."""
    return _show(attempt_id)


@bp.post("/<attempt_id>/shares")
def share(slug: str, attempt_id: str) -> ResponseReturnValue:
    """Make a share link, and show it in the answer to this very request."""
    try:
        token = shares.create_share(
            g.merchant.id, attempt_id, request.form.get("hours", ""), actor_of(current_user)
        )
    except (Invalid, Conflict) as error:
        return _show(attempt_id, error.status, share_error=error.detail)
    # Not by the name in the request: the link is for somebody else, at the public address.
    address = current_app.config["PORTAL"].public_url + url_for("shared.show", token=token)
    return _show(attempt_id, new_link=address)


@bp.post("/<attempt_id>/shares/<share_id>/revoke")
def revoke_share(slug: str, attempt_id: str, share_id: str) -> ResponseReturnValue:
    """End a share link."""
    shares.revoke_share(g.merchant.id, attempt_id, share_id, actor_of(current_user))
    flash("The link is revoked; it shows nothing any more.")
    return redirect(url_for("attempts.show", slug=slug, attempt_id=attempt_id), 303)


def _show(attempt_id: str, status: int = 200, **shown: Any) -> Response:
    detail = browse.attempt_detail(g.merchant.id, attempt_id)
    return rendering.render(
        "attempts/show.html",
        "attempts/_shares.html",
        status,
        report=reports.report(detail),
        attempt=detail.attempt,
        shares=shares.list_shares(g.merchant.id, attempt_id),
        lifetimes=shares.LIFETIMES,
        is_open=shares.is_open,
        max_open=shares.MAX_OPEN,
        moment=now(),
        **EXPLAINED,
        **shown,
    )


def log_page(merchant: Merchant | None) -> Response:
    """The attempt log: of a merchant, or of all (staff), who may filter by `merchant`."""
    asked = log_filters.read("attempts", merchant)
    if log_filters.asks_for_news():
        return _news(asked)
    page = asked.find(
        lambda: browse.ATTEMPTS.page(
            asked.scope, asked.typed, request.args.get("cursor"), zone=asked.zone
        )
    )
    rows = page.rows if page else []
    return log_filters.answer(
        "attempts/index.html",
        "attempts/_log.html",
        asked,
        page=page,
        webhooks=browse.webhooks_of(rows),
        merchants={} if merchant else browse.merchants_of(rows),
        choices=setup.list_webhooks(asked.scope) if asked.scope else [],
        methods=METHODS,
        triggers=TRIGGERS,
        error_codes=sorted(diagnoses.ERRORS),
    )


def _news(asked: LogFilters) -> Response:
    """The bar of new attempts."""
    if asked.errors:
        raise Invalid([])
    mark = request.args["after"]
    return rendering.render(
        "attempts/_live.html",
        asked=asked,
        url=asked.url,
        mark=mark,
        count=browse.ATTEMPTS.news(asked.scope, asked.typed, mark, asked.zone),
    )
