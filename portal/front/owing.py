"""An account: what one has used of a web process and not paid off yet, in seconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from portal.fairness.company import Company

if TYPE_CHECKING:
    from portal.front.work import Work

RATE = 0.15
"""Seconds of a process that an account has in each second, beside others."""
FREE_SECONDS = 0.3
"""What who is light may owe."""
MOST_SECONDS = 2.0
"""Nobody owes more."""
ALONE_SECONDS = 0.35
"""Nor, while nobody else is there, than this: they are heavy when somebody comes, and have their
share then within a moment, since what they used until then was nobody else's."""
REQUEST_SECONDS = 0.0005
"""What the server needs for a request, beside the thread that answers it."""
LEARN_MORE, LEARN_LESS = 1 / 2, 1 / 16
"""How much of what an account's requests are taken to need comes from the last one, where that is
more and where it is less."""


@dataclass(eq=False, slots=True)
class Account:
    """What one has used, at a moment of the process's clock."""

    owner: str
    rate: float = RATE
    owed: float = 0.0
    counted_at: float = 0.0
    began_at: float = float("-inf")
    """When its last request began."""
    under_way: set[Work] = field(default_factory=set)
    """Its requests that are."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    places: asyncio.Semaphore | None = None
    """Those of its requests that may be with threads at once."""
    placed: int = 0
    """How many of these are taken."""
    cost: float = REQUEST_SECONDS
    """What others are kept from by a request or by a part of one, as the last ones were."""
    line: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Who has it takes the next place: one of those who wait looks for it, and not all of them."""

    def owes(self, clock: float) -> float:
        """What is not paid off at a moment."""
        return max(0.0, self.owed - self.rate * (clock - self.counted_at))

    def charge(self, seconds: float, clock: float, most: float = MOST_SECONDS) -> None:
        """Count more."""
        self.owed = min(most, self.owes(clock) + seconds)
        self.counted_at = clock

    def charge_beside(
        self, company: Company, seconds: float, clock: float, *, is_beyond: bool
    ) -> None:
        """Count more of what was begun within the account's share, or beyond it."""
        if not company.has_others(self.owner, clock):
            self.charge(seconds, clock, ALONE_SECONDS)
        elif is_beyond:
            # Nobody wanted it when it was begun.
            self.charge(seconds, clock, max(ALONE_SECONDS, self.owes(clock)))
        else:
            self.charge(seconds, clock)

    def learn(self, seconds: float) -> None:
        """Learn what another part has needed: fast that it was much, or one long request amid many
        quick ones would pass for a quick one."""
        self.cost += (seconds - self.cost) * (LEARN_MORE if seconds > self.cost else LEARN_LESS)

    def quiet_left(self, company: Company, seconds: float, clock: float) -> float:
        """How much longer nobody else who is light must begin anything until so many seconds are
        the account's share of the time since."""
        return max(0.0, seconds / self.rate - company.quiet_seconds(self.owner, clock))
