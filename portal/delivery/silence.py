"""Types of events that a receiver leaves without an answer, so that they hold up no other. Pure.

A type is *aside* when requests with it have had no answer for PATIENCE_SECONDS, or one ended
without any, until one is answered.
"""

from __future__ import annotations

from collections import Counter

PATIENCE_SECONDS = 5.0
"""How long a type may be without an answer before others go first."""


class Silence:
    """What a webhook is asked with, by type, and since when nothing of it was answered. Moments are
    seconds of this process's clock."""

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()
        self._since: dict[str, float] = {}
        self._started: dict[str, float] = {}
        """When each type was asked with last."""

    def start(self, kind: str, moment: float) -> None:
        """Count a request with a type that starts now."""
        self._under_way[kind] += 1
        self._since.setdefault(kind, moment)
        self._started[kind] = moment

    def end(self, kind: str, moment: float, *, was_silent: bool) -> None:
        """Count a request that ended; whether nothing was answered, though somebody listened."""
        self._under_way[kind] -= 1
        if was_silent:
            self._since[kind] = moment - PATIENCE_SECONDS
            return
        del self._since[kind]
        if self._under_way[kind]:
            self._since[kind] = moment

    def aside(self, moment: float) -> frozenset[str]:
        """The types that are aside."""
        return frozenset(
            kind for kind, since in self._since.items() if since <= moment - PATIENCE_SECONDS
        )

    def hanging(self, moment: float) -> int:
        """How many requests are under way with types that are aside, and for so long that others
        go beside them."""
        count, long_ago = 0, moment - PATIENCE_SECONDS
        for kind, since in self._since.items():
            if since <= long_ago and self._started[kind] <= long_ago:
                count += self._under_way[kind]
        return count

    @property
    def under_way(self) -> frozenset[str]:
        """The types that requests are under way with."""
        return frozenset(kind for kind, count in self._under_way.items() if count)
