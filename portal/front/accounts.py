"""Who uses how much of a web process: beside others nobody has more than a share of it.

The threads of a process share one interpreter, so what one request needs of it each other one waits
for, however many threads there are. So the time that each account needs is counted, and paid off at
so much a second. While others ask, who owes more than FREE_SECONDS is heavy: their requests begin
one after the other, as what they owe is paid off, and not in the moments in which one of somebody
else has just begun. Between the parts of a long one (portal.fairness.courtesy) they wait in the
same way. All strangers (portal.front.strangers) have an account together beside their own, and so
no more than one share beside those of whom it is known whose they are.

A share is for where others want theirs too. Where nobody who is light has begun anything for so
long that the share of that time is what the next request needs, it begins, whatever is owed: who
asks twice a second takes little from a store that is busy, and is itself kept from little.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict

from portal.fairness.company import BEGUN_SECONDS, STRANGERS, Company
from portal.front import refusals
from portal.front.owing import FREE_SECONDS, RATE, REQUEST_SECONDS, Account
from portal.front.strangers import Strangers
from portal.front.work import Work

EVENTS, BATCHES, BODIES = "events", "batches", "bodies"
RATES = {EVENTS: 0.4, BATCHES: 0.2}
"""Seconds of a process that an account has in each second, beside others: to send events, some or
many at once; for all else it is RATE."""
HEALTH = "health"
APART = (HEALTH, BATCHES, BODIES)
"""What strangers have accounts of their own for together: a watcher's question does not wait for
pages, no page for a large body that stalls, and no piece of a body for a request."""
AT_ONCE = frozenset((EVENTS, HEALTH, BODIES))
"""Single events are quick and stored together, health has threads of its own, and bodies need none
until they are here. Of all else an
account begins no more at once than there are threads: nobody knows what a request will cost when it
begins. Others would wait behind as many as were begun, and for so long count as not there, for
which still more were. While they are there it begins three eighths of that: one that reads for
seconds would else have all threads for as long."""
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


class Accounts:
    """Those of one process. `breathe`, `count`, `set_aside` and `hand_over` are called by the
    thread that does the work, all else by that of the loop."""

    def __init__(self, company: Company, threads: int = 8):
        self._company = company
        self._each, self._beside = threads, max(1, threads * 3 // 8)
        self._accounts: OrderedDict[Name, Account] = OrderedDict()
        """Those who asked last are last."""
        self._mutex = threading.Lock()
        self._light: dict[Work, float] = {}
        """Requests of who is light, and when they began, in this order."""
        self._waiting: list[asyncio.Future[None]] = []
        self._strangers = Strangers()
        self._strangers_apart = {part: Strangers() for part in APART}

    async def enter(self, name: Name, *, is_known: bool = True, is_stranger: bool = False) -> Work:
        """Begin a request of an account, when it is its turn. One of whom is not known yet whose it
        is may be of somebody who is there already: for its sake nobody waits. Raises Refused when
        its turn does not come."""
        account = self.asked_by(name, time.monotonic(), is_known, is_stranger)
        work = Work(self, account, name[1], self._strangers_of(name) if is_stranger else None)
        try:
            if account.places is not None:
                try:
                    async with asyncio.timeout(WAIT_SECONDS):
                        await self._take_place(work, account, account.places)
                except TimeoutError:
                    raise refusals.heavy() from None
            await self._take_turn(work, is_known)
        except BaseException:
            self.give_place_back(work)
            raise
        return work

    def give_place_back(self, work: Work) -> None:
        """Let one more request of its account come to the threads; a second time is none."""
        with self._mutex:
            placed, work.placed = work.placed, []
            for account in placed:
                account.placed -= 1
        for account in placed:
            if account.places is not None:
                account.places.release()

    async def _take_place(self, work: Work, account: Account, places: asyncio.Semaphore) -> None:
        await places.acquire()
        try:
            async with account.line:
                while not self._has_place(account):
                    await self._change()
                self._place(work, account)
        except BaseException:
            places.release()
            raise

    def _place(self, work: Work, account: Account) -> None:
        with self._mutex:
            account.placed += 1
            work.placed.append(account)

    def _has_place(self, account: Account) -> bool:
        if account.placed < self._beside:
            return True
        return account.placed < self._each and not self._quiet_left(account, time.monotonic())

    async def _take_turn(self, work: Work, is_known: bool) -> None:
        account, clock = work.account, time.monotonic()
        if self._owes(account, clock) > FREE_SECONDS:
            if not self.may_begin(account):
                try:
                    async with asyncio.timeout(WAIT_SECONDS), account.turn:
                        while left := self._left(account):
                            await self._change(left)
                        await self._begin_among_strangers(work)
                        return
                except TimeoutError:
                    raise refusals.heavy() from None
            await self._begin_among_strangers(work)
        elif not await self._begin_among_strangers(work):
            clock = time.monotonic()
            with self._mutex:
                self._light[work] = clock
            if is_known:
                self._company.begins(account.owner, clock, is_stranger=work.had is not None)

    async def _begin_among_strangers(self, work: Work) -> bool:
        """Begin, where it is a stranger's when it is their turn; whether all of them together are
        heavy."""
        if work.strangers is None or work.had is None:
            self._begin(work)
            return False
        together = work.strangers.account
        try:
            async with asyncio.timeout(WAIT_SECONDS), work.strangers.turn(work.had):
                is_heavy = self._owes(together, time.monotonic()) > FREE_SECONDS
                while not self._has_place(together) or (is_heavy and not self.may_begin(together)):
                    await self._change(self._left(together) if is_heavy else LOOK_SECONDS)
                    is_heavy = is_heavy or self._owes(together, time.monotonic()) > FREE_SECONDS
                self._place(work, together)
                self._begin(work)
        except TimeoutError:
            raise refusals.many_strangers() from None
        return is_heavy

    def leave(self, work: Work) -> None:
        """End a request; a second time is none."""
        seconds, work.needed = work.needed, 0.0
        if not work.is_with_thread:
            self.give_place_back(work)
        clock = time.monotonic()
        with self._mutex:
            if seconds:
                self._charge_part(work, seconds, clock)
            self._uncount(work)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            end(one)

    def count(self, work: Work, seconds: float) -> None:
        """Count more of a request."""
        with self._mutex:
            for one in work.charged:
                one.learn(seconds)
            self._charge(work, seconds, time.monotonic())

    def hold(self, work: Work, seconds: float) -> None:
        """Count what others waited for a request that itself did nothing."""
        with self._mutex:
            self._charge(work, seconds, time.monotonic())

    def set_aside(self, work: Work) -> None:
        """Let nobody wait for a request any more that takes its time."""
        with self._mutex:
            self._uncount(work)

    def hand_over(self, work: Work, owner: str) -> None:
        """Let a request that came as a stranger's be that of whom it was found to be, from here on:
        others came as strangers too, and would pay for it. Of who is heavy it is both's, or who
        shows a new session each time would have everything. To ask for health is the network's,
        whoever does."""
        if work.part == HEALTH:
            return
        clock = time.monotonic()
        self._company.asked(owner, clock)
        with self._mutex:
            account = self._account((owner, work.part))
            if account.owes(clock) <= FREE_SECONDS:
                for one in work.charged:
                    one.under_way.discard(work)
                work.charged, work.beyond, work.had = [], [], None
            if account not in work.charged:
                work.account = account
                work.charged = [*work.charged, account]
                if work.is_counted:
                    account.under_way.add(work)
                account.began_at = clock

    async def take_piece(self, owner: str, *, is_stranger: bool) -> None:
        """Count a piece of a body, and wait where somebody brings more than a share of them, or all
        strangers together do beside others."""
        clock, name = time.monotonic(), (owner, BODIES)
        account = self.asked_by(name, clock, is_known=False, is_stranger=is_stranger)
        account.charge(PIECE_SECONDS, clock)
        if account.owed > FREE_SECONDS:
            await asyncio.sleep((account.owed - FREE_SECONDS) / account.rate)
        if is_stranger:
            await self._take_strangers_piece(self._strangers_of(name), owner)

    async def _take_strangers_piece(self, strangers: Strangers, owner: str) -> None:
        had, together = strangers.had_by(owner), strangers.account
        async with strangers.turn(had):
            while (
                owed := together.owes(time.monotonic())
            ) > FREE_SECONDS and self._company.has_others(STRANGERS, time.monotonic()):
                await asyncio.sleep(min((owed - FREE_SECONDS) / together.rate, PATIENCE_SECONDS))
            had.charge(PIECE_SECONDS)
            together.charge(PIECE_SECONDS, time.monotonic())

    def breathe(self, work: Work, at_least: float) -> float:
        """Count what a part of a request took, by the clock; for who is heavy then, wait for others
        and rest as long."""
        began = time.monotonic()
        took = began - work.since
        with self._mutex:
            self._charge_part(work, took, began)
            work.is_at_work = False
            account = work.account
            heavy = [
                one
                for one in work.charged
                if one.owed > FREE_SECONDS and self._company.has_others(one.owner, began)
            ]
            if account.owed > FREE_SECONDS or heavy:
                self._light.pop(work, None)
            if at_least > PATIENCE_SECONDS:
                self._let_others_begin(work)
        now = began
        if heavy:
            last, rest = heavy[-1], took / account.rate - took
            while now - began < at_least or (
                now - began < PATIENCE_SECONDS
                and (
                    self.is_awaited(last.owner, now)
                    or (now - began < rest and last.quiet_left(self._company, took, now) > 0)
                )
            ):
                time.sleep(0.002)
                now = time.monotonic()
        elif at_least:
            time.sleep(at_least)
        return time.monotonic() - began

    def _strangers_of(self, name: Name) -> Strangers:
        return self._strangers_apart.get(name[1], self._strangers)

    def asked_by(self, name: Name, clock: float, is_known: bool, is_stranger: bool) -> Account:
        """The account of a name that asks at `clock`; where it is known whose it is, others hear
        of it."""
        with self._mutex:
            account = self._account(name)
        if is_known:
            self._company.asked(name[0], clock, is_stranger=is_stranger)
        return account

    def _account(self, name: Name) -> Account:
        account = self._accounts.get(name)
        if account is None:
            while len(self._accounts) >= MOST_ACCOUNTS:
                self._accounts.popitem(last=False)
            account = self._accounts[name] = Account(name[0], RATES.get(name[1], RATE))
            if name[1] not in AT_ONCE:
                account.places = asyncio.Semaphore(self._each)
        else:
            self._accounts.move_to_end(name)
        return account

    def _owes(self, account: Account, clock: float) -> float:
        """What is not paid off, with what its requests under way have used by now: one more than
        that is long must not begin because nothing has ended yet."""
        with self._mutex:
            for work in account.under_way:
                if work.is_at_work and (more := work.used - work.told) > 0:
                    work.told += more
                    self._charge(work, more, clock)
            return account.owes(clock)

    def _charge_part(self, work: Work, seconds: float, clock: float) -> None:
        """Count what a part took that has ended, less what was while it went on."""
        for one in work.charged:
            one.learn(seconds)
        self._charge(work, max(0.0, seconds - work.told), clock)
        work.told = 0.0

    def _charge(self, work: Work, seconds: float, clock: float) -> None:
        for one in work.charged:
            one.charge_beside(self._company, seconds, clock, is_beyond=one in work.beyond)
        if work.had is not None:
            work.had.charge(seconds)

    def _begin(self, work: Work) -> None:
        clock = time.monotonic()
        with self._mutex:
            # Here, since it may end twice: when its thread has, and when its task has.
            work.beyond = [one for one in work.charged if one.owes(clock) > FREE_SECONDS]
            self._charge(work, REQUEST_SECONDS, clock)
            for account in work.charged:
                account.under_way.add(work)
                account.began_at = clock
            work.is_counted = True

    def _uncount(self, work: Work) -> None:
        self._light.pop(work, None)
        if work.is_counted:
            work.is_counted = False
            for account in work.charged:
                account.under_way.discard(work)

    def _let_others_begin(self, work: Work) -> None:
        """Of one that rests, all but its own account's place."""
        self._uncount(work)
        if work.strangers is not None and work.strangers.account in work.placed:
            work.placed.remove(work.strangers.account)
            work.strangers.account.placed -= 1

    def may_begin(self, account: Account) -> bool:
        """Whether one more request of a heavy account may begin now."""
        return not self._left(account)

    def _left(self, account: Account) -> float:
        """In how many seconds one more request may begin, as things are; 0 where it may now."""
        clock = time.monotonic()
        left = self._quiet_left(account, clock)
        if not left or self._owes(account, clock) > FREE_SECONDS:
            return left
        is_late = clock - account.began_at >= PATIENCE_SECONDS
        is_next = not account.under_way and not self.is_awaited(account.owner, clock)
        return 0.0 if is_late or is_next else left

    def _quiet_left(self, account: Account, clock: float) -> float:
        """In how many seconds one more request may begin beyond the account's share."""
        if not self._company.has_others(account.owner, clock):
            return 0.0
        if self.is_awaited(account.owner, clock):
            return BEGUN_SECONDS
        needs = (len(account.under_way) + 1) * account.cost
        return account.quiet_left(self._company, needs, clock)

    def is_awaited(self, owner: str, clock: float) -> bool:
        """Whether something has just begun for anybody else who needs little than one."""
        if self._company.is_awaited(owner, clock):
            return True
        with self._mutex:
            for work, began in reversed(self._light.items()):
                if clock - began >= FRESH_SECONDS:
                    break
                if owner != STRANGERS or work.strangers is None:
                    return True
        return False

    async def _change(self, most: float = LOOK_SECONDS) -> None:
        loop = asyncio.get_running_loop()
        changed = loop.create_future()
        self._waiting.append(changed)
        late = loop.call_later(min(most, LOOK_SECONDS), end, changed)
        try:
            await changed
        finally:
            late.cancel()


def end(waited_for: asyncio.Future[None]) -> None:
    """Let who waits for it go on; they may have been cancelled."""
    if not waited_for.done():
        waited_for.set_result(None)
