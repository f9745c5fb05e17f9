"""RQ entry points, one line each. Queued jobs name these paths, so the names never change."""

from __future__ import annotations

from collections.abc import Callable

from portal import drain as draining
from portal import lanes, retention


class Host:
    """The worker that runs the jobs of this process; worker.py fills it in."""

    should_stop: Callable[[], bool] = staticmethod(lambda: False)
    keep_alive: Callable[[], None] = staticmethod(lambda: None)


def drain(lane: int) -> int:
    """Send what is due in a lane (portal.drain)."""
    return draining.drain(lane, should_stop=Host.should_stop, keep_alive=Host.keep_alive)


def sweep() -> int:
    """Wake lanes that nobody drains (portal.lanes)."""
    return lanes.sweep()


def purge() -> dict[str, int]:
    """The nightly clean-up (portal.retention)."""
    return retention.purge_expired()
