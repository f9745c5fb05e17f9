"""Work that takes breaths, for tests of what does it (portal.fairness.courtesy)."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breathing:
    """Tells of each breath, which is so many seconds long."""

    def __init__(self, tell: Callable[[], object], rests: float = 0.0):
        self._tell, self._rests = tell, rests
        self.whose: str | None = None

    def breathe(self, at_least: float = 0.0) -> float:
        """portal.fairness.courtesy.Work."""
        self._tell()
        rested = max(self._rests, at_least)
        time.sleep(rested)
        return rested

    def count(self, seconds: float) -> None:
        """portal.fairness.courtesy.Work."""

    def asks(self) -> None:
        """portal.fairness.courtesy.Work."""

    def is_answered(self) -> None:
        """portal.fairness.courtesy.Work."""
