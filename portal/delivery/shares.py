"""How much of a drain each merchant gets: those who need much come after those who need little.

A merchant is heavy that has more than PER_SECOND deliveries a second while anybody else is there,
in this drain or in another process of this machine (portal.fairness.company). The deliveries of
heavy merchants go out in rounds of their own, after those of others and shorter. They also stand
back for a moment when a request has just begun for somebody who needs little, in whatever process,
so that it finds a processor, the interpreter, and the turn to write. What nobody else needs is
theirs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from portal.fairness.company import BEGUN_SECONDS, Company

PER_SECOND, FREE = 100.0, 50.0
"""How many deliveries a second a merchant may have without being heavy, and how many more may come
at once."""
PATIENCE_SECONDS = 0.03
"""How long heavy merchants stand back at a time."""
MOST_MERCHANTS = 10_000


@dataclass(slots=True)
class _Account:
    """A merchant's deliveries beyond PER_SECOND, at a moment of the process's clock."""

    at: float
    deliveries: float = 0.0
    back_since: float | None = None
    """When it began to stand back; None where it does not."""

    def forward(self, clock: float) -> None:
        passed, self.at = clock - self.at, clock
        self.deliveries = max(0.0, self.deliveries - PER_SECOND * passed)

    @property
    def is_heavy(self) -> bool:
        return self.deliveries > FREE


class Shares:
    """The shares of merchants in one drain."""

    def __init__(self, company: Company):
        self._company = company
        self._accounts: dict[int, _Account] = {}
        self._begun = Counter[int]()
        """How many deliveries of each merchant have begun and are not counted yet."""

    def __len__(self) -> int:
        """How many merchants it knows of."""
        return len(self._accounts)

    def begins(self, merchant_id: int) -> None:
        """Note that a delivery begins for a merchant."""
        self._begun[merchant_id] += 1

    def heavy(self, merchant_ids: Iterable[int]) -> dict[int, float]:
        """Which of these merchants are heavy, and for how many seconds each is to be kept back."""
        clock, found = time.monotonic(), {}
        self._count(clock)
        for one in merchant_ids:
            account = self._account(one, clock)
            if account.is_heavy and self._company.has_others(_owner(one), clock):
                found[one] = self._seconds_back(account, _owner(one))
        return found

    def _count(self, clock: float) -> None:
        if len(self._accounts) > MOST_MERCHANTS:
            self._accounts.clear()
        for merchant_id, times in self._begun.items():
            self._company.asked(_owner(merchant_id), clock)
            account = self._account(merchant_id, clock)
            account.deliveries = min(account.deliveries + times, FREE + PER_SECOND)
        self._begun.clear()

    def _seconds_back(self, account: _Account, owner: str) -> float:
        if not self._company.is_awaited(owner, account.at):
            account.back_since = None
            return 0.0
        if account.back_since is None:
            account.back_since = account.at
        elif account.at - account.back_since > PATIENCE_SECONDS:
            account.back_since = None
            return 0.0
        return BEGUN_SECONDS / 2

    def _account(self, merchant_id: int, clock: float) -> _Account:
        account = self._accounts.get(merchant_id)
        if account is None:
            account = self._accounts[merchant_id] = _Account(clock)
        account.forward(clock)
        return account


def _owner(merchant_id: int) -> str:
    return f"merchant {merchant_id}"
