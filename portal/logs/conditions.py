"""The filters of a log as conditions of SQL, written so that the database uses an index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from flask import current_app

from portal.clock import DAY, MINUTE, now
from portal.config import Config
from portal.db.keyset import LogQuery, Sieve
from portal.ids import request_id_at
from portal.logs import filters
from portal.logs.spellings import finder
from portal.models import Attempt, Event, EventPayload, Merchant
from portal.recovery.selection import status_is

TEXT_COST = 5
"""Searching one record for a text takes as long as looking at this many rows of the log."""

_EQUAL: dict[str, Any] = {
    "object_type": Event.object_type,
    "source_user_type": Event.source_user_type,
    "source_user_id": Event.source_user_id,
}
"""Columns without an index: one would slow every ingest down."""
_SELECTIVE: dict[str, Any] = {
    "object_id": Event.object_id,
    "correlation_id": Event.correlation_id,
    "event_id": Event.id,
}


def events(scope: int | None, given: Mapping[str, Any], zone: str = "UTC") -> LogQuery[Event]:
    """The events that match filters (portal.logs.filters.EVENTS). Raises Invalid."""
    values = filters.clean(filters.EVENTS, given, zone)
    query = sa.select(Event)
    selective = _SELECTIVE.keys() & values.keys()
    if scope is not None:
        query = query.where(Event.merchant_id == scope)
    elif selective:
        query = query.where(_of_any_merchant(Event.merchant_id))
    for name in selective:
        query = query.where(_SELECTIVE[name] == values[name])
    if "correlation_id" in values:
        # The index is partial, and the planner uses it only for a query that says so.
        query = query.where(Event.correlation_id.is_not(None))
    query = between(query, Event.received_at, values)

    if "object_id" in values and "object_type" in values:
        query = query.where(Event.object_type == values.pop("object_type"))
    rest = [column == values[name] for name, column in _EQUAL.items() if name in values]
    kind = values.get("type", "*")
    if kind.endswith(".*"):
        rest.append(Event.type.startswith(kind[:-1], autoescape=True))
    elif kind != "*" and scope is not None and not selective:
        query = query.where(Event.type == kind)
    elif kind != "*":
        rest.append(Event.type == kind)
    if "schema" in values:
        flagged = Event.schema_error.is_not(None)
        rest.append(flagged if values["schema"] == "flagged" else ~flagged)
    if "test" in values:
        rest.append(Event.is_test if values["test"] == "yes" else ~Event.is_test)
    if "text" in values:
        config: Config = current_app.config["PORTAL"]
        # Record data is kept no longer than this, so nothing older needs to be searched.
        query = query.where(Event.received_at >= now() - config.payload_days * DAY)
        sieve = _record_holds(values["text"])
        return LogQuery(query.where(*rest), base=query, cost=TEXT_COST, sieve=sieve)
    return LogQuery(query.where(*rest), base=query if rest else None)


def attempts(scope: int | None, given: Mapping[str, Any], zone: str = "UTC") -> LogQuery[Attempt]:
    """The attempts that match filters (portal.logs.filters.ATTEMPTS). Raises Invalid."""
    values = filters.clean(filters.ATTEMPTS, given, zone)
    query = sa.select(Attempt)
    merchant = Attempt.merchant_id
    if scope is None and "event_id" in values:
        query = query.where(_of_any_merchant(merchant))
    elif scope is not None and "webhook_id" in values and "event_id" not in values:
        # An expression, so that the planner does not choose the index of the merchant's whole log.
        query = query.where(merchant + 0 == scope)
    elif scope is not None:
        query = query.where(merchant == scope)
    for name in ("webhook_id", "event_id"):
        if name in values:
            query = query.where(getattr(Attempt, name) == values[name])
    if "request_id" in values:
        query = query.where(Attempt.id == values["request_id"])
    if "since" in values:
        query = query.where(Attempt.id >= request_id_at(values["since"] - MINUTE))
    if "before" in values:
        query = query.where(Attempt.id < request_id_at(values["before"] + MINUTE))
    query = between(query, Attempt.attempted_at, values)

    rest = [
        getattr(Attempt, name) == values[name]
        for name in ("method", "error", "trigger")
        if name in values
    ]
    rest += status_is(Attempt.__table__.c.status, values.get("status", ""))
    failed = values.get("outcome") == "failed"
    if values.get("outcome") == "ok":
        rest.append(Attempt.ok)
    elif failed or "error" in values or values.get("status", "2")[0] in "345n":
        # All of these are failures, so the merchant's index of failures finds them.
        if scope is not None and "webhook_id" not in values:
            query = query.where(~Attempt.ok)
        else:
            rest.append(~Attempt.ok)
    return LogQuery(query.where(*rest), base=query if rest else None)


def between(query: sa.Select[Any], moment: Any, values: Mapping[str, Any]) -> sa.Select[Any]:
    """The query, limited to moments from `since` on and before `before` where they are given."""
    if "since" in values:
        query = query.where(moment >= values["since"])
    if "before" in values:
        query = query.where(moment < values["before"])
    return query


def _record_holds(text: str) -> Sieve:
    """Tells whether an event's record data holds a text, in any case, plain or escaped as in
    JSON."""
    # A text that is searched for has no line break, so that none is found across the two.
    texts = (
        sa.func.coalesce(EventPayload.data, "") + "\n" + sa.func.coalesce(EventPayload.previous, "")
    )
    column = (
        sa.select(texts)
        .where(EventPayload.merchant_id == Event.merchant_id, EventPayload.event_id == Event.id)
        # A join could be made over all the payloads there are.
        .correlate(Event)
        .scalar_subquery()
    )
    return Sieve(column, finder(text))


def _of_any_merchant(column: Any) -> sa.ColumnElement[bool]:
    # Every index starts with the merchant, so the index is searched once for each of them.
    found: sa.ColumnElement[bool] = column.in_(sa.select(Merchant.id))
    return found
