"""Which lane a drain hands over. When it has more work in two lanes than it can keep up with, and
another worker has nothing to do, that worker gets one of them."""

from __future__ import annotations

import time

from portal import queues
from portal.delivery.paces import PACES, Paces


class Handover:
    """Which lane a drain gives up, and when. It always keeps the lane that it was called for."""

    def __init__(self, called_for: int, paces: Paces = PACES):
        self._called_for = called_for
        self._paces = paces
        self.leaving: int | None = None
        """The lane that is being handed over, in which nothing new is started."""
        self._until = 0.0
        self._left_alone: dict[int, float] = {}
        self._next = 0.0
        self._looked_at, self._waited_then = time.monotonic(), 0.0

    def may_take(self, lane: int) -> bool:
        """Whether a lane may be leased: not if it has just been handed over."""
        return self._left_alone.get(lane, 0.0) < time.monotonic()

    def choose(
        self, waiting: set[int], *, is_idle: bool, somebody_idle: bool, waited_seconds: float
    ) -> None:
        """Choose a lane to hand over, among those with something waiting to be sent. A drain that
        `is_idle` says so to others; `somebody_idle` is whether another worker has said so, and
        `waited_seconds` how long this drain has had nothing to do since it began."""
        moment = time.monotonic()
        elapsed, waited = moment - self._looked_at, waited_seconds - self._waited_then
        self._looked_at, self._waited_then = moment, waited_seconds
        somebody_idle = somebody_idle and waited <= (1 - self._paces.busy_share) * elapsed
        if is_idle and not queues.ask_for_lane():
            self._next = time.monotonic() + self._paces.offer_again_seconds
        others = sorted(filter(self.may_take, waiting - {self._called_for}))
        # Only a Redis that has just said something is asked: one that hangs would halt the sending.
        if somebody_idle and len(waiting) > 1 and others and queues.is_lane_asked_for():
            self.leaving = others[0]
            self._until = time.monotonic() + self._paces.hand_over_seconds

    def is_time(self) -> bool:
        """Whether it is time to choose again."""
        moment = time.monotonic()
        if self.leaving is not None or moment < self._next:
            return False
        self._next = moment + self._paces.offer_seconds
        return True

    def ready(self, *, under_way: bool) -> int | None:
        """The lane to hand over now: the chosen one, once nothing of it is under way. A lane whose
        receivers take too long for that is kept."""
        lane, moment = self.leaving, time.monotonic()
        if lane is None or (under_way and moment < self._until):
            return None
        self.leaving = None
        paces = self._paces
        self._left_alone[lane] = moment + (
            paces.keep_seconds if under_way else paces.take_back_seconds
        )
        return None if under_way else lane
