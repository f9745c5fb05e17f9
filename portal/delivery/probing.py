"""Rounds of probes: what a held webhook is asked with, one request at a time. Pure but for `find`.

A round goes through deliveries of different types, for its receiver may dislike one type and take
all others; where nobody listens it begins with a mere look, which costs no delivery anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from portal.delivery import due, health
from portal.delivery.due import Candidate, Due
from portal.delivery.health import Health
from portal.models.delivery import MANUAL

MOST = 5
"""Probes of one round."""


@dataclass
class Probing:
    """What a held webhook was probed with: in this round, and since it has been held."""

    tried: set[str] = field(default_factory=set)
    """The types of this round."""
    often: Counter[str] = field(default_factory=Counter)
    """How often each type was tried in all rounds."""
    is_looking: bool = False
    has_heard: bool = False
    """Whether a look has found in this round that somebody listens."""
    is_over: bool = False
    """Whether nothing is left to be tried in this round."""

    def end_round(self) -> None:
        """Begin anew with all types, those that were tried least first."""
        self.tried.clear()
        self.has_heard = self.is_over = False

    def take(self, candidate: Candidate) -> None:
        """Note that a probe is made of a candidate."""
        self.tried.add(candidate.type)
        self.often[candidate.type] += 1

    def choose(
        self, candidates: Iterable[Candidate], schedule: Sequence[int], *,
        even_last: bool = False,
    ) -> Candidate | None:
        """The best of the candidates, which come in their order: what a person asks for, then the
        type that was tried least; of each type once a round.

        A delivery's last attempt is kept for a receiver that answers, `even_last` excepted, or
        where the first attempt is the last.
        """
        if len(self.tried) >= MOST:
            return None
        fit = [
            one for one in candidates
            if one.type not in self.tried
            and (even_last or one.step == 0 or not one.is_last(schedule))
        ]
        return min(
            fit,
            key=lambda one: (one.trigger != MANUAL, one.is_last(schedule), self.often[one.type]),
            default=None,
        )


def find(
    probing: Probing, webhook_id: str, state: Health, schedule: Sequence[int], moment: int, *,
    ordered: bool,
) -> Due | None:
    """The delivery of the next probe at `moment` (Unix µs); None when the round has none left.

    What is due comes first. Of types of which nothing is, one that waits goes out before its time:
    at the earliest in the second round, for a moment's trouble needs no haste.
    """
    may_hurry = probing.has_heard or moment >= (state.held_at or 0) + health.FIRST_PAUSE
    chosen = probing.choose(due.candidates(webhook_id, moment, ordered=ordered), schedule)
    if chosen is None and may_hurry:
        chosen = probing.choose(
            due.waiting_candidates(webhook_id, moment, ordered=ordered, whatever=False), schedule
        )
    # Somebody listens who was away, or it was held for its own secrets, and there is nothing else
    # to find out with.
    may_spend = probing.has_heard or not state.away
    if chosen is None and not probing.tried and may_spend:
        chosen = probing.choose(
            [
                *due.candidates(webhook_id, moment, ordered=ordered),
                *due.waiting_candidates(webhook_id, moment, ordered=ordered, whatever=True),
            ],
            schedule, even_last=True,
        )
    if chosen is None:
        return None
    probing.take(chosen)
    return due.find(chosen)
