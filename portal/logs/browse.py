"""4 BROWSE: every query of the logs. Pages by key, never OFFSET, never a count of a log.

`scope` is a merchant's ID, or None for all merchants: that is for staff alone. Filters are
what portal.logs.filters takes; each list is checked here, for pages and the API alike.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa

from portal.clock import MINUTE, SECOND, now
from portal.db import keyset
from portal.db.keyset import LogPage, LogQuery, Walk
from portal.db.session import db
from portal.fairness import places
from portal.fairness.places import SEARCH
from portal.ids import moment_of_request_id, request_id_at
from portal.logs import conditions, filters
from portal.logs.stories import (
    attempt_detail,
    event_deliveries,
    event_story,
    get_event,
    same_action,
    same_record,
)
from portal.models import Attempt, Delivery, Event, Merchant, Webhook
from portal.models.delivery import HELD, PENDING, PENDING_LITERAL, SUCCEEDED

__all__ = [
    "ATTEMPTS",
    "EVENTS",
    "Log",
    "attempt_detail",
    "deliveries",
    "delivery_states",
    "event_deliveries",
    "event_story",
    "get_event",
    "merchants_of",
    "same_action",
    "same_record",
    "webhooks_of",
]

Row = TypeVar("Row")
Shape = TypeVar("Shape")
DEFAULT_LIMIT = 50
_INGEST_TAKES = 10 * SECOND
"""The longest time from the moment of a batch's first event until the batch is in the log."""
_ATTEMPT_TAKES = 3 * MINUTE
"""The longest time from an attempt's start until it is in the log: its timeout, and the commit."""
LIVE_FOR, LIVE_ROWS = _ATTEMPT_TAKES, keyset.MAX_LIMIT
JOINED_COST = 8
"""How many rows a delivery that is found by way of its event counts as (keyset.LogQuery.cost)."""
Floor = list[Any] | None
"""The key of the oldest row that a live page shows; None where it shows all there are."""


# ── The logs of events and of attempts ────────────────────────────────────────────────────


@dataclass(frozen=True)
class Log(Generic[Row]):
    """A log, and the ways to look at it; newest rows first.

    `wanted` makes the query of filters (portal.logs.filters), `walk` the order of a scope, `since`
    the condition of rows from a moment on.

    Methods that take filters raise Invalid, which names the wrong one, and for `text`
    TooManyRequests while several such searches are running; those that take a cursor, BadCursor.
    """

    wanted: Callable[[int | None, Mapping[str, Any], str], LogQuery[Row]]
    walk: Callable[[int | None], Walk[Row]]
    since: Callable[[int], sa.ColumnElement[bool]]

    def page(
        self,
        scope: int | None,
        given: Mapping[str, Any] | None = None,
        cursor: str | None = None,
        limit: int = DEFAULT_LIMIT,
        zone: str = "UTC",
    ) -> LogPage[Row]:
        """A page of the rows that match."""
        with _place_to_search(scope, given or {}):
            wanted = self.wanted(scope, given or {}, zone)
            return keyset.page(wanted, self.walk(scope), cursor, limit)

    def news(
        self, scope: int | None, given: Mapping[str, Any], mark: str, zone: str = "UTC"
    ) -> int:
        """How many rows have come in since the first page with this `mark` was made, counted up to
        NEWS_CAP."""
        with _place_to_search(scope, given):
            return keyset.news(self.wanted(scope, given, zone), self.walk(scope), mark)

    def in_view(
        self, scope: int | None, given: Mapping[str, Any], view: str, zone: str = "UTC"
    ) -> Sequence[Row]:
        """The rows that a page with `view` shows."""
        with _place_to_search(scope, given):
            return keyset.in_view(self.wanted(scope, given, zone), self.walk(scope), view)

    def live(
        self, scope: int | None, given: Mapping[str, Any], zone: str = "UTC", floor: Floor = None
    ) -> Sequence[Row]:
        """The newest LIVE_ROWS of the last LIVE_FOR, for a live tail; none that lie below `floor`,
        since the page does not show those. It costs no more than a page, however many there are."""
        walk = self.walk(scope)
        wanted = self.wanted(scope, given, zone).narrowed(self.since(now() - LIVE_FOR))
        with _place_to_search(scope, given):
            return keyset.page(keyset.down_to(wanted, walk, floor), walk, None, LIVE_ROWS).rows

    def floor(self, scope: int | None, cursor: str | None) -> Floor:
        """The last row of a page with this next_cursor."""
        return keyset.floor(self.walk(scope), cursor)

    def every(
        self,
        scope: int | None,
        given: Mapping[str, Any],
        shape: Callable[[Sequence[Row]], list[Shape]],
        zone: str = "UTC",
    ) -> Iterator[list[Shape]]:
        """All rows that match, batch for batch as `shape` makes them (keyset.every). Raises Invalid
        at once, before the first row is asked for."""
        return keyset.every(self.wanted(scope, given, zone), self.walk(scope), shape)


