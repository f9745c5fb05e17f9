"""How much of a drain each merchant has: beside others nobody more than a share of its time.

Who has more deliveries than PER_SECOND, and anybody else there, in this drain or in another process
of this machine (portal.company), is heavy. The time that a drain needs for them is counted, and
paid off at so much a second: who owes more than FREE_SECONDS is kept back. And they stand back for
a moment when something begins for somebody who is not heavy: what comes for others finds a
processor, and the interpreter, and the turn to write.

Counted is the processor time of the process, or the time of its loop by the clock if that is more,
for then others want the processor.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from portal.company import BEGUN_SECONDS, Company

PER_SECOND, FREE = 100.0, 50.0
"""Deliveries a second that make nobody heavy, and how many more may come at once."""
SHARE = 0.5
"""Seconds of a drain that who is heavy has in each second."""
FREE_SECONDS, MOST_SECONDS = 0.02, 0.2
"""What they may owe and go on, and what they owe at most."""
PATIENCE_SECONDS = 0.03
"""How long they stand back, at a time."""
SAME_SECONDS = 0.001
"""How soon what begins for the same merchant need not be said again."""
MOST_MERCHANTS = 10_000


@dataclass(slots=True)
class _Account:
    """Of a merchant, at a moment of the process's clock: the deliveries beyond PER_SECOND, and the
    seconds that it owes."""

    at: float
    deliveries: float = 0.0
    owed: float = 0.0
    back_since: float | None = None
    """Since when it stands back."""

    def forward(self, clock: float) -> None:
        passed, self.at = clock - self.at, clock
        self.deliveries = max(0.0, self.deliveries - PER_SECOND * passed)
        self.owed = max(0.0, self.owed - SHARE * passed)

    @property
    def is_heavy(self) -> bool:
        return self.deliveries > FREE


class Shares:
    """Those of one drain."""

    def __init__(self, company: Company):
        self._company = company
        self._accounts: dict[int, _Account] = {}
        self._begun, self._worked = Counter[int](), Counter[int]()
        """How many deliveries have begun for each merchant, and how often something was done, that
        is not counted yet."""
        self._last = 0, 0.0
        """For whom something began last, and when that was said."""
        self._used, self._busy = time.process_time(), 0.0

    def work(self, merchant_id: int) -> None:
        """Note that something is done for a merchant."""
        self._worked[merchant_id] += 1

    def begins(self, merchant_id: int) -> None:
        """Note that a delivery begins for a merchant."""
        self._begun[merchant_id] += 1
        self._worked[merchant_id] += 1
        clock = time.monotonic()
        if merchant_id == self._last[0] and clock - self._last[1] < SAME_SECONDS:
            return
        self._last = merchant_id, clock
        account = self._accounts.get(merchant_id)
        if account is None or not account.is_heavy:
            self._company.begins(_owner(merchant_id), clock)

    def count(self, busy_seconds: float, *, is_idle: bool = False) -> None:
        """Count what was used since the last time; the loop was busy for so long since it began.
        What it used while it had nothing to do counts for nobody."""
        if not self._worked:
            if is_idle:
                self._used, self._busy = time.process_time(), busy_seconds
            return
        clock, used = time.monotonic(), time.process_time()
        each = max(used - self._used, busy_seconds - self._busy) / self._worked.total()
        self._used, self._busy = used, busy_seconds
        if len(self._accounts) > MOST_MERCHANTS:
            self._accounts.clear()
        for merchant_id, times in self._worked.items():
            self._company.asked(_owner(merchant_id), clock)
            account = self._account(merchant_id, clock)
            account.deliveries = min(
                account.deliveries + self._begun[merchant_id], FREE + PER_SECOND
            )
            if account.is_heavy:
                account.owed = min(MOST_SECONDS, account.owed + each * times)
        self._worked.clear()
        self._begun.clear()

    def heavy(self, merchant_ids: Iterable[int]) -> dict[int, float]:
        """The heavy ones of these merchants, and for how many seconds each is to be kept back."""
        clock, found = time.monotonic(), {}
        for one in merchant_ids:
            account = self._account(one, clock)
            if account.is_heavy and self._company.has_others(_owner(one), clock):
                found[one] = self._seconds_back(account, _owner(one))
        return found

    def _seconds_back(self, account: _Account, owner: str) -> float:
        if account.owed > FREE_SECONDS:
            return (account.owed - FREE_SECONDS) / SHARE
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
