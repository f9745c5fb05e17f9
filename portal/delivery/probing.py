"""Rounds of probes: what a held webhook is asked with, one request at a time. Pure but for `find`.

A round goes through deliveries of different types, for its receiver may dislike one type and take
all others; where nobody listens it begins with a mere look, which costs no delivery anything. It
may also dislike some of a type: so the oldest, the newest and any between take turns, by a die,
which need remember nothing; and where much was never sent there are quick rounds of that alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from portal.clock import SECOND
from portal.delivery import due, health
from portal.delivery.due import START, Candidate, DueDelivery, Place
from portal.delivery.health import Health
from portal.models.delivery import MANUAL

MOST = 5
"""Probes of one round."""
ALL_ASKED = 20 * SECOND
"""The time within which a receiver that answers by 5xx is asked with all that is new, as long as
one at a time allows."""


@dataclass
class Probing:
    """What a held webhook was probed with: in this round, and since this drain has known that it
    is held."""

    tried: set[str] = field(default_factory=set)
    """The types of this round."""
    count: int = 0
    """The probes of this round."""
    often: Counter[str] = field(default_factory=Counter)
    """How often each type was tried in all rounds."""
    due: list[Candidate] | None = None
    """What is due and may be a probe, as read for this round."""
    waiting: list[Candidate] | None = None
    """What waits for its time and may be a probe, as far as it was read."""
    looked_to: Place = START
    """How far that was looked through before."""
    regular_from: int = 0
    """From when on (Unix µs) a round is a regular one again: those before it are quick ones, of
    what need not be sparing with attempts."""
    is_quick: bool = False
    """Whether this round is a quick one."""
    aside: frozenset[str] = frozenset()
    """The types that are aside (portal.delivery.silence)."""
    under_way: frozenset[str] = frozenset()
    """The types that are asked with now, and have been for long without an answer."""
    takes_some: bool = False
    """Whether the receiver has lately taken or refused anything."""
    left: int = 0
    """How many are left for quick rounds."""
    most_left: int = 0
    """The most that were left since none were."""
    is_looking: bool = False
    has_heard: bool = False
    """Whether a look has found in this round that somebody listens."""
    is_over: bool = False
    """Whether nothing is left to be tried in this round."""

    @property
    def longest_pause(self) -> int:
        """How long the pause after a round may be at most (µs): where much is left for quick ones,
        so short that all of it is asked with soon."""
        if not self.left:
            return health.LONGEST_PAUSE
        return min(health.LONGEST_PAUSE, MOST * ALL_ASKED // self.most_left)

    def end_round(self) -> None:
        """Begin anew with all types, those that were tried least first."""
        self.tried.clear()
        self.count = 0
        self.due = self.waiting = None
        self.has_heard = self.is_over = False

    def take(self, candidate: Candidate, schedule: Sequence[int]) -> None:
        """Note that a probe is made of a candidate."""
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
        """One of the candidates, which come in their order: what a person asks for, then of the
        type that was tried least. It is of a type that was not tried in this round, or of any
        where one may be tried `again`. A quick round has what is hasty: a delivery that a person
        sends again is, and of those that a recovery sends again, which may be thousands, none is
        until others were taken.

        A delivery's last attempt is kept for a receiver that answers, `even_last` excepted, or
        where the first attempt is the last.
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
        just it again (which is no retry), or others like it were taken."""
        return not one.is_retry or (self.takes_some and not one.hurried)


def by_die(candidates: Sequence[Candidate]) -> Candidate:
    """The oldest, the newest or any of one type, of candidates in their order."""
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
    """The delivery of the next probe at `moment` (Unix µs), none of those that are `known` to be
    under way. None when the round has none left, which is over then; or when what was looked
    through has none and there is more to look through.

    What is due comes first. Of types of which nothing is, one that waits goes out before its time:
    at the earliest in the second round, for a moment's trouble needs no haste.
    """
    if probing.due is None:
        # One that is further ahead was meant by a clock that was set back since.
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
        # Somebody listens who was away, or it was held for its own secrets, and there is nothing
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
    """One of those that wait, as far as one read goes; and whether there is more to read."""
    place: Place | None = None
    if probing.waiting is None:
        found, place = due.waiting_candidates(
            webhook_id, moment, after=probing.looked_to, ordered=ordered, whatever=False
        )
        probing.waiting = _unknown(found, known)
    chosen = probing.choose(probing.waiting, schedule)
    if chosen is None:
        probing.looked_to = place or START
        if place is not None:
            probing.waiting = None
    return chosen, chosen is None and place is not None
