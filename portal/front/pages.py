"""Pages of one sign-in that are asked for at once: some are made, the others wait as tasks, which
cost no thread. So a browser that opens many tabs gets them all, and a program that asks for pages
without pause leaves threads to everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from portal.front import refusals

WAIT_SECONDS = 20.0
"""How long a page waits for others of its sign-in."""
_NO_PAGES = ("/api/", "/static/")


class Pages:
    """The places of each sign-in, three eighths of a process's threads. What takes long and streams
    has places of its own (portal.fairness.places), and gives this one back."""

    def __init__(self, threads: int):
        self._each = max(1, threads * 3 // 8)
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def place(self, path: str, session: str | None) -> Callable[[], None]:
        """A place for a request with this session (credentials.session_of), when there is one; to
        be called in the loop when the request is done, once or more often. Raises Refused when none
        comes."""
        if session is None or path.startswith(_NO_PAGES):
            return _nothing
        places = self._places.setdefault(session, asyncio.Semaphore(self._each))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await places.acquire()
        except TimeoutError:
            raise refusals.too_many_pages() from None
        taken = [places]

        def give_back() -> None:
            while taken:
                taken.pop().release()

        return give_back


def _nothing() -> None:
    pass
