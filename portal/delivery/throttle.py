"""How many requests a webhook may have under way, and when it may start the next. Pure.

Three limits work together: its settings say how many may be under way at most, and how many may
start in a second; a receiver in trouble has a lower cap of its own, which comes back by successes.
"""

from __future__ import annotations

from collections.abc import Callable


class Throttle:
    """The limits of one webhook. `clock` is always this process's clock in seconds, `moment` Unix
    time in µs."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.cap = self.most = 0.0
        """How many may be under way now, and how many when its receiver copes with all."""
        self.rate: int | None = None
        """How many may start in a second; None where any number may."""
        self.next_start = 0.0
        """When the rate allows the next one (`clock`)."""
        self._paused_until = 0.0
        self._slowed_at = 0
        """When the cap was halved last (`moment`)."""

    def set_limits(self, most: int, rate: int | None) -> None:
        """Use other settings; the cap starts from `most` again where that has changed."""
        if most != self.most:
            self.cap = self.most = float(most)
        self.rate = rate

    def is_open(self, clock: float) -> bool:
        """Whether anything may start now, however many are under way."""
        return clock >= self._paused_until and clock >= self.next_start

    def room(self, clock: float, hanging: Callable[[float], int]) -> int:
        """How many more may start now. `hanging` says how many of those under way have waited for
        a response for so long that they only count towards what the settings allow; it is asked
        where the cap leaves no room."""
        if clock < self._paused_until or clock < self.next_start:
            return 0
        free = int(self.cap) - self.in_flight
        if free <= 0:
            free = max(0, min(int(self.cap) + hanging(clock), int(self.most)) - self.in_flight)
        return free

    def start(self, clock: float) -> None:
        """Count a request that starts now."""
        self.in_flight += 1
        if self.rate:
            # A moment that was not used is not made up for: never more than `rate` in a second.
            self.next_start = clock + 1 / self.rate

    def end(self, *, was_delivered: bool) -> None:
        """Count a request that ended. A success raises the cap: by one once as many have succeeded
        as it allows."""
        self.in_flight -= 1
        if was_delivered:
            self.cap = min(self.most, self.cap + 1 / self.cap)

    def slow_down(self, started_at: int, moment: int) -> None:
        """Halve the cap, because of a request that began at `started_at` (Unix µs) and found the
        receiver in trouble: once for all that were under way together."""
        # One that is ahead was noted before the clock was set back.
        if started_at > self._slowed_at or self._slowed_at > moment:
            self._slowed_at = moment
            self.cap = max(1.0, self.cap / 2)

    def pause(self, until: float) -> None:
        """Start nothing before `until` (`clock`), or longer where it was to pause for longer."""
        self._paused_until = max(self._paused_until, until)

    def start_slowly(self) -> None:
        """Begin with one request at a time, as after a hold."""
        self.cap = 1.0
