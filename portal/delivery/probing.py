"""Rounds of probes: which deliveries a held webhook is tried with, one at a time. Pure, except
`find`.

A round goes through deliveries of different types, for the receiver may reject one type and take
all others. Where nobody was listening it begins with a mere look, which costs no delivery an
attempt. The receiver may also reject some deliveries of a type: so a die chooses between the
oldest, the newest and any from between, which needs no memory. And where much was never sent, there
are quick rounds of that alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from portal.clock import SECOND
from portal.delivery import due, health
from portal.delivery.due import START, Candidate, Cursor, DueDelivery
from portal.delivery.health import Health
from portal.models.delivery import MANUAL

MOST = 5
"""How many probes a round has at most."""
ALL_ASKED = 20 * SECOND
"""How long it may take (µs) to try everything that is new with a receiver that responds with 5xx,
as far as one at a time allows."""


@dataclass
class Probing:
    """What a held webhook was probed with: in this round, and since this drain learned that it is
    held."""

    tried: set[str] = field(default_factory=set)
    """The types that were tried in this round."""
    count: int = 0
    """How many probes this round has had."""
    often: Counter[str] = field(default_factory=Counter)
    """How often each type was tried in all rounds."""
    due: list[Candidate] | None = None
    """What is due and may be a probe, as read for this round."""
    waiting: list[Candidate] | None = None
    """What waits for its time and may be a probe, as far as it was read."""
    looked_to: Cursor = START
    """How far what waits was searched before."""
    regular_from: int = 0
    """From when on (Unix µs) a round is a regular one again. Rounds before that are quick ones, of
    deliveries that need not spare their attempts."""
    is_quick: bool = False
    """Whether this round is a quick one."""
    aside: frozenset[str] = frozenset()
    """The types that are aside (portal.delivery.silence)."""
    under_way: frozenset[str] = frozenset()
    """The types that requests are under way with, without a response for long."""
    takes_some: bool = False
    """Whether the receiver has lately taken or refused anything."""
    left: int = 0
    """How many are left for quick rounds."""
    most_left: int = 0
    """The most that were left at any time since none were."""
    is_looking: bool = False
    has_heard: bool = False
    """Whether a look in this round has found that somebody listens."""
    is_over: bool = False
    """Whether nothing is left to try in this round."""

    @property
    def longest_pause(self) -> int:
        """How long the pause after a round may be at most (µs). Where much is left for quick rounds
        it is so short that all of that is tried soon."""
        if not self.left:
            return health.LONGEST_PAUSE
        return min(health.LONGEST_PAUSE, MOST * ALL_ASKED // self.most_left)

    def end_round(self) -> None:
        """Begin again with all types, those first that were tried least."""
        self.tried.clear()
        self.count = 0
        self.due = self.waiting = None
        self.has_heard = self.is_over = False

    def take(self, candidate: Candidate, schedule: Sequence[int]) -> None:
        """Note that a candidate becomes a probe."""
        self.tried.add(candidate.type)
        self.count += 1
        self.often[candidate.type] += 1
        self.due = [one for one in self.due or () if one.id != candidate.id]
        self.left = sum(
            self._is_hasty(one) and one.type not in self.aside
            for one in _without_last(self.due, schedule)
        )
        self.most_left = max(self.most_left, self.left) if self.left else 0

    def choose(
        self,
        candidates: Iterable[Candidate],
        schedule: Sequence[int],
        *,
        again: bool = False,
        even_last: bool = False,
    ) -> Candidate | None:
        """Choose one of the candidates, which come in their order: first what a person asks for,
        then the type that was tried least. Its type was not tried in this round, unless types may
        be tried `again`. A quick round takes only hasty ones. A delivery that a person sends again
        is hasty; those that a recovery sends again, which may be thousands, are not until others
        were taken.

        A delivery's last attempt is saved for a receiver that responds, unless `even_last` ones may
        be chosen, or it is also the first.
        """
        fit = list(candidates) if even_last else _without_last(candidates, schedule)
        if again or self.is_quick:
            fit = [one for one in fit if self._is_hasty(one) and one.type not in self.aside]
        passed = self.under_way if again else self.under_way | self.tried
        fit = [one for one in fit if one.type not in passed]
        if not fit:
            return None
        first = min(self._rank(one, schedule) for one in fit)
        return by_die([one for one in fit if self._rank(one, schedule) == first])

    def _rank(self, one: Candidate, schedule: Sequence[int]) -> tuple[bool, bool, int, bool, bool]:
        return (
            one.trigger != MANUAL,
            one.is_last(schedule),
            self.often[one.type],
            one.type in self.aside,
            one.is_retry,
        )

    def _is_hasty(self, one: Candidate) -> bool:
        """Whether it may go out as soon as one at a time allows: it was never sent, a person sends
        this very one again (which is not a retry), or others like it were taken."""
        return not one.is_retry or (self.takes_some and not one.hurried)


def by_die(candidates: Sequence[Candidate]) -> Candidate:
    """The oldest, the newest or any candidate of one type; they come in their order."""
    kind = random.choice(sorted({one.type for one in candidates}))
    best = [one for one in candidates if one.type == kind]
    return random.choice((best[0], best[-1], random.choice(best)))


def _without_last(candidates: Iterable[Candidate], schedule: Sequence[int]) -> list[Candidate]:
    return [one for one in candidates if one.step == 0 or not one.is_last(schedule)]


def find(
    probing: Probing,
    webhook_id: str,
    state: Health,
    schedule: Sequence[int],
    moment: int,
    *,
    ordered: bool,
    known: Container[str] = (),
) -> DueDelivery | None:
    """The delivery for the next probe at `moment` (Unix µs), not one of those that are `known` to
    be under way. None when the round has none left, and is over; or when there was none in what was
    searched so far, and there is more to search.

    What is due comes first. Of types with nothing due, a retry that waits goes out before its time:
    from the second round on, for after a moment's trouble there is no hurry.
    """
    if probing.due is None:
        # A later moment was set before the clock was set back.
        probing.is_quick = moment < probing.regular_from <= moment + health.LONGEST_PAUSE
        if not probing.is_quick:
            pause = health.pause_between(state, moment, health.LONGEST_PAUSE)
            probing.regular_from = moment + pause
        found = due.candidates(webhook_id, moment, ordered=ordered, dice=random.random())
        probing.due = _unknown(found, known)
    has_more = False
    while probing.count < MOST:
        chosen = probing.choose(probing.due, schedule)
        may_hurry = probing.has_heard or moment >= (state.held_at or 0) + health.FIRST_PAUSE
        if chosen is None and may_hurry and not probing.is_quick and not has_more:
            chosen, has_more = _choose_waiting(
                probing, webhook_id, schedule, moment, ordered=ordered, known=known
            )
        if chosen is None:
            chosen = probing.choose(probing.due, schedule, again=True)
        # Somebody listens again, or it was held because of its own secrets, and there is nothing
        # else to find out with.
        may_spend = (probing.has_heard or not state.away) and not probing.is_quick
        has_asked = probing.count or probing.under_way
        if chosen is None and may_spend and not has_more and not has_asked:
            waiting, _ = due.waiting_candidates(
                webhook_id, moment, after=START, ordered=ordered, whatever=True
            )
            chosen = probing.choose([*probing.due, *waiting], schedule, even_last=True)
        if chosen is None:
            break
        probing.take(chosen, schedule)
        next_one = due.find(chosen)
        if next_one is not None:
            return next_one
    probing.is_over = probing.count >= MOST or not has_more
    return None


def _unknown(candidates: Iterable[Candidate], known: Container[str]) -> list[Candidate]:
    return [one for one in candidates if one.id not in known]


def _choose_waiting(
    probing: Probing,
    webhook_id: str,
    schedule: Sequence[int],
    moment: int,
    *,
    ordered: bool,
    known: Container[str],
) -> tuple[Candidate | None, bool]:
    """One of those that wait, among what one read finds; and whether there is more to read."""
    cursor: Cursor | None = None
    if probing.waiting is None:
        found, cursor = due.waiting_candidates(
            webhook_id, moment, after=probing.looked_to, ordered=ordered, whatever=False
        )
        probing.waiting = _unknown(found, known)
    chosen = probing.choose(probing.waiting, schedule)
    if chosen is None:
        probing.looked_to = cursor or START
        if cursor is not None:
            probing.waiting = None
    return chosen, chosen is None and cursor is not None
