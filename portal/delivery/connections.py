"""Which of the connections that libcurl keeps may carry another request. Pure.

libcurl looks for dead connections once a second at most. A receiver that restarts closes a hundred
at once, and what comes within that second would be sent into one after another of them.
"""

from __future__ import annotations

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
        self.opened = 0
        """How many were opened so far: the number of the newest."""

    def open(self, own: Address, place: Address) -> None:
        """Note a new connection to a place."""
        self.opened += 1
        # Out first, so that a port that is used again stands at the end, with the newest.
        self._kept.pop(own, None)
        self._kept[own] = _Kept(place, self.opened)
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def may_use(self, own: Address) -> bool:
        """Whether a connection is not known to have died."""
        return own in self._kept

    def close(self, own: Address) -> None:
        """Note that the receiver has closed a connection."""
        self._kept.pop(own, None)

    def leave(self, place: Address, opened: int) -> None:
        """Use no connection to a place again that was among the first `opened`: one of them died
        while it was in use, and the others are as old."""
        self._kept = {
            own: kept for own, kept in self._kept.items()
            if kept.place != place or kept.number > opened
        }
