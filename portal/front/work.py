"""A request under way, and to whose accounts (portal.front.accounts) its time is charged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from portal.front.owing import Account
from portal.front.strangers import Had, Strangers

if TYPE_CHECKING:
    from portal.front.accounts import Accounts


class Work:
    """A request under way."""

    __slots__ = (
        "_accounts",
        "_cpu",
        "_whose",
        "account",
        "beyond",
        "charged",
        "had",
        "is_counted",
        "is_with_thread",
        "needed",
        "part",
        "placed",
        "session_given",
        "since",
        "strangers",
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
        self.needed = 0.0
        """How much of the processor it has used since its last breath, once it has ended."""
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
        self.since, self._cpu = time.monotonic(), time.thread_time()

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
        self.needed = time.thread_time() - self._cpu