def _place_to_search(
    scope: int | None, given: Mapping[str, Any]
) -> contextlib.AbstractContextManager[None]:
    """A place to hold while records are searched. Raises TooManyRequests. A download holds one of
    another kind already."""
    return places.held(SEARCH, scope) if given.get("text") else contextlib.nullcontext()


def _event_walk(scope: int | None) -> Walk[Event]:
    def horizon(event: Event | None) -> list[Any]:
        moment = (event.received_at if event else now()) - _INGEST_TAKES
        return [moment, ""] if scope is not None else [moment, 0, ""]

    if scope is not None:
        return Walk(
            f"events {scope}",
            (Event.received_at, Event.id),
            lambda event: [event.received_at, event.id],
            horizon,
        )
    return Walk(
        "events",
        (Event.received_at, Event.merchant_id, Event.id),
        lambda event: [event.received_at, event.merchant_id, event.id],
        horizon,
    )


def _attempt_walk(scope: int | None) -> Walk[Attempt]:
    def horizon(attempt: Attempt | None) -> list[Any]:
        return [request_id_at((attempt.attempted_at if attempt else now()) - _ATTEMPT_TAKES)]

    return Walk(
        f"attempts {scope}",
        (Attempt.id,),
        lambda attempt: [attempt.id],
        horizon,
        lambda key: moment_of_request_id(key[0]),
    )


EVENTS: Log[Event] = Log(conditions.events, _event_walk, lambda moment: Event.received_at >= moment)
ATTEMPTS: Log[Attempt] = Log(
    conditions.attempts, _attempt_walk, lambda moment: Attempt.id >= request_id_at(moment)
)
"""The header log."""


# ── Deliveries ────────────────────────────────────────────────────────────────────────────


