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


class _Seen(NamedTuple):
    """What a connection had brought, and of that what was of answers."""

    sent: int
    since: tuple[int, int]
    """When it was last looked at before the last request."""
    last: tuple[int, int]


class Connections:
    """The connections that were opened and are not known to have died, each by the address of our
    own end. They are numbered in the order in which they were opened.

    At most `most` are known; one that was forgotten is taken for dead, which costs a new one.
    """

    def __init__(self, most: int):
        self._most = most
        self._kept: dict[Address, _Kept] = {}
        self._sent: Counter[Address] = Counter()
        self._answered: Counter[Address] = Counter()
        self._seen: dict[Address, _Seen] = {}
        self._whose: dict[Address, int | None] = {}
        self.opener: int | None = None
        """Whose request a connection was last opened for."""
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

    def sent(self, own: Address, whose: int | None) -> None:
        """Note that somebody's request goes out over a connection."""
        self._sent[own] += 1
        self._whose[own] = whose

    def opens(self, own: Address) -> None:
        """Note the own end of a connection that is being opened."""
        self._whose[own] = self.opener

    def whose(self, own: Address | None) -> int | None:
        """Whose request a connection carries, or carried last."""
        return self._whose.get(own) if own else None

    def forget_owner(self, own: Address) -> None:
        """Forget whose a connection was that is no more."""
        self._whose.pop(own, None)

    def answered(self, own: Address, came: int) -> None:
        """Note that an answer has ended of which so many bytes came over a connection."""
        if own in self._sent:
            self._answered[own] += came

    def brought(self, own: Address, received: int, coming: int) -> tuple[int, int]:
        """How many bytes a connection has brought since it was last looked at before the last
        request went out over it, and how many of them were of answers; `received` are those of its
        whole life, `coming` those of the answers that have not ended."""
        sent, now = self._sent[own], (received, self._answered[own] + coming)
        before = self._seen.get(own) or _Seen(sent, (0, 0), (0, 0))
        since = before.since if before.sent == sent else before.last
        self._seen[own] = _Seen(sent, since, now)
        return now[0] - since[0], now[1] - since[1]

    def _forget(self, own: Address) -> None:
        self._sent.pop(own, None)
        self._answered.pop(own, None)
        self._seen.pop(own, None)

    def leave(self, place: Address, opened: int) -> None:
        """Use no connection to a place again that was among the first `opened`: one of them died
        while it was in use, and the others are as old."""
        self._kept = {
            own: kept for own, kept in self._kept.items()
            if kept.place != place or kept.number > opened
        }
