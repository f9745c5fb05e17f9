"""Turns for making hashes of passwords, which cost by design: tens of milliseconds of every
processor, and 64 MiB. A process makes one at a time, few wait for their turn, and each is counted
to whoever asked for it. So who tries passwords over many connections at once takes neither the
processors, nor the memory, nor the threads from those who are signed in.

Nor the turns from who signs in: the next is of the site (addresses.site_of) that had one longest
ago, and where all places are taken a site that has several gives one up to a site that has none.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from flask import has_request_context, request

from portal.addresses import site_of
from portal.errors import TooManyRequests
from portal.fairness import courtesy

WAITING = 2
"""How many of one site wait for their turn; each holds a thread, which others need for pages."""
WAITING_OF_ALL = 4
PATIENCE_SECONDS = 5.0
RETRY_SECONDS = 5
BUSY = "Many passwords are being checked at this moment. Try again in a few seconds."


class _Try:
    """One that waits for its turn, or has it."""

    __slots__ = ("has_turn", "is_out", "site")

    def __init__(self, site: str):
        self.site = site
        self.has_turn = self.is_out = False


class _Turns:
    """Those of a process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._there: list[_Try] = []
        """Those who came first are first."""
        self._had: dict[str, int] = {}
        """Which turn a site had last, as long as it waits for more."""
        self._number = 0

    def take(self, site: str) -> _Try:
        """Wait for a turn. Raises TooManyRequests where it does not come."""
        with self._changed:
            self._make_room(site)
            one = _Try(site)
            self._there.append(one)
            self._pass_on()
            self._changed.wait_for(lambda: one.has_turn or one.is_out, PATIENCE_SECONDS)
            if not one.has_turn:
                self._remove(one)
                raise TooManyRequests(BUSY, RETRY_SECONDS)
            return one

    def give_back(self, one: _Try) -> None:
        """Let the next one have it."""
        with self._changed:
            self._remove(one)
            self._pass_on()

    def _make_room(self, site: str) -> None:
        held = Counter(one.site for one in self._there)
        if held[site] > WAITING or (held[site] and len(self._there) > WAITING):
            raise TooManyRequests(BUSY, RETRY_SECONDS)
        if len(self._there) <= WAITING_OF_ALL:
            return
        most, number = held.most_common(1)[0]
        if number == 1:
            raise TooManyRequests(BUSY, RETRY_SECONDS)
        last = next(one for one in reversed(self._there) if one.site == most and not one.has_turn)
        last.is_out = True
        self._remove(last)
        self._changed.notify_all()

    def _pass_on(self) -> None:
        if not self._there or any(one.has_turn for one in self._there):
            return
        one = min(self._there, key=lambda waiting: self._had.get(waiting.site, 0))
        one.has_turn = True
        self._number += 1
        self._had[one.site] = self._number
        self._changed.notify_all()

    def _remove(self, one: _Try) -> None:
        if one in self._there:
            self._there.remove(one)
        sites = {other.site for other in self._there}
        # Who asks on without pause is there when its turn comes; of others nothing is kept.
        self._had = {site: number for site, number in self._had.items() if site in sites}


_turns = _Turns()
"""At the processors of this process, which commands take too that have no application."""


@contextmanager
def own_turn() -> Iterator[None]:
    """A turn to make one hash. Raises TooManyRequests where it does not come."""
    site = site_of(request.remote_addr or "") if has_request_context() else ""
    one = _turns.take(site)
    began, used = time.monotonic(), time.process_time()
    try:
        yield
    finally:
        # Threads of the hash's own make it, whose time is not that of this one. On a busy
        # machine most of what passes is their wait for processors.
        courtesy.count(min(time.monotonic() - began, time.process_time() - used))
        _turns.give_back(one)
