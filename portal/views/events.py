"""Events: the log, and one event with all that became of it."""

from __future__ import annotations

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue

from portal import rendering
from portal.errors import Invalid, NotFound
from portal.events import catalogue
from portal.logs import browse, filters
from portal.models import Merchant
from portal.views import log_filters
from portal.views.log_filters import Asked

bp = Blueprint("events", __name__, url_prefix="/m/<slug>/events")


@bp.get("")
def index(slug: str) -> ResponseReturnValue:
    """The event log of the merchant."""
    return log_page(g.merchant)


@bp.get("/<event_id>")
def show(slug: str, event_id: str) -> ResponseReturnValue:
    """One event: fields, record, related events, and what became of it at each webhook."""
    if not event_id.isprintable():
        raise NotFound("There is no such event.")
    return rendering.render(
        "events/show.html", "events/_destinations.html",
        story=browse.event_story(g.merchant, event_id),
    )


def log_page(merchant: Merchant | None) -> Response:
    """The event log: of a merchant, or of all (staff), who may filter by `merchant`."""
    endpoint = "events.index" if merchant else "staff.events"
    asked = log_filters.read(endpoint, merchant, filters.EVENTS)
    if log_filters.is_live():
        return _live(asked)
    page = asked.find(
        lambda: browse.events(
            asked.scope, asked.typed, request.args.get("cursor"), zone=asked.zone
        )
    )
    rows = page.rows if page else []
    return log_filters.answer(
        "events/index.html", "events/_log.html", asked, page=page,
        states=browse.delivery_states(rows),
        merchants={} if merchant else browse.merchants_of(rows),
        event_types=sorted(catalogue.known_types(asked.scope)) if asked.scope else [],
    )


def _live(asked: Asked) -> Response:
    """The bar of new events and, where some in view are pending, their states."""
    if asked.errors:
        raise Invalid([])
    mark, view = request.args["after"], request.args.get("view", "")
    rows = browse.events_in_view(asked.scope, asked.typed, view, asked.zone) if view else []
    return rendering.render(
        "events/_live.html", asked=asked, url=asked.url, mark=mark, view=view, rows=rows,
        count=browse.new_events(asked.scope, asked.typed, mark, asked.zone),
        states=browse.delivery_states(rows),
    )