def deliveries(
    merchant_id: int,
    given: Mapping[str, Any] | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> LogPage[tuple[Delivery, Webhook | None]]:
    """A page of a merchant's deliveries with their webhooks, newest first.

    Filters: portal.logs.filters.DELIVERIES; `state` is the one that people see. Raises Invalid
    naming a wrong filter, BadCursor.
    """
    values = filters.clean(filters.DELIVERIES, given or {})
    moment: Any = Delivery.created_at
    query = sa.select(Delivery).where(Delivery.merchant_id == merchant_id)
    if "event_id" in values:
        query = query.where(Delivery.event_id == values["event_id"])
    if "webhook_id" in values:
        query = query.where(Delivery.webhook_id == values["webhook_id"])
    elif "event_id" not in values:
        # By way of the merchant's events, whose index has the right order: a delivery is made in
        # the same moment as its event, and an index on deliveries would slow every ingest down.
        moment = Event.received_at
        query = (
            sa.select(Delivery)
            .select_from(Event)
            .join(
                Delivery,
                sa.and_(Delivery.merchant_id == Event.merchant_id, Delivery.event_id == Event.id),
            )
            .where(Event.merchant_id == merchant_id)
        )
        if not {"since", "before"} & set(values):
            # Without a bound SQLite reads and sorts all of the merchant's deliveries.
            query = query.where(moment >= 0)
    query = conditions.between(query, moment, values)
    wanted = LogQuery(query)
    if "state" in values:
        wanted = LogQuery(
            query.where(_in_state(merchant_id, values["state"])),
            base=query,
            cost=1 if moment is Delivery.created_at else JOINED_COST,
        )
    walk: Walk[Delivery] = Walk(
        f"deliveries {merchant_id}",
        (moment, Delivery.id),
        lambda delivery: [delivery.created_at, delivery.id],
        lambda _: [now(), ""],
    )
    found = keyset.page(wanted, walk, cursor, limit)
    webhooks = webhooks_of(found.rows)
    rows = [(row, webhooks.get(row.webhook_id)) for row in found.rows]
    return replace(cast(LogPage[Any], found), rows=rows)


_is_resent = sa.and_(Delivery.state == PENDING_LITERAL, Delivery.finished_at.is_not(None))
"""The same as Delivery.is_resent, in SQL."""


def _in_state(merchant_id: int, state: str) -> sa.ColumnElement[bool]:
    if state not in (PENDING, HELD):
        is_state = Delivery.state == state
        return sa.or_(is_state, _is_resent) if state == SUCCEEDED else is_state
    holding = Delivery.webhook_id.in_(
        sa.select(Webhook.id).where(
            Webhook.merchant_id == merchant_id,
            sa.or_(~Webhook.enabled, Webhook.held_at.is_not(None)),
        )
    )
    return sa.and_(
        Delivery.state == PENDING_LITERAL,
        Delivery.finished_at.is_(None),
        holding if state == HELD else sa.not_(holding),
    )


def delivery_states(rows: Sequence[Event]) -> dict[tuple[int, str], Counter[str]]:
    """For each event, how many of its deliveries are in each state that people see; by merchant and
    event ID."""
    owed: dict[int, list[str]] = {}
    for event in rows:
        if event.deliveries:
            owed.setdefault(event.merchant_id, []).append(event.id)
    if not owed:
        return {}
    # SQLite uses no index for a list of pairs: it would read every delivery there is.
    these = sa.or_(
        *(
            sa.and_(Delivery.merchant_id == merchant_id, Delivery.event_id.in_(ids))
            for merchant_id, ids in owed.items()
        )
    )
    holds = sa.or_(~Webhook.enabled, Webhook.held_at.is_not(None))
    found = db.session.execute(
        sa.select(
            Delivery.merchant_id,
            Delivery.event_id,
            sa.case(
                (_is_resent, SUCCEEDED),
                (sa.and_(Delivery.state == PENDING, holds), HELD),
                else_=Delivery.state,
            ).label("state"),
        )
        .outerjoin(Webhook, Webhook.id == Delivery.webhook_id)
        .where(these)
    )
    states: dict[tuple[int, str], Counter[str]] = {}
    for merchant_id, event_id, state in found:
        states.setdefault((merchant_id, event_id), Counter())[state] += 1
    return states


# ── What rows belong to ───────────────────────────────────────────────────────────────────


def webhooks_of(rows: Sequence[Attempt | Delivery]) -> dict[str, Webhook]:
    """The webhooks of some attempts or deliveries by ID, deleted ones too."""
    ids = {row.webhook_id for row in rows}
    owners = {row.merchant_id for row in rows}
    if not ids:
        return {}
    query = sa.select(Webhook).where(Webhook.id.in_(ids), Webhook.merchant_id.in_(owners))
    return {webhook.id: webhook for webhook in db.session.scalars(query)}


def merchants_of(rows: Sequence[Attempt | Event]) -> dict[int, Merchant]:
    """The merchants of some rows by ID."""
    ids = {row.merchant_id for row in rows}
    if not ids:
        return {}
    query = sa.select(Merchant).where(Merchant.id.in_(ids))
    return {merchant.id: merchant for merchant in db.session.scalars(query)}
