"""The templates of attempts, filled in cells while the thread that sends goes on.

Merchants take turns, and each has at most one cell at a time. All merchants whose templates take
long share all cells but one: so however many they are, the templates of the others wait only for
quick ones.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from portal.composing.cell_limits import HEAVY_SECONDS
from portal.composing.cells import MOST, Cell, NotFilled, cells
from portal.composing.compose import Composer, Payload
from portal.delivery.trying import Trying
from portal.outbound.transport import Watcher

HEAVY_FOR_SECONDS = 60.0
"""How long a merchant counts as one whose templates take long, after one that did."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What came of the templates of an attempt: their texts, or an error."""

    trying: Trying
    payload: Payload
    composer: Composer
    """The one whose templates these are: the webhook's settings may have changed since."""
    texts: Sequence[str] = ()
    error: Exception | None = None
    """NotFilled where a template is to blame, anything else where the portal is."""


class Filling:
    """For one thread, whose `watcher` wakes up when something is filled."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._waiting: dict[int, deque[Filled]] = {}
        """By merchant, in the order of their turns."""
        self._busy: dict[int, tuple[Cell, Filled]] = {}
        """By merchant too."""
        self._heavy: dict[int, float] = {}
        """The merchants whose templates take long, and until when they count as such."""

    @property
    def in_flight(self) -> int:
        """How many attempts wait for their templates."""
        return len(self._busy) + sum(map(len, self._waiting.values()))

    def ask(self, trying: Trying, payload: Payload) -> None:
        """Have the templates of an attempt filled; `collect` returns the result."""
        asked = Filled(trying, payload, trying.line.composer)
        self._waiting.setdefault(trying.line.merchant_id, deque()).append(asked)

    def collect(self) -> list[Filled]:
        """Return what has been filled or has failed, and start what is next."""
        ended = [*self._answered(), *self._overdue()] if self._busy else []
        while len(self._busy) < MOST:
            whose = self._next()
            if whose is None:
                break
            asked = self._next_of(whose)
            cell = None
            try:
                cell = cells.take()
                if cell.is_ready:
                    _ask(cell, asked)
            except Exception as error:  # noqa: BLE001 - no drain ends because of a delivery
                if cell is not None:
                    cell.kill()
                ended.append(replace(asked, error=error))
                continue
            self._busy[whose] = cell, asked
            self._watcher.watch(cell.fileno())
        return ended

    def forget_waiting(self) -> None:
        """Drop what has not begun: it is still due."""
        self._waiting.clear()

    def close(self) -> None:
        """Forget everything."""
        self.forget_waiting()
        for cell, _ in self._busy.values():
            self._watcher.unwatch(cell.fileno())
            cell.kill()
        self._busy.clear()

    def _next(self) -> int | None:
        """The merchant whose turn it is, where a cell may be had."""
        now = time.monotonic()
        self._heavy = {one: until for one, until in self._heavy.items() if until > now}
        is_full = sum(one in self._heavy for one in self._busy) >= MOST - 1
        return next(
            (
                one
                for one in self._waiting
                if one not in self._busy and not (is_full and one in self._heavy)
            ),
            None,
        )

    def _next_of(self, whose: int) -> Filled:
        turns = self._waiting.pop(whose)
        asked = turns.popleft()
        if turns:
            self._waiting[whose] = turns
        return asked

    def _answered(self) -> list[Filled]:
        poll = select.poll()
        whose = {cell.fileno(): merchant for merchant, (cell, _) in self._busy.items()}
        for fd in whose:
            poll.register(fd, select.POLLIN)
        ended = []
        for fd, _ in poll.poll(0):
            cell, asked = self._busy[whose[fd]]
            try:
                if not cell.is_ready:
                    # Not earlier, for the thread that sends must not wait for it.
                    cell.greet()
                    _ask(cell, asked)
                    continue
            except Exception as error:  # noqa: BLE001 - as above
                ended.append(replace(asked, error=error))
                self._forget(whose[fd], fd)
                cell.kill()
                continue
            self._forget(whose[fd], fd)
            try:
                ended.append(replace(asked, texts=cell.answer()))
            except NotFilled as error:
                ended.append(replace(asked, error=error))
            except Exception as error:  # noqa: BLE001 - as above
                # The rest of its answer may still come, and would be taken for the next one.
                ended.append(replace(asked, error=error))
                cell.kill()
            self._learn(whose[fd], cell)
            cells.give_back(cell)
        return ended

    def _forget(self, whose: int, fd: int) -> None:
        del self._busy[whose]
        self._watcher.unwatch(fd)

    def _learn(self, whose: int, cell: Cell) -> None:
        if cell.seconds > HEAVY_SECONDS:
            self._heavy[whose] = time.monotonic() + HEAVY_FOR_SECONDS

    def _overdue(self) -> list[Filled]:
        ended = []
        for whose, (cell, asked) in list(self._busy.items()):
            if cell.is_overdue:
                del self._busy[whose]
                self._watcher.unwatch(cell.fileno())
                error = cell.end_overdue()
                self._learn(whose, cell)
                ended.append(replace(asked, error=error))
        return ended


def _ask(cell: Cell, asked: Filled) -> None:
    cell.ask(asked.composer.event(asked.payload), asked.composer.templates)
