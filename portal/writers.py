"""What the writers of a process share on SQLite: their turns, how patient they are, and what who
writes much leaves to others."""

from __future__ import annotations

import time
from dataclasses import dataclass

from portal.company import Company
from portal.turns import Turns

HOPELESS_WAIT_SECONDS, HOPELESS_SECONDS = 0.25, 2.0
"""How long one waits when another has just waited in vain, and how long ago that is then."""
REST_SECONDS, STAND_BACK_SECONDS = 0.05, 0.03
"""How long at most who writes much, beside others, leaves the turn to them when it had it, and lets
them begin before it takes it."""


@dataclass
class Writers:
    """Those of one process. `large` is the line of those that write much, `refused_at` when one
    waited in vain."""

    turns: Turns
    large: Turns
    company: Company
    refused_at: float = float("-inf")

    def patience_seconds(self, usual: float) -> float:
        """How long a writer waits. After one has waited in vain the others wait but a moment, until
        somebody gets through: all threads would be waiting, and nobody answer."""
        is_hopeless = time.monotonic() - self.refused_at < HOPELESS_SECONDS
        return HOPELESS_WAIT_SECONDS if is_hopeless else usual

    def are_several(self) -> bool:
        """Whether several merchants are there."""
        return self.company.are_several(time.monotonic())

    def stand_back(self) -> None:
        """Let go first what has just begun for others, but not for long."""
        until = time.monotonic() + STAND_BACK_SECONDS
        while self.are_several() and self.company.is_awaited(None, time.monotonic()):
            if time.monotonic() >= until:
                break
            time.sleep(0.001)

    def rest(self, kept_seconds: float) -> None:
        """Leave the turn to others for as long as it was kept from them."""
        if self.are_several():
            time.sleep(min(REST_SECONDS, kept_seconds))
