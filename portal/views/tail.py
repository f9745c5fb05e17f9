"""Live tails of the logs: rows of a log page as they come and change, as Server-Sent Events; or
once, as a part of the page, for who asks again and again because every place is taken.

A tail looks once a second at the newest rows of the last minutes, by key and with the page's
filters, and sends those that are new to it or look different now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from flask import Blueprint, Response, copy_current_request_context, g, render_template, request
from flask.typing import ResponseReturnValue

from portal.db.session import reading
from portal.errors import Forbidden, TooManyRequests, Unavailable
from portal.fairness.courtesy import breathe
from portal.fairness.places import TAIL
from portal.logs import browse, filters
from portal.models import Merchant
from portal.processes import is_stopping
from portal.views import log_filters
from portal.views.streams import Stream
from portal.web import access

bp = Blueprint("tail", __name__)

EVENT_STREAM = "text/event-stream"
LASTS_SECONDS, LOOK_SECONDS = 120.0, 1.0
"""A tail ends by itself, and who may still look begins it anew: so it holds no place for long, and
a role that was taken away is gone."""

Seen = dict[tuple[int, str], Hashable]
"""What a tail has sent, by merchant and ID, and how that looked."""
Look = Callable[[Seen], str]
_LOGS: dict[str, browse.Log[Any]] = {"events": browse.EVENTS, "attempts": browse.ATTEMPTS}


@bp.get("/m/<slug>/live/events")
def events(slug: str) -> ResponseReturnValue:
    """The merchant's events that match."""
    return _tail("events", g.merchant)


@bp.get("/m/<slug>/live/attempts")
def attempts(slug: str) -> ResponseReturnValue:
    """The merchant's attempts that match."""
    return _tail("attempts", g.merchant)


@bp.get("/staff/live/events")
def all_events() -> ResponseReturnValue:
    """Events of all merchants."""
    return _tail("events", None)


@bp.get("/staff/live/attempts")
def all_attempts() -> ResponseReturnValue:
    """Attempts of all merchants."""
    return _tail("attempts", None)


def _tail(log: str, merchant: Merchant | None) -> Response:
    asked = log_filters.asked_or_invalid(log, merchant)
    # Wrong ones are refused now: once the answer has begun it is too late.
    filters.clean(filters.LOGS[log], asked.typed, asked.zone)
    pages = _LOGS[log]
    floor = pages.floor(asked.scope, request.args.get(log_filters.FLOOR))

    def look(seen: Seen) -> str:
        rows = pages.live(asked.scope, asked.typed, asked.zone, floor)
        # An attempt stays as it was when it came.
        states = browse.delivery_states(rows) if log == "events" else {}
        now: Seen = {
            (row.merchant_id, row.id): frozenset(states.get((row.merchant_id, row.id), {}).items())
            for row in rows
        }
        changed = [row for row in rows if _is_news(seen, now, (row.merchant_id, row.id))]
        _remember(seen, now)
        if not changed:
            return ""
        return render_template(
            f"{log}/_rows.html",
            rows=changed,
            states=states,
            webhooks=browse.webhooks_of(changed) if log == "attempts" else {},
            merchant=merchant,
            typed=asked.typed,
            is_staff_log=merchant is None,
            merchants={} if merchant else browse.merchants_of(changed),
        )

    return _answer(look, merchant)


def _is_news(seen: Seen, now: Seen, key: tuple[int, str]) -> bool:
    return key not in seen or seen[key] != now[key]


def _remember(seen: Seen, now: Seen) -> None:
    """Keep what is in sight: what left it for newer rows does not come back."""
    seen.clear()
    seen.update(now)


def _answer(look: Look, merchant: Merchant | None) -> Response:
    may_go_on = access.for_long()

    def look_once(seen: Seen) -> str:
        with reading():
            if not may_go_on():
                raise Forbidden("The sign-in or the role of this reader has ended.")
            return look(seen)

    try:
        if request.accept_mimetypes.best != EVENT_STREAM:
            return Response(look_once({}), mimetype="text/html")
        messages = _messages(copy_current_request_context(look_once))
        stream = Stream(messages, merchant.id if merchant else None, TAIL)
    except TooManyRequests:
        # No reconnecting (HTML, 9.2.3): the page asks again and again instead.
        return Response(status=204)
    return Response(stream, mimetype=EVENT_STREAM, headers={"X-Accel-Buffering": "no"})


def _messages(look: Look) -> Iterator[str]:
    seen: Seen = {}
    end = time.monotonic() + LASTS_SECONDS
    while time.monotonic() < end and not is_stopping():
        try:
            rows = look(seen)
        except (Unavailable, Forbidden):
            return
        except TooManyRequests:
            # Other searches through records are running; it looks again in a moment.
            rows = ""
        # Something each time, so that a reader who left is noticed.
        yield _message(rows) if rows else ":\n\n"
        # A sleep would count as its store's use of the processor, and keep its pages waiting.
        breathe(LOOK_SECONDS)


def _message(text: str) -> str:
    lines = text.replace("\r", " ").split("\n")
    return "".join(f"data: {line}\n" for line in lines) + "\n"
