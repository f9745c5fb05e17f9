"""Which of the connections that libcurl keeps may carry another request. Pure.

libcurl looks for dead connections once a second at most. A receiver that restarts closes a hundred
at once, and what comes within that second would be sent into one after another of them.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

Address = tuple[str, int]
"""An IP address and a port."""
Ends = tuple[Address, Address]
"""Our own end of a connection, and the address it goes to. The kernel gives one port to several
connections at once where they go to different addresses."""


class _Seen(NamedTuple):
    """What a connection had brought, and of that what was of answers."""

    sent: int
    since: tuple[int, int]
    """When it was last looked at before the last request."""
    last: tuple[int, int]


class Connections:
    """The connections that were opened and are not known to have died, each by its ends. They are
    numbered in the order in which they were opened.

    At most `most` are known; one that was forgotten is taken for dead, which costs a new one.
    """

    def __init__(self, most: int):
        self._most = most
        self._kept: dict[Ends, int] = {}
        self._sent: Counter[Ends] = Counter()
        self._answered: Counter[Ends] = Counter()
        self._seen: dict[Ends, _Seen] = {}
        self._whose: dict[Ends, int | None] = {}
        self.opener: int | None = None
        """Whose request a connection was last opened for."""
        self._flooded: dict[Ends, None] = {}
        self.opened = 0
        """How many were opened so far: the number of the newest."""

    def open(self, ends: Ends) -> None:
        """Note a new connection."""
        self.opened += 1
        self._forget(ends)
        self._flooded.pop(ends, None)
        # Out first, so that ends that are used again stand at the end, with the newest.
        self._kept.pop(ends, None)
        self._kept[ends] = self.opened
        if len(self._kept) > self._most:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._forget(oldest)

    def may_use(self, ends: Ends) -> bool:
        """Whether a connection is not known to have died."""
        return ends in self._kept

    def close(self, ends: Ends) -> None:
        """Note that the receiver has closed a connection."""
        self._kept.pop(ends, None)
        self._forget(ends)

    def flood(self, ends: Ends) -> None:
        """Note that a connection is ended for what it has brought."""
        self._flooded[ends] = None
        if len(self._flooded) > self._most:
            del self._flooded[next(iter(self._flooded))]

    def has_flooded(self, ends: Ends) -> bool:
        """Whether a connection was ended for what it has brought."""
        return ends in self._flooded

    def sent(self, ends: Ends, whose: int | None) -> None:
        """Note that somebody's request goes out over a connection."""
        self._sent[ends] += 1
        self._whose[ends] = whose

    def whose(self, ends: Ends | None, opener: int | None) -> int | None:
        """Whose request a connection carries, or carried last; the opener's, where none yet."""
        return self._whose.get(ends, opener) if ends else opener

    def forget_owner(self, ends: Ends) -> None:
        """Forget whose a connection was that is no more."""
        self._whose.pop(ends, None)

    def answered(self, ends: Ends, came: int) -> None:
        """Note that an answer has ended of which so many bytes came over a connection."""
        if ends in self._sent:
            self._answered[ends] += came

    def brought(self, ends: Ends, received: int, coming: int) -> tuple[int, int]:
        """How many bytes a connection has brought since it was last looked at before the last
        request went out over it, and how many of them were of answers; `received` are those of its
        whole life, `coming` those of the answers that have not ended."""
        sent, now = self._sent[ends], (received, self._answered[ends] + coming)
        before = self._seen.get(ends) or _Seen(sent, (0, 0), (0, 0))
        since = before.since if before.sent == sent else before.last
        self._seen[ends] = _Seen(sent, since, now)
        return now[0] - since[0], now[1] - since[1]

    def _forget(self, ends: Ends) -> None:
        self._sent.pop(ends, None)
        self._answered.pop(ends, None)
        self._seen.pop(ends, None)

    def leave(self, address: Address, opened: int) -> None:
        """Use no connection to an address again that was among the first `opened`: one of them died
        while it was in use, and the others are as old."""
        self._kept = {
            ends: number
            for ends, number in self._kept.items()
            if ends[1] != address or number > opened
        }
