"""The threads that answer requests, PORTAL_WEB_THREADS of them; requests for health have a few of
their own, and so wait for no others."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from portal.front.accounts import end

HEALTH = {"/healthz": 1, "/readyz": 8}
"""How many threads each path that asks for health has."""
END_SECONDS = 0.005
"""How long the task of an answered request may wait for others to end with."""


def is_for_health(method: str, path: str) -> bool:
    """Whether a request asks for health. One to the same address by another method does not."""
    return path in HEALTH and method in ("GET", "HEAD")


class Threads:
    """Those of one process, and the loop whose tasks wait for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int):
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._idle: list[threading.Lock] = []
        """What each idle thread waits for, the one that worked last at the end."""
        self._answered: deque[Callable[[], None]] = deque()
        self._is_ending = False
        self._health = {
            path: ThreadPoolExecutor(threads, "health") for path, threads in HEALTH.items()
        }
        for number in range(count):
            threading.Thread(target=self._work, name=f"web-{number}", daemon=True).start()

    async def perform(
        self, method: str, path: str, answer: Callable[[], None], then: Callable[[], None]
    ) -> None:
        """Have a thread answer a request, which raises nothing, and `then` do what follows in the
        loop: not when this task ends, for the thread goes on where the client has left."""
        done = self._loop.create_future()

        def is_ended() -> None:
            then()
            end(done)

        def perform() -> None:
            try:
                answer()
            finally:
                self._end_soon(is_ended)

        if is_for_health(method, path):
            self._health[path].submit(perform)
        else:
            self._waiting.append(perform)
            self._wake_one()
        await done

    def _wake_one(self) -> None:
        # The one that worked last: its processor still has at hand what the next request needs.
        with contextlib.suppress(IndexError):
            self._idle.pop().release()

    def _work(self) -> None:
        wake = threading.Lock()
        wake.acquire()
        while True:
            try:
                work = self._waiting.popleft()
            except IndexError:
                self._idle.append(wake)
                if self._waiting:
                    # It came before anybody could see that this thread is idle.
                    self._wake_one()
                wake.acquire()
            else:
                work()

    def _end_soon(self, is_ended: Callable[[], None]) -> None:
        # The client has its answer. Each time the loop is woken it takes the interpreter from a
        # thread that works on the next one, so tasks end together.
        self._answered.append(is_ended)
        if not self._is_ending:
            self._is_ending = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(
                    self._loop.call_later, END_SECONDS, self._end_answered
                )

    def _end_answered(self) -> None:
        # In this order: what comes after the last look schedules the next one.
        self._is_ending = False
        while self._answered:
            self._answered.popleft()()
