"""1 EVENT IN: check events, store them with the deliveries they owe, then wake the lanes.

An event is answered once it is committed, in one transaction with its record data and a delivery
for each webhook that wants it. A whole request is one transaction too, except for the few that
would keep everybody else from writing for long: those are stored in parts (ingest_events).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError

from portal import queues, runtime
from portal.clock import SECOND, now
from portal.db import bulk, room
from portal.db.session import BUSY, are_several_there, db, others_are_there, table, writing
from portal.errors import Conflict, Unavailable
from portal.events import matching, moments, repeats, rules
from portal.events.group_commit import GroupCommit
from portal.events.repeats import Known
from portal.events.requests import Request, Unsettled, request_of
from portal.events.rows import DELIVERY, EVENT, EVENT_PAYLOAD, delivery_row, event_row, payload_row
from portal.events.rules import NewEvent
from portal.events.weights import Weights
from portal.fairness import places
from portal.fairness.courtesy import Pace, breathe
from portal.models import Delivery, Event, EventPayload, Merchant, Webhook
from portal.storage import allowance

MAX_BATCH = rules.MAX_BATCH
_RACES = 5
PART_DELIVERIES, PART_CHARACTERS = 1_000, 1_048_576
"""The most that one transaction stores of a request: some 20 ms, in which SQLite has no other
writer."""
BESIDE_OTHERS = 4
"""Into how many pieces such a part is divided while others may want to write."""


@dataclass(slots=True)
class Accepted:
    """The answer for one event: its ID and how many deliveries it owes; `added` are those that are
    new, none if the event had come before. Not frozen: that takes three times as long to make."""

    id: str
    deliveries: int
    added: int = field(default=0, compare=False)


class Ingest:
    """What one process has of it: the turns of the requests that share transactions, and what
    earlier events owed."""

    def __init__(self) -> None:
        self.turns = GroupCommit[Request, _Stored](
            store, _wake, lambda request: request.weight, _most_together
        )
        self.weights = Weights()


class _Heavier(Exception):
    """A request owes more than was expected: too much to share its group's transaction."""


class _TooMuch(Exception):
    """A request is too much for one transaction and needs this many `parts`."""

    def __init__(self, parts: int):
        super().__init__(parts)
        self.parts = parts


@dataclass(eq=False)
class _Stored:
    """What has been committed of a request, and the lanes to wake."""

    answers: list[Accepted]
    lanes: set[int]


def ingest_events(merchant_id: int, events: Sequence[Any], *, batch: bool) -> list[Accepted]:
    """Store a merchant's events and the deliveries they owe: all or none, as long as they owe at
    most PART_DELIVERIES and their records have at most PART_CHARACTERS. More are stored in parts,
    with writes of others between them; if that ends early, the first parts stay stored.

    `events` are parsed JSON values in the shape of docs/api.md; `batch` says whether they came
    in a list, for the pointers of errors. An `id` that is sent again with the same content gets the
    first answer again, and nothing is stored.
    Raises Invalid for wrong fields, Conflict for an `id` that has other content, Unavailable when
    the database cannot write, TooManyRequests while too many requests are stored in parts,
    StorageFull when the merchant has used up its storage.
    """
    # Once, before the first part: a request is accepted or refused as a whole.
    allowance.check(merchant_id)
    done = Pace(db.session.rollback).done
    clean = rules.clean_events(merchant_id, events, batch=batch, done=done)
    # A thread that waits for its group, or compares, gives its connection back: the group needs
    # one.
    db.session.rollback()
    request = request_of(merchant_id, clean, batch=batch, done=Pace().done)
    try:
        return _stored(request)
    except _TooMuch as much:
        return _stored_in_parts(request, much.parts)


def likely_deliveries(merchant_id: int, events: Sequence[Any]) -> int:
    """How many deliveries a merchant's events will probably owe, judged by earlier ones; `events`
    are parsed JSON values."""
    types = [one.get("type") for one in events if isinstance(one, dict)]
    return runtime.part(Ingest).weights.of(
        merchant_id, [one for one in types if isinstance(one, str)]
    )


def _stored_in_parts(request: Request, parts: int) -> list[Accepted]:
    with places.held(places.BATCH, request.merchant_id):
        # Before the first part is stored.
        request.compare(repeats.find(request.merchant_id, request.given_ids))
        answers, waiting = list[Accepted](), request.split(parts)[::-1]
        small = math.ceil(len(waiting[0].events) / BESIDE_OTHERS)
        while waiting:
            part = waiting.pop()
            if len(part.events) > small and are_several_there():
                waiting += part.split(BESIDE_OTHERS)[::-1]
                continue
            try:
                answers += _stored(part)
            except _TooMuch as much:
                waiting += part.split(much.parts)[::-1]
            except Unavailable as error:
                raise _ended_early(error, len(answers), request) from error
            except Conflict as error:
                error.detail += f" The {len(answers):,} events before are stored."
                raise
            breathe()
    return answers


