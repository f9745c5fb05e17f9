"""Who uses how much of a web process: beside others nobody has more than a share of it.

The threads of a process share one interpreter, so what one request needs of it each other one waits
for, however many threads there are. So the time that each account needs is counted, and paid off at
so much a second. While others ask, who owes more than FREE_SECONDS is heavy: their requests begin
one after the other, as what they owe is paid off, and not in the moments in which one of somebody
else has just begun. Between the parts of a long one (portal.fairness.courtesy) they wait in the
same way.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from portal.fairness.company import Company
from portal.front import refusals

EVENTS, BATCHES, BODIES = "events", "batches", "bodies"
RATES = {EVENTS: 0.4, BATCHES: 0.2}
RATE = 0.15
"""Seconds of a process that an account has in each second, beside others: to send events, some or
many at once, and for all else."""
HEALTH = "health"
AT_ONCE = frozenset((EVENTS, HEALTH, BODIES))
"""Single events are quick and stored together, health has threads of its own, and bodies need none
until they are here. Of all else an
account begins no more at once than there are threads: nobody knows what a request costs until it
has ended. Others would wait behind as many as were begun, and for so long count as not there, for
which still more were. While they are there it begins three eighths of that: one that reads for
seconds would else have all threads for as long."""
FREE_SECONDS = 0.3
"""What who is light may owe."""
MOST_SECONDS = 2.0
"""Nobody owes more."""
REQUEST_SECONDS = 0.0005
"""What the server needs for a request, beside the thread that answers it."""
PIECE_SECONDS = 0.00005
"""What it needs for a piece of a body, however small: whoever sends chunks of one byte has the loop
work for a second on 120 KB."""
FRESH_SECONDS = 0.25
"""How long a light request that is under way is waited for: it may wait for a receiver itself."""
PATIENCE_SECONDS = 0.5
"""How long who is heavy lets others go first, at a time."""
LOOK_SECONDS = 0.05
WAIT_SECONDS = 30.0
MOST_ACCOUNTS = 10_000

Name = tuple[str, str]
"""Whose the account is, such as a merchant's, and which of theirs: what their programs use does not
keep their people waiting, nor their events."""


@dataclass(eq=False, slots=True)
class Account:
    """What one has used, in seconds, at a moment of the process's clock."""

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


class Work:
    """A request under way."""

    __slots__ = (
        "_accounts", "_cpu", "account", "has_place", "is_counted", "is_with_thread", "needed",
        "since", "whose",
    )

    def __init__(self, accounts: Accounts, account: Account):
        self._accounts, self.account = accounts, account
        self.since = self._cpu = 0.0
        self.needed = 0.0
        """How much of the processor it has used since its last breath, once it has ended."""
        self.whose: str | None = None
        """Whose it was found to be."""
        self.is_counted = False
        """Whether it is one of those under way."""
        self.has_place = self.is_with_thread = False

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


