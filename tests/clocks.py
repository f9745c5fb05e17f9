"""Time that really passes, as far as the portal can tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import time_machine

from portal.clock import SECOND, now


@contextmanager
def time_passes(by: int) -> Iterator[None]:
    """The clock shows so many µs more, and stands still; the machine has run for as long."""
    with machine_runs(by), time_machine.travel((now() + by) / SECOND, tick=False):
        yield


@contextmanager
def machine_runs(by: int) -> Iterator[None]:
    """The machine has run for so many µs more, whatever its clock shows."""
    real = time.clock_gettime_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            time,
            "clock_gettime_ns",
            lambda clock: real(clock) + by * 1_000 * (clock == time.CLOCK_BOOTTIME),
        )
        yield
