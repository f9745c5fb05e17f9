"""1 EVENT IN: check events, store them with the deliveries they owe, then wake the lanes.

What is answered was committed in one transaction: the event, its record data and one delivery
for each webhook that wants it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import scoped_session

from portal import bulk, queues
from portal.clock import DAY, SECOND, now
from portal.errors import Conflict, FieldError
from portal.events import matching, repeats, rules
from portal.events.group_commit import GroupCommit
from portal.events.repeats import Known
from portal.events.rules import NewEvent
from portal.extensions import db, table, writing
from portal.ids import new_id
from portal.models import Delivery, Event, EventPayload, Merchant, Webhook

MAX_BATCH = rules.MAX_BATCH
_RACES = 5
LEAD = DAY
"""How far ahead of the clock a merchant's last event may be, and the next one still comes after it.
Beyond that the clock was wrong then, and the log does not follow it."""


@dataclass(frozen=True)
class Accepted:
    """The answer for one event: its ID and how many deliveries it owes."""

    id: str
    deliveries: int


@dataclass(frozen=True, eq=False)
class _Request:
    """Checked events of a merchant that are stored all or none."""

    merchant_id: int
    events: list[NewEvent]
    batch: bool


@dataclass(eq=False)
class _Stored:
    """What is committed of a request, and the lanes to wake."""

    answers: list[Accepted]
    lanes: set[int]


def ingest_events(merchant_id: int, events: Sequence[Any], *, batch: bool) -> list[Accepted]:
    """Store a merchant's events and the deliveries they owe, all or none.

    `events` are parsed JSON values in the shape of PRODUCT.md; `batch` says whether they came
    in a list, for the pointers of errors. Sending an `id` again with the same content gives the
    first answer again and stores nothing.
    Raises Invalid for wrong fields, Conflict for an `id` in use with other content, Unavailable
    when the database cannot take the write.
    """
    request = _Request(merchant_id, rules.clean_events(merchant_id, events, batch=batch), batch)
    # Whoever waits for the group that stores this needs no connection: that group needs one.
    db.session.rollback()
    for attempt in range(_RACES):
        try:
            stored = _group_commit().take(request)
            break
        except IntegrityError:
            # Another process stored one of these IDs at the same moment; now it can be seen. Or
            # an ID's event was deleted for its age, and its record is still there.
            if attempt == _RACES - 1:
                raise
            repeats.forget_records(merchant_id, [event.id for event in request.events if event.id])
    return stored.answers


def _group_commit() -> GroupCommit[_Request, _Stored]:
    made: GroupCommit[_Request, _Stored] = current_app.extensions.setdefault(
        "portal_ingest", GroupCommit(_store, _wake, lambda request: len(request.events), MAX_BATCH)
    )
    return made


def _wake(stored: list[_Stored]) -> None:
    # By the thread that has stored them: any other may have to wait for the interpreter first,
    # while the senders of its group have their answers.
    queues.wake(set().union(*(request.lanes for request in stored)))


def _store(requests: list[_Request]) -> list[_Stored | Exception]:
    """Store requests together, or each alone where the database refuses that."""
    try:
        return _commit(requests)
    except SQLAlchemyError as error:
        if len(requests) == 1:
            return [error]
        return [outcome for request in requests for outcome in _store([request])]


def _commit(requests: list[_Request]) -> list[_Stored | Exception]:
    outcomes: list[_Stored | Exception] = []
    with writing() as session:
        rows = _Rows()
        for request in requests:
            try:
                outcomes.append(_Stored(rows.add(request), set()))
            except Conflict as conflict:
                outcomes.append(conflict)
        rows.insert(session)
    for outcome in outcomes:
        if isinstance(outcome, _Stored):
            # One of them wakes the lanes of all.
            outcome.lanes = rows.lanes
            break
    return outcomes


class _Rows:
    """What one transaction stores."""

    def __init__(self) -> None:
        self.lanes: set[int] = set()
        self._events: list[dict[str, Any]] = []
        self._payloads: list[dict[str, Any]] = []
        self._deliveries: list[dict[str, Any]] = []
        self._moment = now()
        self._first_delay = current_app.config["PORTAL"].retry_schedule[0]
        self._webhooks: dict[int, Sequence[Any]] = {}
        self._matched: dict[tuple[int, str, str | None, str | None], list[Any]] = {}
        """The webhooks that want an event, by merchant, type and source."""
        self._next: dict[int, int] = {}
        """When each merchant's next event comes in, as the log counts it."""
        self._known: dict[tuple[int, str], Known] = {}
        """What is stored, by merchant and ID."""

    def add(self, request: _Request) -> list[Accepted]:
        """Take up a request's events and what they owe; its answers. Raises Conflict, and then
        has taken up nothing."""
        merchant_id = request.merchant_id
        ids = [event.id for event in request.events if event.id]
        for known in repeats.find(merchant_id, ids):
            self._known[merchant_id, known.id] = known
        fresh: dict[str, NewEvent] = {}
        answers: list[str] = []
        for place, event in enumerate(request.events):
            event_id = event.id or new_id("evt")
            answers.append(event_id)
            if event_id in fresh:
                is_same = repeats.is_same(fresh[event_id], event)
            elif event.id and (merchant_id, event_id) in self._known:
                is_same = repeats.is_repeat(self._known[merchant_id, event_id], event)
            else:
                fresh[event_id] = event
                continue
            if not is_same:
                raise _reused(event_id, place, request.batch)
        counts = self._take_up(merchant_id, fresh)
        return [
            Accepted(
                event_id,
                counts[event_id] if event_id in counts
                else self._known[merchant_id, event_id].deliveries,
            )
            for event_id in answers
        ]

    def insert(self, session: scoped_session[Any]) -> None:
        """Write what was taken up."""
        for model, made in (
            (Event, self._events), (EventPayload, self._payloads), (Delivery, self._deliveries)
        ):
            if made:
                columns = tuple(made[0])
                bulk.insert(session, table(model), columns, [tuple(row.values()) for row in made])

    def _take_up(self, merchant_id: int, fresh: dict[str, NewEvent]) -> dict[str, int]:
        """Make the rows of fresh events; how many deliveries each owes."""
        if fresh and merchant_id not in self._webhooks:
            self._look_up(merchant_id)
        counts = {}
        for event_id, event in fresh.items():
            received_at = self._next[merchant_id]
            self._next[merchant_id] = received_at + 1
            # By the clock alone, wherever the numbers of its merchant are: this is when to send.
            due_from = self._moment + len(self._events)
            owed = self._wanting(merchant_id, event)
            counts[event_id] = len(owed)
            row = event_row(merchant_id, event_id, event, received_at, len(owed))
            if event.id:
                self._known[merchant_id, event_id] = Known(
                    merchant_id, event_id, row["fingerprint"], len(owed), row["occurred_at"],
                    event,
                )
            self._events.append(row)
            self._payloads.append(payload_row(merchant_id, event_id, event, received_at))
            for webhook in owed:
                self.lanes.add(webhook.lane)
                delay = (webhook.retry_schedule or (self._first_delay,))[0]
                self._deliveries.append(
                    delivery_row(
                        merchant_id, event_id, webhook.id, received_at,
                        due_from + delay * SECOND,
                        object_key=event.object_key if webhook.ordered else None,
                    )
                )
        return counts

    def _wanting(self, merchant_id: int, event: NewEvent) -> list[Any]:
        # The events of a batch are often of one type and source, and matching is dear.
        key = (merchant_id, event.type, event.source_user_type, event.source_user_id)
        wanting = self._matched.get(key)
        if wanting is None:
            wanting = self._matched[key] = [
                webhook
                for webhook in self._webhooks[merchant_id]
                if matching.why_not(webhook, *key[1:]) is matching.SENT
            ]
        return wanting

    def _look_up(self, merchant_id: int) -> None:
        found = db.session.execute(
            _SENDING, {"merchant_id": merchant_id, "latest": self._moment + LEAD}
        ).all()
        last = found[0].last if found else None
        self._next[merchant_id] = _after(last, self._moment)
        self._webhooks[merchant_id] = [row for row in found if row.id is not None]


