"""A request under way, and to whose accounts (portal.front.accounts) its time is charged."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from portal.front.owing import Account
from portal.front.strangers import Had, Strangers

if TYPE_CHECKING:
    from portal.front.accounts import Accounts

USUAL_SECONDS = 0.01
"""So much of each statement of the database is nobody's: it is waited for, and at work for others
too."""


class Work:
    """A request under way."""

    __slots__ = (
        "_accounts",
        "_answered",
        "_asked_at",
        "_clock",
        "_cpu",
        "_whose",
        "account",
        "beyond",
        "charged",
        "had",
        "is_at_work",
        "is_counted",
        "is_with_thread",
        "needed",
        "part",
        "placed",
        "session_given",
        "since",
        "strangers",
        "told",
    )

    def __init__(
        self, accounts: Accounts, account: Account, part: str, strangers: Strangers | None = None
    ):
        self._accounts, self.account, self.part = accounts, account, part
        self.strangers = strangers
        """Whose account is charged too, where it is a stranger's."""
        self.had: Had | None = None if strangers is None else strangers.had_by(account.owner)
        self.charged = [account] if strangers is None else [account, strangers.account]
        self.beyond: list[Account] = []
        """Those beyond whose share it has begun."""
        self.placed: list[Account] = []
        """Those of which it has a place."""
        self.since = self._cpu = 0.0
        self._clock = 0
        """The clock of its thread's processor time."""
        self._asked_at: float | None = None
        """Since when the database works for it."""
        self._answered = 0.0
        """For how many seconds the database has, since its last breath."""
        self.is_at_work = False
        """Whether it is in a part that is counted by what it uses."""
        self.told = 0.0
        """How much of what it has used since its last breath is charged."""
        self.needed = 0.0
        """What it has used since its last breath, once it has ended."""
        self._whose: str | None = None
        self.session_given: int | None = None
        """By what the session is remembered that its answer gives (portal.front.credentials)."""
        self.is_counted = False
        """Whether it is one of those under way."""
        self.is_with_thread = False

    @property
    def whose(self) -> str | None:
        """Whose it was found to be."""
        return self._whose

    @whose.setter
    def whose(self, owner: str | None) -> None:
        self._whose = owner
        if self.had is not None and owner:
            self._accounts.hand_over(self, owner)

    def begin(self) -> None:
        """By the thread that does it: count from here."""
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self.since, self._cpu = time.monotonic(), time.thread_time()
        self.told, self._answered, self._asked_at = 0.0, 0.0, None
        self.is_at_work = True

    @property
    def used(self) -> float:
        """What it has used since its last breath, by now; for any thread: seconds of a processor,
        and those in which the database worked for it."""
        asked_at, used = self._asked_at, time.clock_gettime(self._clock) - self._cpu
        if asked_at is not None:
            used += max(0.0, time.monotonic() - asked_at - USUAL_SECONDS)
        return used + self._answered

    def asks(self) -> None:
        """portal.fairness.courtesy.asks: by the thread that does it."""
        self._asked_at = time.monotonic()

    def is_answered(self) -> None:
        """portal.fairness.courtesy.is_answered: by the thread that does it."""
        asked_at, self._asked_at = self._asked_at, None
        if asked_at is not None:
            self._answered += max(0.0, time.monotonic() - asked_at - USUAL_SECONDS)

    def breathe(self, at_least: float = 0.0) -> float:
        """portal.fairness.courtesy.breathe: by the thread that does it, between two parts."""
        rested = self._accounts.breathe(self, at_least)
        self.begin()
        return rested

    def count(self, seconds: float) -> None:
        """portal.fairness.courtesy.count: by the thread that does it."""
        self._accounts.count(self, seconds)

    def set_aside(self) -> None:
        """Let nobody wait for it any more: it takes its time."""
        self._accounts.set_aside(self)

    def end(self) -> None:
        """By the thread that does it: count no more."""
        self.needed, self.is_at_work = self.used, False
