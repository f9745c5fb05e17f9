"""Types of events to which a receiver does not respond, so that they hold up no others. Pure.

A type is set *aside* when requests with it have had no response for PATIENCE_SECONDS, or when one
has ended without a response, until one gets a response.
"""

from __future__ import annotations

from collections import Counter

PATIENCE_SECONDS = 5.0
"""How long a type may be without a response before others go first."""


class Silence:
    """The requests of a webhook that are under way, by type, and since when none of a type has had
    a response. Moments are seconds of this process's clock."""

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()
        self._since: dict[str, float] = {}
        self._started: dict[str, float] = {}
        """When a request with each type was started last."""

    def start(self, kind: str, moment: float) -> None:
        """Count a request with a type that starts now."""
        self._under_way[kind] += 1
        self._since.setdefault(kind, moment)
        self._started[kind] = moment

    def end(self, kind: str, moment: float, *, was_silent: bool) -> None:
        """Count a request that ended; `was_silent` if somebody listened and did not respond."""
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
        """How many requests are under way with types that are aside, and have been for so long that
        others may go out beside them."""
        count, long_ago = 0, moment - PATIENCE_SECONDS
        for kind, since in self._since.items():
            if since <= long_ago and self._started[kind] <= long_ago:
                count += self._under_way[kind]
        return count

    @property
    def under_way(self) -> frozenset[str]:
        """The types that requests are under way with."""
        return frozenset(kind for kind, count in self._under_way.items() if count)
