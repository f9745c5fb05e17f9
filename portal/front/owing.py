"""An account: what one has used of a web process and not paid off yet, in seconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

RATE = 0.15
"""Seconds of a process that an account has in each second, beside others."""
FREE_SECONDS = 0.3
"""What who is light may owe."""
MOST_SECONDS = 2.0
"""Nobody owes more."""


@dataclass(eq=False, slots=True)
class Account:
    """What one has used, at a moment of the process's clock."""

    owner: str
    rate: float = RATE
    owed: float = 0.0
    counted_at: float = 0.0
    began_at: float = float("-inf")
    """When its last request began."""
    under_way: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    places: asyncio.Semaphore | None = None
    """Those of its requests that may be with threads at once."""
    placed: int = 0
    """How many of these are taken."""
    line: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Who has it takes the next place: one of those who wait looks for it, and not all of them."""

    def owes(self, clock: float) -> float:
        """What is not paid off at a moment."""
        return max(0.0, self.owed - self.rate * (clock - self.counted_at))

    def charge(self, seconds: float, clock: float) -> None:
        """Count more."""
        self.owed = min(MOST_SECONDS, self.owes(clock) + seconds)
        self.counted_at = clock
