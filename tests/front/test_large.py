"""Turns of large bodies: who takes time with one gives it up to who has fewer, to nobody else."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from portal.front import large
from portal.front.large import Large, Turn
from portal.front.refusals import Refused


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(large, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(large, "WAIT_SECONDS", 2.0)


class Sender:
    """A large body of somebody, which comes piece by piece or not at all."""

    def __init__(self, turns: Large, owner: str, rate: float = 0.0, seconds: float = 60.0):
        self.turn: Turn | None = None
        self.charged = 0.0
        self._turns, self._owner, self._rate, self._seconds = turns, owner, rate, seconds
        self.task = asyncio.create_task(self._send())

    async def _send(self) -> str:
        try:
            async with self._turns.turn(
                self._owner, is_stranger=False, charge=self._charge
            ) as self.turn:
                async with self.turn.wait(self._seconds):
                    while True:
                        await asyncio.sleep(0.01)
                        self.turn.came += int(self._rate * 0.01)
        except Refused:
            return "refused"
        except TimeoutError:
            return "over" if self.turn and self.turn.is_over else "too late"

    def _charge(self, seconds: float) -> None:
        self.charged += seconds

    async def begun(self) -> None:
        while self.turn is None:
            assert not self.task.done(), self.task.result()
            await asyncio.sleep(0.01)

    async def leave(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


def test_who_has_more_turns_gives_one_up_to_who_has_fewer_and_no_more() -> None:
    async def story() -> None:
        turns = Large(8)
        first = [Sender(turns, owner) for owner in ("a", "a", "b", "b")]
        await asyncio.sleep(0.7)
        assert all(one.turn and not one.turn.is_over for one in first), "nobody waits"
        others = []
        for owner in ("c", "d"):
            others.append(Sender(turns, owner))
            await others[-1].begun()
        assert sorted(one.task.done() for one in first) == [False, False, True, True]
        assert {one.task.result() for one in first if one.task.done()} == {"over"}
        # Each has one now, and whoever has one too must wait.
        again = Sender(turns, "c")
        assert await again.task == "refused"
        assert sum(one.task.done() for one in (*first, *others)) == 2
        # Whoever has none need not.
        await Sender(turns, "e").begun()
        assert sum(one.task.done() for one in (*first, *others)) == 3

    asyncio.run(story())


def test_what_others_wait_for_a_sender_is_charged_to_it_and_no_more() -> None:
    async def story() -> None:
        turns = Large(8)
        fast = 2.0 * large.BYTES_A_SECOND
        holders = [Sender(turns, owner, fast) for owner in ("a", "a", "b", "b")]
        await asyncio.sleep(0.2)
        assert not any(one.charged for one in holders), "nobody waits"
        waiting = Sender(turns, "c")
        while not all(one.charged >= 0.02 for one in holders):
            await asyncio.sleep(0.01)
        await holders[0].leave()
        await waiting.begun()
        charged = [one.charged for one in (*holders, waiting)]
        await asyncio.sleep(0.2)
        assert charged == [one.charged for one in (*holders, waiting)]
        # Of four turns each is a quarter of what others wait for.
        assert max(charged) < 0.25 * 10

    asyncio.run(story())


def test_the_next_turn_is_for_who_has_the_fewest() -> None:
    async def story() -> None:
        turns = Large(8)
        fast = 10.0 * large.BYTES_A_SECOND
        holders = [Sender(turns, owner, fast) for owner in ("a", "b", "c", "d")]
        for one in holders:
            await one.begun()
        second, third, none = (Sender(turns, owner, fast) for owner in ("a", "b", "e"))
        await asyncio.sleep(0.1)
        await third.leave()
        await holders[2].leave()
        await none.begun()
        assert second.turn is None
        await holders[3].leave()
        await second.begun()

    asyncio.run(story())


def test_a_body_that_comes_fast_keeps_its_turn_and_a_pause_of_it_is_suffered() -> None:
    async def story() -> None:
        turns = Large(2)
        sender = Sender(turns, "a", 2.0 * large.BYTES_A_SECOND, seconds=1.5)
        await sender.begun()
        waiting = Sender(turns, "b")
        await asyncio.sleep(0.8)
        sender._rate = 0.0
        await asyncio.sleep(0.15)
        sender._rate = 2.0 * large.BYTES_A_SECOND
        assert await sender.task == "too late", "by its own deadline"
        await waiting.begun()

    asyncio.run(story())


def test_a_turn_that_comes_as_its_waiter_leaves_is_the_next_ones() -> None:
    async def story() -> None:
        turns = Large(2)
        sender = Sender(turns, "a")
        await sender.begun()
        gone, waiting = Sender(turns, "b"), Sender(turns, "c")
        await asyncio.sleep(0.05)
        sender.task.cancel()
        # It has the turn now, and does not know it yet.
        await asyncio.sleep(0)
        await gone.leave()
        await waiting.begun()

    asyncio.run(story())