def next_moment(merchant_id: int, moment: int) -> int:
    """When a merchant's next event comes in, as the log counts it, at a moment of the clock; for an
    event that is stored in the running transaction and not by `ingest_events`. Unix µs."""
    last = db.session.scalar(
        sa.select(_last), {"merchant_id": merchant_id, "latest": moment + LEAD}
    )
    return _after(last, moment)


def _after(last: int | None, moment: int) -> int:
    return max(moment, (last or 0) + 1)


def _reused(event_id: str, place: int, batch: bool) -> Conflict:
    message = f"The id {event_id!r} was used before with other content; send a new id."
    pointer = f"/events/{place}/id" if batch else "/id"
    return Conflict(message, [FieldError(pointer, message)])


_last = (
    sa.select(Event.received_at)
    .where(
        Event.merchant_id == sa.bindparam("merchant_id"),
        Event.received_at < sa.bindparam("latest"),
    )
    .order_by(Event.received_at.desc())
    .limit(1)
    .scalar_subquery()
)
_SENDING = (
    sa.select(
        _last.label("last"), Webhook.id, Webhook.lane, Webhook.enabled, Webhook.events,
        Webhook.only_sources, Webhook.except_sources, Webhook.retry_schedule, Webhook.ordered,
    )
    .select_from(Merchant)
    .outerjoin(
        Webhook,
        sa.and_(
            Webhook.merchant_id == Merchant.id, Merchant.active, Webhook.enabled,
            Webhook.deleted_at.is_(None),
        ),
    )
    .where(Merchant.id == sa.bindparam("merchant_id"))
)
"""When the merchant's last event came in, and with it, in one question to the database, the
webhooks that could get an event now: none when the feature is inactive."""


