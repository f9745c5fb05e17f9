"""RQ entry points, one line each. Queued jobs name these paths, so the names never change."""

from __future__ import annotations

from collections.abc import Callable

from portal.delivery import certificates, lanes, recovery
from portal.delivery import drain as draining
from portal.logs import counting, measuring, retention
from portal.people import notices, storage_notices


class Host:
    """The worker that runs the jobs of this process; portal.worker fills it in."""

    should_stop: Callable[[], bool] = staticmethod(lambda: False)
    keep_alive: Callable[[], None] = staticmethod(lambda: None)


def drain(lane: int) -> int:
    """Send what is due in a lane (portal.delivery.drain)."""
    return draining.drain(lane, should_stop=Host.should_stop, keep_alive=Host.keep_alive)


def sweep() -> int:
    """Wake lanes that nobody drains, queue recoveries and the clean-up where nobody works on
    them; how many (portal.delivery.lanes, portal.delivery.recovery, portal.logs.retention)."""
    return lanes.sweep() + recovery.sweep() + retention.sweep()


def recover(recovery_id: str, token: int) -> int:
    """Work on a recovery for some seconds (portal.delivery.recovery)."""
    return recovery.run(recovery_id, token, Host.should_stop)


def purge(token: int | None = None) -> int:
    """Work on the clean-up for some seconds (portal.logs.retention); without a token, as cron
    queues it, begin one."""
    return retention.run(token, Host.should_stop)


def summarize() -> int:
    """Count for some seconds what the logs have got, by the hour (portal.logs.counting)."""
    return counting.run()


def measure() -> bool:
    """Measure for a second what the logs hold of each merchant (portal.logs.measuring)."""
    return measuring.run()


def notify() -> int:
    """Warn of webhooks that will be disabled and of stores that are full, and send mail
    (portal.people.notices)."""
    storage_notices.tell()
    return notices.look_after()


def look_at_certificates() -> int:
    """Note when the certificates of targets end (portal.delivery.certificates)."""
    return certificates.look()
