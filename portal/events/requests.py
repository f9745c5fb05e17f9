"""Events that came together, all of which are stored or none; and which of them had come before.

Nobody else writes during the transaction that stores them, so whatever takes long is done before
it, and in it only fingerprints are compared. If they do not settle it, the request leaves the
transaction, its own thread compares the content, and it comes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from portal.db.session import db
from portal.errors import Conflict, FieldError
from portal.events import repeats
from portal.events.repeats import Content, Known
from portal.events.rules import NewEvent
from portal.fairness import places
from portal.fairness.courtesy import breathe
from portal.ids import new_id
from portal.json_values import Done, nothing

LARGE_EVENTS = LARGE_DELIVERIES = 100
"""A request with more waits in the line of the large ones."""
LONG_CHARACTERS = 65_536
"""Comparing more than this takes a place; and after each such amount others go first."""
PATIENCE_SECONDS = 5.0
"""How long a comparison waits for a place."""


class Unsettled(Exception):
    """Some events of a request had come before, with another text; `known` has all that had come
    before, by ID."""

    def __init__(self, known: dict[str, Known]):
        super().__init__()
        self.known = known


@dataclass(eq=False)
class Request:
    """Checked events of a merchant, their IDs and their fingerprints."""

    merchant_id: int
    events: list[NewEvent]
    ids: list[str]
    fingerprints: list[str]
    batch: bool
    first: int = 0
    """The index of its first event in what was sent."""

    is_part: bool = False
    settled: dict[str, str | None] = field(default_factory=dict)
    """The fingerprints, by ID, of events that had come before and were found to have the same
    content; its parts share them."""

    owes: int = 0
    """How many deliveries it owes, as far as is known."""

    _compared: int = 0
    """Characters compared since it last let others go first."""

    @property
    def is_large(self) -> bool:
        """Whether it writes much, or has been compared: then it shares a transaction with no
        other."""
        return (
            self.is_part
            or bool(self.settled)
            or len(self.events) > LARGE_EVENTS
            or self.owes > LARGE_DELIVERIES
        )

    @property
    def weight(self) -> int:
        """How much of a transaction it takes: its deliveries, or its events if those are more."""
        return max(len(self.events), self.owes)

    @property
    def characters(self) -> int:
        """The length of its records."""
        return sum(event.characters for event in self.events)

    @property
    def given_ids(self) -> list[str]:
        """The IDs that the sender gave."""
        return [event.id for event in self.events if event.id]

    def split(self, parts: int) -> list[Request]:
        """It in about this many parts, in order."""
        size = math.ceil(len(self.events) / min(parts, len(self.events)))
        return [
            Request(
                self.merchant_id,
                self.events[start : start + size],
                self.ids[start : start + size],
                self.fingerprints[start : start + size],
                self.batch,
                self.first + start,
                is_part=True,
                settled=self.settled,
            )
            for start in range(0, len(self.events), size)
        ]

    def fresh(self, known: Mapping[tuple[int, str], Known]) -> dict[str, int]:
        """The indices, by ID, of its events that are not among the `known` ones, which are given by
        merchant and ID. Raises Unsettled."""
        fresh: dict[str, int] = {}
        before: dict[str, Known] = {}
        is_settled = True
        for index, event_id in enumerate(self.ids):
            if event_id in fresh or event_id in before:
                # The same as the first (compare_doubles).
                continue
            one = known.get((self.merchant_id, event_id)) if self.events[index].id else None
            if one is None:
                fresh[event_id] = index
                continue
            before[event_id] = one
            is_settled = is_settled and self._is_settled(one, index)
        if not is_settled:
            raise Unsettled(before)
        return fresh

    def _is_settled(self, known: Known, index: int) -> bool:
        if known.fingerprint == self.fingerprints[index]:
            return True
        return known.id in self.settled and self.settled[known.id] == known.fingerprint

    def compare(self, found: Iterable[Known]) -> None:
        """Compare its events with those that had come before. Raises Conflict, and TooManyRequests
        while others of its merchant are being compared."""
        known = {one.id: one for one in found}
        # Comparing, and waiting to, hold neither a snapshot nor a connection.
        db.session.rollback()
        for index, event_id in enumerate(self.ids):
            one = known.pop(event_id, None)
            if one is None or self._is_settled(one, index):
                continue
            stored = repeats.load(one)
            if stored is None:
                # Deleted meanwhile, so that the ID is free.
                continue
            if not self._has(index, stored):
                raise self._reused(index)
            self.settled[event_id] = one.fingerprint

    def compare_doubles(self) -> None:
        """Compare those of its events that have one ID. Raises Conflict and TooManyRequests."""
        if len(set(self.ids)) == len(self.ids):
            return
        indices_of: dict[str, list[int]] = {}
        for index, event_id in enumerate(self.ids):
            indices_of.setdefault(event_id, []).append(index)
        for first, *others in indices_of.values():
            # Parsed once, however many it is compared with.
            content = Content(self.events[first])
            for index in others:
                if self.fingerprints[index] == self.fingerprints[first]:
                    continue
                if not self._has(index, content):
                    raise self._reused(index)

    def _has(self, index: int, content: Content) -> bool:
        """Whether an event has this content. It may take a tenth of a second."""
        event = self.events[index]
        characters = event.characters + content.event.characters
        if characters <= LONG_CHARACTERS:
            is_same = content.is_of(event)
        else:
            with places.held(places.REPEAT, self.merchant_id, PATIENCE_SECONDS):
                is_same = content.is_of(event)
        self._compared += characters
        if self._compared > LONG_CHARACTERS:
            self._compared = 0
            # Counted at once: after much comparing it lets others go first.
            breathe()
        return is_same

    def _reused(self, index: int) -> Conflict:
        message = f"The id {self.ids[index]!r} was used before with other content; send a new id."
        where = f"/events/{self.first + index}/id" if self.batch else "/id"
        return Conflict(message, [FieldError(where, message)])


def request_of(
    merchant_id: int, events: list[NewEvent], *, batch: bool, done: Done = nothing
) -> Request:
    """A request of checked events; `done` is told the length of each one's records. Raises Conflict
    where two of them have one ID and different content, TooManyRequests while others of their
    merchant are being compared."""
    ids = [event.id or new_id("evt") for event in events]
    fingerprints = []
    for event_id, event in zip(ids, events, strict=True):
        fingerprints.append(event.fingerprint(event_id))
        done(event.characters)
    request = Request(merchant_id, events, ids, fingerprints, batch)
    request.compare_doubles()
    return request
