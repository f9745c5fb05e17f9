"""Whose request a drain starts next.

Merchants take turns, the one with the fewest requests first, and so do the webhooks of each. Nobody
has all slots, however many of their receivers hang. The heavy ones (shares) have rounds of their
own, behind those of others and shorter.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping

from portal.clock import now
from portal.delivery.attempts import RECORD_COUNT, Attempts
from portal.delivery.line import Line
from portal.delivery.lines import Lines
from portal.delivery.paces import Paces
from portal.delivery.shares import Shares
from portal.processes import open_files

MAX_IN_FLIGHT = 1_000
"""Requests in flight of one worker; large ones count several times (DueDelivery.slots)."""
SHARE = 3
"""How many times the slots that are free a merchant may have: three quarters of all where nobody
else has any. So whoever comes next finds some, however many receivers of others hang."""
FILES, OTHER_FILES = 4_096, 128
"""Open files that a worker asks the system for, and how many of them are no requests."""


class Turns:
    """Those of one drain."""

    def __init__(self, lines: Lines, attempts: Attempts, shares: Shares, paces: Paces):
        self._lines = lines
        self._attempts = attempts
        self._shares = shares
        self._paces = paces
        self._most = min(MAX_IN_FLIGHT, max(1, open_files(FILES) - OTHER_FILES))
        self.is_cut = False
        """Whether more would have been started, had there been time."""
        self.kept_back: set[int] = set()
        """The merchants that may start no more for now."""

    def take(self, heavy: Mapping[int, float], leaving: int | None) -> None:
        """Start requests until the caps are reached, or for a slice of time; but none in the lane
        that is being left. `heavy` says for how many seconds each heavy merchant is kept back."""
        moment = now()
        taken = Counter[int]()
        light_turns, heavy_turns = dict[int, deque[Line]](), dict[int, deque[Line]]()
        is_behind = self._attempts.results >= RECORD_COUNT
        self.kept_back = {
            whose for whose, seconds in heavy.items() if seconds or is_behind
        } | self._attempts.have_too_much()
        for line in self._lines:
            whose = line.merchant_id
            taken[whose] += line.slots
            if (
                line.buffer
                and whose not in self.kept_back
                and line.room(moment)
                and line.lane != leaving
            ):
                turns = heavy_turns if whose in heavy else light_turns
                turns.setdefault(whose, deque()).append(line)
        paces = self._paces
        seconds = paces.short_slice_seconds if heavy else paces.slice_seconds
        has_started = self._start(light_turns, taken, moment, seconds)
        if not has_started:
            self._start(heavy_turns, taken, moment, seconds)
        elif heavy_turns:
            self.is_cut = True

    def _start(
        self, waiting: dict[int, deque[Line]], taken: Counter[int], moment: int, seconds: float
    ) -> bool:
        """Start requests of lines by their merchants, who have so many slots; whether it did."""
        end = time.monotonic() + seconds
        in_flight = self._attempts.in_flight
        free = self._most - max(in_flight, taken.total())
        turns = deque(sorted(waiting.items(), key=lambda turn: taken[turn[0]]))
        self.is_cut = has_started = False
        while turns:
            whose, turn = turns.popleft()
            if in_flight >= self._most or taken[whose] > max(0, SHARE * free):
                self.kept_back.add(whose)
                continue
            line = turn.popleft()
            due = self._lines.pop(line)
            taken[whose] += due.slots
            free -= due.slots
            self._shares.begins(whose)
            self._attempts.begin(line, due)
            in_flight, has_started = in_flight + 1, True
            if line.buffer and line.room(moment):
                turn.append(line)
            if turn:
                turns.append((whose, turn))
            if turns and time.monotonic() >= end:
                self.is_cut = True
                break
        return has_started
