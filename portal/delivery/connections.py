"""Which of the connections that libcurl keeps may carry another request. Pure.

libcurl looks for dead connections once a second at most. A receiver that restarts closes a hundred
at once, and what comes within that second would be sent into one after another of them.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

Address = tuple[str, int]
"""An IP address and a port."""


class _Kept(NamedTuple):
    place: Address
    number: int


class Connections:
    """The connections that were opened and are not known to have died, each by the address of our
    own end. They are numbered in the order in which they were opened.

    At most `most` are known; one that was forgotten is taken for dead, which costs a new one.
    """

    def __init__(self, most: int):
        self._most = most
        self._kept: dict[Address, _Kept] = {}
        self._sent: Counter[Address] = Counter()
        self._seen: dict[Address, tuple[int, int]] = {}
        self.flooded: set[Address] = set()
        """Those that were ended for what they brought, until they are opened anew."""
        self.opened = 0
        """How many were opened so far: the number of the newest."""

    def open(self, own: Address, place: Address) -> None:
        """Note a new connection to a place."""
        self.opened += 1
        self._forget(own)
        self.flooded.discard(own)
        # Out first, so that a port that is used again stands at the end, with the newest.
        self._kept.pop(own, None)
        self._kept[own] = _Kept(place, self.opened)
        if len(self._kept) > self._most:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._forget(oldest)

    def may_use(self, own: Address) -> bool:
        """Whether a connection is not known to have died."""
        return own in self._kept

    def close(self, own: Address) -> None:
        """Note that the receiver has closed a connection."""
        self._kept.pop(own, None)
        self._forget(own)

    def sent(self, own: Address) -> None:
        """Note that a request goes out over a connection."""
        self._sent[own] += 1

    def brought(self, own: Address, received: int) -> int:
        """How many bytes a connection has brought since it was first looked at after the last
        request went out over it; `received` are those of its whole life."""
        sent, before = self._seen.get(own, (-1, 0))
        if sent != self._sent[own]:
            self._seen[own] = self._sent[own], received
            return 0
        return received - before

    def _forget(self, own: Address) -> None:
        self._sent.pop(own, None)
        self._seen.pop(own, None)

    def leave(self, place: Address, opened: int) -> None:
        """Use no connection to a place again that was among the first `opened`: one of them died
        while it was in use, and the others are as old."""
        self._kept = {
            own: kept for own, kept in self._kept.items()
            if kept.place != place or kept.number > opened
        }
