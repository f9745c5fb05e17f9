"""What is to be done again and again, whatever lies in Redis.

A worker for maintenance takes its jobs from there as a rule. Before those that cron queues others
may lie that take hours together, cron may be away, and so may Redis be: what was not done for long
the worker then does by itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from redis.exceptions import RedisError
from rq.timeouts import UnixSignalDeathPenalty

from portal import jobs
from portal.config import Config
from portal.errors import Unavailable
from portal.journal.seldom import Seldom
from portal.processes import has_stepped
from portal.run.scheduling import (
    CERTIFICATE_SECONDS,
    COUNT_SECONDS,
    MEASURE_SECONDS,
    NOTIFY_SECONDS,
)

LATE = 3
"""What was not done for so many times its period is late."""
LONGEST_SECONDS = 180
"""How long one of them may take, as RQ has it for those that cron queues."""

_log = logging.getLogger(__name__)
_defects = Seldom(_log, 60)


class Upkeep:
    """When a worker has done what last. The clean-up is begun by the sweep where it is late."""

    def __init__(self, config: Config):
        self._periods: dict[Callable[[], object], float] = {
            jobs.sweep: config.sweep_seconds,
            jobs.measure: MEASURE_SECONDS,
            jobs.notify: NOTIFY_SECONDS,
            jobs.summarize: COUNT_SECONDS,
            jobs.look_at_certificates: CERTIFICATE_SECONDS,
        }
        started = time.monotonic()
        self._done_at = {path_of(call): started for call in self._periods}

    def done(self, path: str) -> None:
        """A job was done that lay in the queue."""
        if path in self._done_at:
            self._done_at[path] = time.monotonic()

    def keep_up(self, should_stop: Callable[[], bool]) -> None:
        """Do what is late, until `should_stop`. What one of them raises keeps no other from being
        done."""
        for call, seconds in self._periods.items():
            late = time.monotonic() - self._done_at[path_of(call)] > LATE * seconds
            if late and not should_stop():
                self._do(call)

    def _do(self, call: Callable[[], object]) -> None:
        # It is not late then, whatever comes of it.
        self.done(path_of(call))
        has_stepped(LONGEST_SECONDS)
        try:
            with UnixSignalDeathPenalty(LONGEST_SECONDS):
                call()
        except (RedisError, Unavailable) as error:
            _log.debug("%s was not done: %s", path_of(call), error)
        except Exception as error:  # noqa: BLE001 - as of a job, the others go on
            _defects.warn((call, type(error)), f"{path_of(call)} failed.", exc_info=error)


def path_of(call: Callable[[], object]) -> str:
    """What a job is called that does this."""
    return f"{call.__module__}.{call.__qualname__}"
