"""RQ entry points, one line each. Queued jobs name these paths, so the names never change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from portal import clock_watch, runtime
from portal.counts import counting
from portal.db import wal
from portal.delivery import drain as draining
from portal.delivery import lanes
from portal.notices import notices, storage_notices
from portal.recovery import batches
from portal.storage import measuring
from portal.upkeep import certificates, retention


@dataclass
class RunningWorker:
    """The worker that runs the jobs of one process (portal.run.worker): whether it was told to
    stop, how it shows that it lives, and when each job without arguments was taken last."""

    should_stop: Callable[[], bool] = lambda: False
    keep_alive: Callable[[], None] = lambda: None
    taken_at: dict[str, float] = field(default_factory=dict)
    """By the job's path, on the process's clock."""


def drain(lane: int) -> int:
    """Send what is due in a lane (portal.delivery.drain)."""
    worker = runtime.part(RunningWorker)
    return draining.drain(lane, should_stop=worker.should_stop, keep_alive=worker.keep_alive)


def sweep() -> int:
    """Wake lanes that nobody drains, queue recoveries and the clean-up where nobody works on
    them; how many (portal.delivery.lanes, portal.recovery.batches, portal.upkeep.retention)."""
    # Looked at each time, so that a jump of the clock is known for one.
    clock_watch.is_doubted()
    return lanes.sweep() + batches.sweep() + retention.sweep()


def recover(recovery_id: str, token: int) -> int:
    """Work on a recovery for some seconds (portal.recovery.batches)."""
    return batches.run(recovery_id, token, runtime.part(RunningWorker).should_stop)


def purge(token: int | None = None) -> int:
    """Work on the clean-up for some seconds (portal.upkeep.retention); without a token, as cron
    queues it, begin one."""
    return retention.run(token, runtime.part(RunningWorker).should_stop)


def summarize() -> int:
    """Count for some seconds what the logs have got, by the hour (portal.counts.counting)."""
    return counting.run()


def measure() -> bool:
    """Measure for a second what the logs hold of each merchant (portal.storage.measuring), and
    keep the database's own log short (portal.db.wal)."""
    wal.shorten()
    return measuring.run()


def notify() -> int:
    """Warn of webhooks that will be disabled and of stores that are full, and send mail
    (portal.notices.notices)."""
    storage_notices.run()
    return notices.run()


def look_at_certificates() -> int:
    """Note when the certificates of targets end (portal.upkeep.certificates)."""
    return certificates.check_all()