def event_row(
    merchant_id: int, event_id: str, event: NewEvent, received_at: int, deliveries: int,
    *, is_test: bool = False,
) -> dict[str, Any]:
    """The `event` row of a checked event; `received_at` in Unix µs."""
    return {
        "merchant_id": merchant_id,
        "id": event_id,
        "type": event.type,
        "object_type": event.object_type,
        "object_id": event.object_id,
        "source_user_type": event.source_user_type,
        "source_user_id": event.source_user_id,
        "correlation_id": event.correlation_id,
        "occurred_at": received_at if event.occurred_at is None else event.occurred_at,
        "received_at": received_at,
        "fingerprint": event.fingerprint(event_id),
        "deliveries": deliveries,
        "schema_error": event.schema_error,
        "is_test": is_test,
    }


def payload_row(
    merchant_id: int, event_id: str, event: NewEvent, received_at: int
) -> dict[str, Any]:
    """The `event_payload` row of a checked event: the bytes that targets receive."""
    return {
        "merchant_id": merchant_id,
        "event_id": event_id,
        "head": event.head(event_id, received_at),
        "data": event.data,
        "previous": event.previous,
        "received_at": received_at,
    }


def delivery_row(
    merchant_id: int, event_id: str, webhook_id: str, moment: int, due_at: int,
    *, object_key: str | None = None,
) -> dict[str, Any]:
    """The `delivery` row of one event owed to one webhook, first due at `due_at`, and with an
    `object_key` after what is owed before it for the same record; `moment` is when the event came
    in. Both in Unix µs."""
    return {
        "id": new_id("dlv"),
        "merchant_id": merchant_id,
        "event_id": event_id,
        "webhook_id": webhook_id,
        "state": "pending",
        "attempts": 0,
        "step": 0,
        "is_retry": False,
        "trigger": "scheduled",
        "next_attempt_at": due_at,
        "created_at": moment,
        "object_key": object_key,
    }