class Accounts:
    """Those of one process. `breathe`, `count` and `set_aside` are called by the thread that does
    the work, all else by that of the loop."""

    def __init__(self, company: Company, threads: int = 8):
        self._company = company
        self._each, self._beside = threads, max(1, threads * 3 // 8)
        self._accounts: OrderedDict[Name, Account] = OrderedDict()
        """Those who asked last are last."""
        self._mutex = threading.Lock()
        self._light: dict[Work, float] = {}
        """Requests of who is light, and when they began, in this order."""
        self._waiting: list[asyncio.Future[None]] = []

    async def enter(self, name: Name, *, is_known: bool = True) -> Work:
        """Begin a request of an account, when it is its turn. One of whom is not known yet whose it
        is may be of somebody who is there already: for its sake nobody waits. Raises Refused when
        its turn does not come."""
        account = self._asked(name, time.monotonic(), is_known)
        work = Work(self, account)
        if account.places is not None:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._take_place(account)
            except TimeoutError:
                raise refusals.heavy() from None
            work.has_place = True
        try:
            await self._take_turn(work, name[0], is_known)
        except BaseException:
            self.give_place_back(work)
            raise
        return work

    def give_place_back(self, work: Work) -> None:
        """Let one more request of its account come to the threads; a second time is none."""
        if work.has_place and work.account.places is not None:
            work.has_place = False
            work.account.placed -= 1
            work.account.places.release()

    async def _take_place(self, account: Account) -> None:
        assert account.places is not None
        await account.places.acquire()
        try:
            while account.placed >= self._beside and self._company.has_others(
                account.owner, time.monotonic()
            ):
                await self._change()
        except BaseException:
            account.places.release()
            raise
        account.placed += 1

    async def _take_turn(self, work: Work, owner: str, is_known: bool) -> None:
        account, clock = work.account, time.monotonic()
        if _owed(account, clock) > FREE_SECONDS:
            if not self._may_begin(account):
                try:
                    async with asyncio.timeout(WAIT_SECONDS), account.turn:
                        while not self._may_begin(account):
                            await self._change()
                        self._begin(work)
                        return
                except TimeoutError:
                    raise refusals.heavy() from None
        else:
            with self._mutex:
                self._light[work] = clock
            if is_known:
                self._company.begins(owner, clock)
        self._begin(work)

    def leave(self, work: Work) -> None:
        """End a request; a second time is none."""
        account = work.account
        seconds, work.needed = work.needed, 0.0
        if not work.is_with_thread:
            self.give_place_back(work)
        clock = time.monotonic()
        with self._mutex:
            _charge(account, seconds, clock)
            self._uncount(work)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            end(one)

    def count(self, work: Work, seconds: float) -> None:
        """Count more of a request."""
        with self._mutex:
            _charge(work.account, seconds, time.monotonic())

    def set_aside(self, work: Work) -> None:
        """Let nobody wait for a request any more that takes its time."""
        with self._mutex:
            self._uncount(work)

    async def take_piece(self, owner: str) -> None:
        """Count a piece of a body, and wait where somebody brings more than a share of them."""
        clock = time.monotonic()
        account = self._asked((owner, BODIES), clock, is_known=False)
        with self._mutex:
            _charge(account, PIECE_SECONDS, clock)
        if account.owed > FREE_SECONDS:
            await asyncio.sleep((account.owed - FREE_SECONDS) / account.rate)

    def breathe(self, work: Work, at_least: float) -> float:
        """Count what a part of a request took, by the clock; for who is heavy then, wait for others
        and rest as long."""
        account, began = work.account, time.monotonic()
        took = began - work.since
        with self._mutex:
            _charge(account, took, began)
            is_heavy = account.owed > FREE_SECONDS
            if is_heavy:
                self._light.pop(work, None)
        now = began
        if is_heavy and self._company.has_others(account.owner, began):
            at_least = max(at_least, min(took / account.rate - took, PATIENCE_SECONDS))
            while now - began < at_least or (
                now - began < PATIENCE_SECONDS and self._is_awaited(account.owner, now)
            ):
                time.sleep(0.002)
                now = time.monotonic()
        elif at_least:
            time.sleep(at_least)
        return time.monotonic() - began

    def _asked(self, name: Name, clock: float, is_known: bool) -> Account:
        account = self._accounts.get(name)
        if account is None:
            while len(self._accounts) >= MOST_ACCOUNTS:
                self._accounts.popitem(last=False)
            account = self._accounts[name] = Account(name[0], RATES.get(name[1], RATE))
            if name[1] not in AT_ONCE:
                account.places = asyncio.Semaphore(self._each)
        else:
            self._accounts.move_to_end(name)
        if is_known:
            self._company.asked(name[0], clock)
        return account

    def _begin(self, work: Work) -> None:
        with self._mutex:
            # Here, since it may end twice: when its thread has, and when its task has.
            _charge(work.account, REQUEST_SECONDS, time.monotonic())
            work.account.under_way += 1
            work.is_counted = True
        work.account.began_at = time.monotonic()

    def _uncount(self, work: Work) -> None:
        self._light.pop(work, None)
        if work.is_counted:
            work.is_counted = False
            work.account.under_way -= 1

    def _may_begin(self, account: Account) -> bool:
        clock = time.monotonic()
        if not self._company.has_others(account.owner, clock):
            return True
        waited = clock - account.began_at
        return _owed(account, clock) <= FREE_SECONDS and (
            waited >= PATIENCE_SECONDS
            or (not account.under_way and not self._is_awaited(account.owner, clock))
        )

    def _is_awaited(self, owner: str, clock: float) -> bool:
        if self._company.is_awaited(owner, clock):
            return True
        with self._mutex:
            newest = next(reversed(self._light.values()), float("-inf"))
        return clock - newest < FRESH_SECONDS

    async def _change(self) -> None:
        loop = asyncio.get_running_loop()
        changed = loop.create_future()
        self._waiting.append(changed)
        late = loop.call_later(LOOK_SECONDS, end, changed)
        try:
            await changed
        finally:
            late.cancel()


def end(waited_for: asyncio.Future[None]) -> None:
    """Let who waits for it go on; they may have been cancelled."""
    if not waited_for.done():
        waited_for.set_result(None)


def _owed(account: Account, clock: float) -> float:
    return max(0.0, account.owed - account.rate * (clock - account.counted_at))


def _charge(account: Account, seconds: float, clock: float) -> None:
    account.owed = min(MOST_SECONDS, _owed(account, clock) + seconds)
    account.counted_at = clock
