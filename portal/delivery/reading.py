"""How far the pending deliveries of a webhook that is not held were read, and what to read next.

What is due comes first, first attempts before retries. While the webhook catches up after a hold,
retries follow whose time has not come, since what they wait for is over. Of the types that are
aside a single delivery is read, behind all others. For a running read transaction.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Sequence

from portal.delivery import due, probing
from portal.delivery.due import START, Cursor, DueDelivery
from portal.delivery.silence import Silence

MOST_AT_ONCE = 1_000
"""How many deliveries one read may ask for."""
BOTH = (False, True)
"""Values of `is_retry`: first attempts before retries."""


class Reading:
    """The reading of one webhook. `known` are the IDs that are not to be read again."""

    def __init__(self, known: Collection[str], silence: Silence) -> None:
        self._known = known
        self._silence = silence
        self.has_more = True
        """Whether there may be more to read."""
        self._webhook_id = ""
        self._ordered = False
        self._want = self._room = 0
        """How many deliveries the current read may still take, and how many characters of
        payload."""
        self._at_once = MOST_AT_ONCE
        """How many the next read may ask for: few after a large one, since SQLite has to read a
        text to know its length."""
        self._kinds: Sequence[bool] = BOTH
        self._cursors: dict[bool, Cursor] = {}
        """How far first attempts and retries were read."""
        self._reached: dict[bool, Cursor] = {}
        """How far they were searched for what fits, before it had to start over."""
        self._caught_up_to: Cursor | None = START
        """How far waiting retries were read, while catching up; None at the end."""
        self._aside: frozenset[str] = frozenset()
        """The types that were aside when it read."""
        self._asked_again: set[str] = set()
        """The types aside of which a waiting retry was sent before its time, while catching up."""

    @property
    def is_caught_up(self) -> bool:
        """Whether all waiting retries were read, while catching up."""
        return self._caught_up_to is None

    @property
    def has_aside(self) -> bool:
        """Whether it leaves some types aside."""
        return bool(self._aside)

    def catch_up(self) -> None:
        """Read waiting retries from the start: a hold has ended, or begun."""
        self._caught_up_to = START
        self._asked_again.clear()

    def go_back(self) -> None:
        """Read everything from the start again, since what was read was dropped."""
        self._cursors.clear()
        self._caught_up_to = START

    def start_over(self, kinds: Sequence[bool] = BOTH) -> None:
        """Read what is due from the start again, since rows that are committed late stand before
        what was read. `kinds` says whether there are first attempts (False) and retries (True)."""
        self._kinds = kinds
        self._cursors.clear()

    def takes_over_silence(self) -> bool:
        """Whether other types are aside now than when it read. If so it starts over without
        those."""
        aside = self._silence.aside(time.monotonic())
        if aside == self._aside:
            return False
        self._aside = aside
        self._reached.clear()
        self.start_over()
        return True

    def read(
        self, webhook_id: str, want: int, moment: int, *, ordered: bool, catch_up_from: int | None
    ) -> list[DueDelivery]:
        """Up to `want` deliveries that are due at `moment`, and one of the types that are aside.
        `catch_up_from` says when a hold has ended after which the webhook catches up (all Unix
        µs)."""
        self._webhook_id, self._ordered = webhook_id, ordered
        self.has_more = False
        self._want, self._room = min(want, self._at_once), due.AT_ONCE
        found = self._due(moment)
        if len(found) < self._want and catch_up_from is not None:
            found += self._waiting(self._want - len(found), moment, catch_up_from)
        self._at_once = min(MOST_AT_ONCE, 2 * (self._at_once if self._room > 0 else len(found)))
        return found + self._of_those_aside(moment, is_catching_up=catch_up_from is not None)

    def _due(self, moment: int) -> list[DueDelivery]:
        found: list[DueDelivery] = []
        for is_retry in self._kinds:
            cursor = self._cursors.get(is_retry, START)
            reached = self._read(found, moment, is_retry, cursor)
            further = self._reached.get(is_retry, START)
            if cursor == START and reached is not None and further >= reached:
                # What was searched before it had to start over need not be searched again; so it
                # gets further, however often it starts over.
                reached = self._read(found, moment, is_retry, further)
            if len(found) == self._want:
                self.has_more = True
                break
            if reached is None:
                self._reached.pop(is_retry, None)
                continue
            self._cursors[is_retry] = self._reached[is_retry] = reached
            self.has_more = True
            break
        return found

    def _read(
        self, found: list[DueDelivery], moment: int, is_retry: bool, cursor: Cursor
    ) -> Cursor | None:
        """Add what is wanted to what was found. Returns where to read on, None at the end."""
        if len(found) == self._want:
            return cursor
        rows, reached = due.read(
            self._webhook_id,
            is_retry=is_retry,
            moment=moment,
            after=cursor,
            count=self._want - len(found),
            ordered=self._ordered,
            without=self._aside,
            known=self._known,
            room=self._room,
        )
        for one in rows:
            self._cursors[is_retry] = (one.due_at, one.id)
            found.append(one)
            self._room -= one.size
        if self._room <= 0:
            # There is no room for more.
            self._want = len(found)
        return reached

    def _waiting(self, want: int, moment: int, tried_before: int) -> list[DueDelivery]:
        if self._caught_up_to is None:
            return []
        rows, self._caught_up_to = due.waiting(
            self._webhook_id,
            moment=moment,
            tried_before=tried_before,
            after=self._caught_up_to,
            count=want,
            ordered=self._ordered,
            without=self._aside,
            known=self._known,
            room=self._room,
        )
        self.has_more |= self._caught_up_to is not None
        self._room -= sum([one.size for one in rows])
        return rows

    def _of_those_aside(self, moment: int, *, is_catching_up: bool) -> list[DueDelivery]:
        """One delivery of a type that is aside and has none under way, to find out whether it gets
        a response again; the others wait for one at most."""
        free = self._aside - self._silence.under_way
        if not free:
            return []
        found = due.candidates(
            self._webhook_id, moment, ordered=self._ordered, dice=random.random()
        )
        if is_catching_up and free - self._asked_again:
            waiting, _ = due.waiting_candidates(
                self._webhook_id, moment, after=START, ordered=self._ordered, whatever=False
            )
            found += [one for one in waiting if one.type not in self._asked_again]
        fit = [one for one in found if one.type in free and one.id not in self._known]
        if not fit:
            return []
        chosen = probing.by_die(fit)
        if chosen.hurried:
            self._asked_again.add(chosen.type)
        self.has_more = True
        one = due.find(chosen)
        return [] if one is None else [one]
