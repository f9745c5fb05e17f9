"""The turns of large bodies to be read, each by a thread that waits for its sender.

Who takes time with it takes it from others, and two stores that sent as slowly as they may would
have all turns for as long as they like. So while somebody waits who has fewer turns, a body must
come fast, but for a few seconds; else its turn ends. And what others wait for a sender is charged
like work: of who comes just fast enough the next one begins when that is paid off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from weakref import WeakValueDictionary

from portal.front import refusals

WAIT_SECONDS = 30.0
"""How long a large body waits for its turn."""
BYTES_A_SECOND = 2 * 1024 * 1024
"""How fast one must come while somebody waits who has fewer turns."""
PATIENCE_SECONDS = 2.0
"""For how long it may come more slowly then."""
LOOK_SECONDS = 0.1
"""How often that is looked at."""

Charge = Callable[[float], object]
"""Counts so many seconds of the turns to who has one."""


def _nothing(_seconds: float) -> None:
    pass


class Turn:
    """A large body's turn."""

    def __init__(self, owner: str, charge: Charge):
        self.owner, self._charge = owner, charge
        self.came = 0
        """How many bytes have come since it was last looked at."""
        self.left = PATIENCE_SECONDS
        """For how many seconds it may still come slowly while others wait."""
        self.is_over = False
        """Whether it has ended for their sake."""
        self._waits: asyncio.Timeout | None = None

    @contextlib.asynccontextmanager
    async def wait(self, seconds: float) -> AsyncIterator[None]:
        """Wait for the sender, for so many seconds. Raises TimeoutError, too where it is over."""
        try:
            async with asyncio.timeout(0 if self.is_over else seconds) as self._waits:
                yield
        finally:
            self._waits = None

    def look(self, turns: int) -> None:
        """Take off the time that others wait for its sender, and give back what has come in it; it
        is one of so many turns."""
        waited = LOOK_SECONDS if self._waits is not None else 0.0
        if waited:
            self._charge(waited / turns)
        self.left = min(PATIENCE_SECONDS, self.left + self.came / BYTES_A_SECOND - waited)
        self.came = 0

    @property
    def is_late(self) -> bool:
        """Whether it must end for others, who wait for its sender."""
        return self._waits is not None and self.left <= 0

    def end(self) -> None:
        """End it for others."""
        self.is_over = True
        if self._waits is not None and not self._waits.expired():
            self._waits.reschedule(0)


class _Turns:
    """So many turns; the next is for who has the fewest, and among these for who came first."""

    def __init__(self, most: int):
        self._most = self._free = most
        self._taken: list[Turn] = []
        self._waiting: list[tuple[str, Charge, asyncio.Future[Turn]]] = []
        self._is_looking = False

    @contextlib.asynccontextmanager
    async def take(self, owner: str, charge: Charge) -> AsyncIterator[Turn]:
        turn = await self._next(owner, charge)
        try:
            yield turn
        finally:
            self._give_back(turn)

    async def _next(self, owner: str, charge: Charge) -> Turn:
        if self._free:
            self._free -= 1
            return self._begin(owner, charge)
        coming: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        one = owner, charge, coming
        self._waiting.append(one)
        self._look_soon()
        try:
            return await coming
        except asyncio.CancelledError:
            if one in self._waiting:
                self._waiting.remove(one)
            else:
                # It has come at the same moment.
                self._give_back(coming.result())
            raise

    def _begin(self, owner: str, charge: Charge) -> Turn:
        turn = Turn(owner, charge)
        self._taken.append(turn)
        return turn

    def _give_back(self, turn: Turn) -> None:
        self._taken.remove(turn)
        held = self._held()
        waiting = [one for one in self._waiting if not one[2].done()]
        if not waiting:
            self._free += 1
            return
        one = min(waiting, key=lambda one: held[one[0]])
        self._waiting.remove(one)
        owner, charge, coming = one
        coming.set_result(self._begin(owner, charge))

    def _held(self) -> Counter[str]:
        return Counter(turn.owner for turn in self._taken)

    def _look_soon(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._is_looking = False
        if not self._waiting:
            return
        held = self._held()
        fewest = min(held[owner] for owner, _, _ in self._waiting)
        late = []
        for turn in self._taken:
            if held[turn.owner] > fewest:
                turn.look(self._most)
                late += [turn] if turn.is_late else []
        # One at a time: who waits needs one, and where it is known to be over it is soon free.
        if late and not any(turn.is_over for turn in self._taken):
            min(late, key=lambda turn: (-held[turn.owner], turn.left)).end()
        self._look_soon()


class Large:
    """The turns of large bodies: half of the threads may be at one, half of these for one owner;
    and an eighth at those of strangers, who have shown nothing that is anybody's. So however slowly
    they come, small requests are answered, and no number of strangers keeps an owner's waiting."""

    def __init__(self, threads: int):
        most = max(1, threads // 2)
        self._each = max(1, most // 2)
        self._all, self._strangers = _Turns(most), _Turns(max(1, threads // 8))
        self._by_owner: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def turn(
        self, owner: str, *, is_stranger: bool, charge: Charge = _nothing
    ) -> AsyncIterator[Turn]:
        """A turn for an owner, such as a merchant, or a network of which no more is known, and what
        charges it. Raises Refused when it does not come."""
        own = self._by_owner.setdefault(owner, asyncio.Semaphore(self._each))
        together = self._strangers if is_stranger else self._all
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await stack.enter_async_context(own)
                    turn = await stack.enter_async_context(together.take(owner, charge))
            except TimeoutError:
                raise refusals.crowded() from None
            yield turn
