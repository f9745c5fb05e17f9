"""Events: the log, and one event with all that became of it."""

from __future__ import annotations

from flask import Blueprint, Response, flash, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from portal.audit.log import actor_of
from portal.delivery import actions
from portal.diagnosis import outcomes
from portal.errors import Invalid, TooManyRequests
from portal.events import catalogue
from portal.logs import browse, changes, filters
from portal.models import Merchant
from portal.people import periods
from portal.views import log_filters
from portal.views.log_filters import LogFilters
from portal.web import rendering

bp = Blueprint("events", __name__, url_prefix="/m/<slug>/events")


@bp.get("")
def index(slug: str) -> ResponseReturnValue:
    """The event log of the merchant."""
    return log_page(g.merchant)


@bp.get("/<event_id>")
def show(slug: str, event_id: str) -> ResponseReturnValue:
    """One event: fields, record, related events, and what became of it at each webhook. `?text=`,
    by which the log was filtered, is marked in the record."""
    story = browse.event_story(g.merchant, event_id)
    payload = story.payload
    return rendering.render(
        "events/show.html",
        "events/_destinations.html",
        story=story,
        glance=outcomes.glance(story.destinations),
        verdict=outcomes.verdict,
        found=request.args.get("text", "")[: filters.MAX_TEXT],
        changed=changes.between(payload.data, payload.previous, None) if payload else None,
    )


@bp.post("/<event_id>/resend-failed")
def resend_failed(slug: str, event_id: str) -> ResponseReturnValue:
    """Make one more attempt at every webhook where the event failed."""
    count = actions.resend_failed(g.merchant.id, event_id, actor_of(current_user))
    what = "One more attempt is" if count == 1 else f"{count} more attempts are"
    flash(f"{what} on the way; this page shows what comes back.")
    return redirect(url_for("events.show", slug=slug, event_id=event_id), 303)


def log_page(merchant: Merchant | None) -> Response:
    """The event log: of a merchant, or of all (staff), who may filter by `merchant`."""
    asked = log_filters.read("events", merchant)
    if log_filters.asks_for_news():
        return _news(asked)
    page = asked.find(
        lambda: browse.EVENTS.page(
            asked.scope, asked.typed, request.args.get("cursor"), zone=asked.zone
        )
    )
    rows = page.rows if page else []
    return log_filters.answer(
        "events/index.html",
        "events/_log.html",
        asked,
        page=page,
        days=periods.event_days(merchant),
        states=browse.delivery_states(rows),
        merchants={} if merchant else browse.merchants_of(rows),
        event_types=sorted(catalogue.known_names(asked.scope)) if asked.scope else [],
    )


def _news(asked: LogFilters) -> Response:
    """The bar of new events and, where some in view are pending, their states."""
    if asked.errors:
        raise Invalid([])
    mark, view = request.args["after"], request.args.get("view", "")
    try:
        return _newer(asked, mark, view)
    except TooManyRequests:
        # Other searches are running; the page asks again by itself.
        return Response(status=204)


def _newer(asked: LogFilters, mark: str, view: str) -> Response:
    rows = browse.EVENTS.in_view(asked.scope, asked.typed, view, asked.zone) if view else []
    return rendering.render(
        "events/_live.html",
        asked=asked,
        url=asked.url,
        mark=mark,
        view=view,
        rows=rows,
        count=browse.EVENTS.news(asked.scope, asked.typed, mark, asked.zone),
        states=browse.delivery_states(rows),
    )
