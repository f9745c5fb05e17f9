"""Whose sockets take how much of the loop's time: who takes little goes first, so nobody waits for
what another's receivers make of theirs."""

from __future__ import annotations

import time
from collections.abc import Callable

HALF_LIFE_SECONDS = 0.5
"""In which half of what somebody took is forgotten."""

CROWD_SECONDS = 1.0
"""For how long it is counted after there was no time for all: to know it of each request makes each
take an eighth longer."""
_SHORT_SECONDS = 0.0005
_FORGOTTEN_SECONDS = 1e-6


class Efforts:
    """How much time each owner of sockets has taken of late; all times are in seconds."""

    def __init__(self) -> None:
        self.counts = False
        """Whether it is counted now: where there is time for all nobody has to be first."""
        self._crowded_until = 0.0
        self._taken: dict[int | None, float] = {}
        self._late: dict[int, int] = {}
        """Sockets for which there was no time, by how many others there were before them."""
        self._count = 0
        self._halved_at = self._since = self._worked = 0.0

    def forget(self, fd: int) -> None:
        """Forget a socket: its number may be another's."""
        self._late.pop(fd, None)

    def crowded(self, moment: float) -> None:
        """Note that there was no time for some of several owners; it is counted from now on."""
        self.counts, self._crowded_until = True, moment + CROWD_SECONDS

    def ends(self, moment: float) -> bool:
        """Whether it need not be counted any more, and is not from now on."""
        if not self.counts or moment < self._crowded_until:
            return False
        self.counts = False
        self._taken.clear()
        return True

    def sort(
        self, ready: list[tuple[int, int]], moment: float, whose: Callable[[int], int | None]
    ) -> None:
        """Put sockets into their order: of who took least of late first, and of theirs those first
        that have waited longest. `whose` says whose each is."""
        if moment - self._halved_at >= HALF_LIFE_SECONDS:
            self._halved_at = moment
            self._taken = {
                one: taken / 2 for one, taken in self._taken.items() if taken > _FORGOTTEN_SECONDS
            }
        taken, late, last = self._taken, self._late, self._count + 1
        if not taken:
            ready.sort(key=lambda one: late.get(one[0], last))
            return
        ready.sort(key=lambda one: (taken.get(whose(one[0]), 0.0), late.get(one[0], last)))

    def waits(self, fd: int) -> None:
        """Note that there was no time for a socket."""
        if fd not in self._late:
            self._count += 1
            self._late[fd] = self._count

    def begin(self) -> None:
        """Note that sockets are looked after from now on."""
        self._since, self._worked = time.monotonic(), time.thread_time()

    def took(self, whose: int | None) -> float:
        """Note that what was done since the last such moment was done for them; how long it
        took, of the processor's time where that is much."""
        moment = time.monotonic()
        took, self._since = moment - self._since, moment
        if took > _SHORT_SECONDS:
            # It may have waited for the processor. To ask that each time would take as long as
            # a request does.
            worked = time.thread_time()
            took, self._worked = min(took, worked - self._worked), worked
        self._taken[whose] = self._taken.get(whose, 0.0) + took
        return took

    def done(self, fd: int) -> None:
        """Note that a socket was looked after."""
        self._late.pop(fd, None)
