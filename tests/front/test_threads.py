"""Which thread answers a request."""

from __future__ import annotations

import asyncio
import threading
import time

from portal.front.threads import Threads


def test_requests_one_after_another_are_answered_by_one_thread():
    """The others' processors would first have to fetch what it has at hand."""
    answered: list[str] = []

    async def one_after_another() -> None:
        threads = Threads(asyncio.get_running_loop(), 4)
        for _ in range(20):
            await threads.perform("GET", "/", _note(answered), lambda: None)

    asyncio.run(one_after_another())
    assert len(answered) == 20
    # At first some thread may not have begun yet.
    assert len(set(answered[10:])) == 1


def test_requests_at_once_are_answered_by_as_many_threads_and_none_is_left():
    answered: list[str] = []
    meet = threading.Barrier(4, timeout=10)

    def answer() -> None:
        meet.wait()
        answered.append(threading.current_thread().name)

    async def at_once() -> None:
        threads = Threads(asyncio.get_running_loop(), 4)
        for _ in range(50):
            await asyncio.gather(
                *(threads.perform("GET", "/", answer, lambda: None) for _ in range(8))
            )

    asyncio.run(at_once())
    assert len(answered) == 400
    assert len(set(answered)) == 4


def _note(answered: list[str]):
    def answer() -> None:
        answered.append(threading.current_thread().name)
        # It answers before it is idle again, as requests do.
        time.sleep(0.001)

    return answer
