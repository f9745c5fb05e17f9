"""What the writers of a process share: on SQLite their turns and how patient they are, and on both
databases what who writes much leaves to others."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy.engine import Engine

from portal.db.turns import Turns
from portal.fairness.company import Company

NEVER = float("-inf")
HOPELESS_WAIT_SECONDS, HOPELESS_SECONDS = 0.25, 2.0
"""How long one waits when another has just waited in vain, and how long ago that is then."""
STAND_BACK_SECONDS = 0.03
"""How long at most who writes much, beside others, lets them begin before it writes."""


class Manners:
    """Those of who writes much, while several merchants are there."""

    def __init__(self, company: Company):
        self.company = company

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


@dataclass
class Writers:
    """Those of one process, on SQLite. `large` is the line of those that write much, `refused_at`
    when one waited in vain."""

    turns: Turns
    large: Turns
    refused_at: float = NEVER

    def patience_seconds(self, usual: float) -> float:
        """How long a writer waits. After one has waited in vain the others wait but a moment, until
        somebody gets through: all threads would be waiting, and nobody answer."""
        is_hopeless = time.monotonic() - self.refused_at < HOPELESS_SECONDS
        return HOPELESS_WAIT_SECONDS if is_hopeless else usual


@dataclass
class Database:
    """What one process knows of its database. `writers` are those of SQLite: PostgreSQL has a queue
    of its own for each row."""

    manners: Manners
    writers: Writers | None
    written_at: float = NEVER
    """When it has last written (portal.db.session.written_at)."""
    bare: Engine | None = None
    """The engine for what needs no transaction (portal.db.session.one_statement)."""