def _ended_early(error: Unavailable, stored: int, request: Request) -> Unavailable:
    if not stored:
        return error
    return Unavailable(
        f"The first {stored:,} of the {len(request.events):,} events are stored; the database "
        "takes no more now. Send the batch again in a few seconds: an event with an id, or one "
        "that came with the same Idempotency-Key, is not stored twice.",
        error.trouble,
    )


def _stored(request: Request) -> list[Accepted]:
    """The answers to a request that is stored in one transaction. Raises _TooMuch."""
    room.check(current_app.config["PORTAL"])
    if len(request.events) > 1 and (characters := request.characters) > PART_CHARACTERS:
        raise _TooMuch(math.ceil(characters / PART_CHARACTERS))
    races = 0
    while True:
        types = [event.type for event in request.events]
        request.owes = max(
            request.owes, runtime.part(Ingest).weights.of(request.merchant_id, types)
        )
        try:
            return _commit_soon(request).answers
        except _Heavier:
            # It tries again with its real weight: in a group that has room for it, or alone.
            continue
        except Unsettled as unsettled:
            request.compare(unsettled.known.values())
            if unsettled.known.keys() >= set(request.ids):
                # Nothing of it is new.
                return [
                    Accepted(event_id, unsettled.known[event_id].deliveries)
                    for event_id in request.ids
                ]
            races += 1
            if races == _RACES:
                raise Unavailable(BUSY) from None
        except IntegrityError:
            # Another process stored one of these IDs at the same moment, and now it can be seen. Or
            # an event was deleted for its age, and the record with its ID is still there.
            races += 1
            if races == _RACES:
                raise
            repeats.forget_records(request.merchant_id, request.given_ids)


def _commit_soon(request: Request) -> _Stored:
    if not request.is_large:
        return runtime.part(Ingest).turns.submit(request)
    # Alone: whoever shared a transaction with it would have to wait in line with it.
    (outcome,) = store([request])
    if isinstance(outcome, Exception):
        raise outcome
    _wake([outcome])
    return outcome


def _most_together() -> int:
    """How many deliveries one transaction of several requests may store."""
    return PART_DELIVERIES // BESIDE_OTHERS if others_are_there() else PART_DELIVERIES


def _wake(stored: list[_Stored]) -> None:
    # In the thread that stored them: another might have to wait for the interpreter first, while
    # the senders of the group get their answers.
    queues.wake(set().union(*(request.lanes for request in stored)))


def store(requests: list[Request]) -> list[_Stored | Exception]:
    """Store requests together; if one of them makes that fail, each alone."""
    try:
        return _commit(requests)
    except Unavailable as error:
        # Returned and not raised: the others may get stored, each alone, and must be told so.
        return [error] * len(requests)
    except Exception as error:  # noqa: BLE001 - whose it is gets it
        if len(requests) == 1:
            return [error]
        return [outcome for request in requests for outcome in store([request])]


def _commit(requests: list[Request]) -> list[_Stored | Exception]:
    outcomes: list[_Stored | Exception] = []
    with writing(is_large=any(request.is_large for request in requests)) as session:
        rows = _Rows(session.connection())
        for request in requests:
            try:
                outcomes.append(_Stored(rows.add(request), set()))
            except (Unsettled, _TooMuch, _Heavier) as refused:
                outcomes.append(refused)
        rows.insert()
    for outcome in outcomes:
        if isinstance(outcome, _Stored):
            # The lanes of all are woken with one of the results.
            outcome.lanes = rows.lanes
            break
    return outcomes


