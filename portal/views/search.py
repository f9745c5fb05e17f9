"""The search box: straight to the one thing that was meant, or a page of what was found."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.errors import Invalid
from portal.logs import filters, search
from portal.logs.search import Action, Found, Record
from portal.models import Attempt, Event, Merchant, Webhook
from portal.web import rendering

bp = Blueprint("search", __name__, url_prefix="/search")


@bp.get("")
def index() -> ResponseReturnValue:
    """What `q` names among the merchants of the reader; staff search all of them."""
    own = None
    if not current_user.staff_role:
        own = [membership.merchant_id for membership in current_user.memberships]
    found = search.find(request.args.get("q", ""), own)
    if len(found.all) == 1 and "all" not in request.args:
        return redirect(address(found, found.all[0]), 303)
    return rendering.render(
        "search/index.html", found=found, address=address, in_records=_in_records(found.text)
    )


def _in_records(text: str) -> list[tuple[str, str]]:
    """Where else to look: the logs of events, by what their records hold; name and address."""
    try:
        given = filters.clean(("text",), {"text": text})
    except Invalid:
        return []
    if not given:
        return []
    if current_user.staff_role:
        return [("all merchants", url_for("staff.events", **given))]
    return [
        (membership.merchant.name, url_for("events.index", slug=membership.merchant.slug, **given))
        for membership in current_user.memberships
    ]


def address(found: Found, row: Any) -> str:
    """The page of something that was found."""
    if isinstance(row, Merchant):
        return url_for("home.index", slug=row.slug)
    slug = found.merchants[row.merchant_id].slug
    if isinstance(row, Record):
        return rendering.record_url(slug, row.object_type, row.object_id)
    if isinstance(row, Action):
        return url_for("events.index", slug=slug, correlation_id=row.correlation_id)
    if isinstance(row, Event):
        return url_for("events.show", slug=slug, event_id=row.id)
    if isinstance(row, Attempt):
        return url_for("attempts.show", slug=slug, attempt_id=row.id)
    assert isinstance(row, Webhook)
    return url_for("webhooks.show", slug=slug, webhook_id=row.id)
