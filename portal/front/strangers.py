"""Strangers: those who have shown neither a key nor a sign-in that is anybody's.

An address costs next to nothing, so a share for each would give who has many of them as many. What
strangers need is counted to an account that all of them have together too; and of those who wait
the next is who has had the least, where who had nothing lately has something to the good: someone
who signs in, or watches the portal, does not wait behind a crowd that asks without pause.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator

from portal.fairness.company import STRANGERS
from portal.front.owing import Account

GOOD_SECONDS = 0.05
"""How much who had nothing lately may have before those who ask without pause: the sign-in page
with its files, and a password."""
MOST_SECONDS = 0.02
"""As how much what takes longer counts: a password's hash takes ten times that by design, and who
has mistyped one would wait for half a minute behind some twenty."""
MOST = 10_000
"""Strangers that are remembered; of more, those who asked first are new again."""


class Had:
    """How much one stranger has had, in seconds, as a place in the order of all: to whoever comes
    after a rest it is what the others have had by then (start-time fair queueing, Goyal 1996)."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = float("-inf")

    def charge(self, seconds: float) -> None:
        """Count more."""
        self.seconds += min(seconds, MOST_SECONDS)


class Strangers:
    """All strangers of a process together: their account, and turns, of which one is given at a
    time. For the thread of a loop."""

    def __init__(self) -> None:
        self.account = Account(STRANGERS)
        self._known: OrderedDict[str, Had] = OrderedDict()
        self._reached = 0.0
        """What those have had who wait all the time."""
        self._is_taken = False
        self._waiting: dict[Had, deque[asyncio.Future[None]]] = {}

    def had_by(self, owner: str) -> Had:
        """What a stranger has had."""
        had = self._known.get(owner)
        if had is None:
            while len(self._known) >= MOST:
                self._known.popitem(last=False)
            had = self._known[owner] = Had()
        else:
            self._known.move_to_end(owner)
        return had

    @contextlib.asynccontextmanager
    async def turn(self, had: Had) -> AsyncIterator[None]:
        """A turn for the time of a `with`."""
        if self._is_taken:
            await self._wait(had)
        self._is_taken = True
        had.seconds = max(had.seconds, self._reached - GOOD_SECONDS)
        self._reached = max(had.seconds, self._reached)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, had: Had) -> None:
        given = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(had, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.cancelled():
                self._forget(had, given)
            else:
                # It was given at this very moment.
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            # Of equals who has waited longest.
            least = self._reached - GOOD_SECONDS
            had = min(self._waiting, key=lambda one: max(one.seconds, least))
            given = self._waiting[had][0]
            self._forget(had, given)
            if not given.done():
                given.set_result(None)
                return
        self._is_taken = False

    def _forget(self, had: Had, given: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(had)
        if waiting is not None:
            with contextlib.suppress(ValueError):
                waiting.remove(given)
            if not waiting:
                del self._waiting[had]