class _Rows:
    """The rows that one transaction stores."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.lanes: set[int] = set()
        self._events: list[tuple[Any, ...]] = []
        self._payloads: list[tuple[Any, ...]] = []
        self._deliveries: list[tuple[Any, ...]] = []
        self._moment = now()
        self._most = _most_together()
        self._first_delay = current_app.config["PORTAL"].retry_schedule[0]
        self._webhooks: dict[int, Sequence[Any]] = {}
        self._matched: dict[tuple[int, str, str | None, str | None], list[Any]] = {}
        """The webhooks that want an event, by merchant, type and source."""
        self._next: dict[int, int] = {}
        """When each merchant's next event comes in, as the log counts it."""
        self._known: dict[tuple[int, str], Known] = {}
        """What is stored, by merchant and ID."""

    def add(self, request: Request) -> list[Accepted]:
        """Add the rows of a request's events and deliveries; returns its answers. Adds nothing
        where it raises Unsettled or _TooMuch."""
        merchant_id = request.merchant_id
        for known in repeats.find(merchant_id, request.given_ids):
            self._known[merchant_id, known.id] = known
        added = self._add_rows(request, request.fresh(self._known))
        if len(added) == len(request.ids):
            # Nothing has come before, and nothing comes twice.
            return [Accepted(event_id, owed, owed) for event_id, owed in added.items()]
        counts = dict(added)
        return [
            Accepted(
                event_id,
                counts[event_id]
                if event_id in counts
                else self._known[merchant_id, event_id].deliveries,
                added.pop(event_id, 0),
            )
            for event_id in request.ids
        ]

    def insert(self) -> None:
        """Write the rows that were added."""
        for model, columns, rows in (
            (Event, EVENT, self._events),
            (EventPayload, EVENT_PAYLOAD, self._payloads),
            (Delivery, DELIVERY, self._deliveries),
        ):
            bulk.insert(self._connection, table(model), columns, rows)

    def _add_rows(self, request: Request, fresh: dict[str, int]) -> dict[str, int]:
        """Make the rows of a request's new events, given as their indices by ID; how many
        deliveries each owes."""
        merchant_id = request.merchant_id
        if fresh and merchant_id not in self._webhooks:
            self._look_up(merchant_id)
        wanting = [self._wanting(merchant_id, request.events[index]) for index in fresh.values()]
        owed_in_all = sum(map(len, wanting))
        if len(fresh) > 1 and owed_in_all > PART_DELIVERIES:
            raise _TooMuch(math.ceil(owed_in_all / PART_DELIVERIES))
        if not request.is_large:
            request.owes = owed_in_all
            is_too_much = len(self._deliveries) + owed_in_all > self._most
            if request.is_large or (self._events and is_too_much):
                raise _Heavier
        counts = {}
        for (event_id, index), owed in zip(fresh.items(), wanting, strict=True):
            event, fingerprint = request.events[index], request.fingerprints[index]
            received_at = self._next[merchant_id]
            self._next[merchant_id] = received_at + 1
            # By the clock alone, whatever the merchant's log counts: this is when to send.
            due_from = self._moment + len(self._events)
            counts[event_id] = len(owed)
            if event.id:
                self._known[merchant_id, event_id] = Known(
                    merchant_id, event_id, fingerprint, len(owed)
                )
            self._events.append(
                event_row(
                    merchant_id, event_id, event, received_at, len(owed), fingerprint=fingerprint
                )
            )
            self._payloads.append(payload_row(merchant_id, event_id, event, received_at))
            for webhook in owed:
                self.lanes.add(webhook.lane)
                delay = (webhook.retry_schedule or (self._first_delay,))[0]
                self._deliveries.append(
                    delivery_row(
                        merchant_id,
                        event_id,
                        webhook.id,
                        received_at,
                        due_from + delay * SECOND,
                        object_key=event.object_key if webhook.ordered else None,
                    )
                )
        return counts

    def _wanting(self, merchant_id: int, event: NewEvent) -> list[Any]:
        # The events of a batch often have one type and source, and matching is expensive.
        key = (merchant_id, event.type, event.source_user_type, event.source_user_id)
        wanting = self._matched.get(key)
        if wanting is None:
            wanting = self._matched[key] = [
                webhook
                for webhook in self._webhooks[merchant_id]
                if matching.why_not(webhook, *key[1:]) is matching.SENT
            ]
            runtime.part(Ingest).weights.note(merchant_id, event.type, len(wanting))
        return wanting

    def _look_up(self, merchant_id: int) -> None:
        found = self._connection.execute(
            _SENDING, {"merchant_id": merchant_id, "latest": self._moment + moments.LEAD}
        ).all()
        last = found[0].last if found else None
        self._next[merchant_id] = moments.after(last, self._moment)
        self._webhooks[merchant_id] = [row for row in found if row.id is not None]


_SENDING = (
    sa.select(
        moments.last.label("last"),
        Webhook.id,
        Webhook.lane,
        Webhook.enabled,
        Webhook.events,
        Webhook.only_sources,
        Webhook.except_sources,
        Webhook.retry_schedule,
        Webhook.ordered,
    )
    .select_from(Merchant)
    .outerjoin(
        Webhook,
        sa.and_(
            Webhook.merchant_id == Merchant.id,
            Merchant.active,
            Webhook.enabled,
            Webhook.deleted_at.is_(None),
        ),
    )
    .where(Merchant.id == sa.bindparam("merchant_id"))
)
"""When the merchant's last event came in and, in the same query, the webhooks that could get an
event now: none while the feature is inactive."""
