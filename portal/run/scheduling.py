"""What is done again and again, and RQ's cron as the portal has it: it queues JSON, and outlives a
Redis that is away, hangs, is full, or holds what anybody wrote into it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq import Queue, cron_scheduler_registry
from rq.cron import CronJob, CronScheduler
from rq.exceptions import SchedulerNotFound, StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import now

from portal import jobs, queues, runtime
from portal.config import Config
from portal.journal.seldom import Seldom
from portal.redis_trouble import TROUBLE, RedisTrouble
from portal.strange_keys import make_way

NOTIFY_SECONDS = 20
"""How often mail that is due is sent."""
CERTIFICATE_SECONDS = 900
"""How often it is asked for certificates that were not looked at for long."""
MEASURE_SECONDS = 10
"""How often it is measured what merchants have stored, beyond which events are refused."""
COUNT_SECONDS = 60
"""How often the logs are counted; pages look through what is not counted yet themselves."""
AGAIN_SECONDS = 1.0
"""How often Redis is asked whether it serves again."""

_seldom = Seldom(logging.getLogger(__name__), 10)


class PortalCronJob(CronJob):
    """A cron job that is queued as JSON; RQ's own would use pickle."""

    def should_run(self) -> bool:
        """RQ's; one that was queued last before the clock was set back does not wait until the
        clock comes to that moment again."""
        queued_at = self.latest_enqueue_time
        is_ahead = self.interval is not None and queued_at is not None and queued_at > now()
        return is_ahead or super().should_run()

    def enqueue(self, connection: Redis) -> Job:
        """Queue the job once."""
        queue = Queue(self.queue_name, connection=connection, serializer=JSONSerializer)
        return queue.enqueue(self.func_name, **self.job_options)


class PortalCron(CronScheduler):
    """RQ's cron, which outlives a Redis that is away, hangs, is full, or holds others' keys."""

    def serve(self) -> None:
        """Enqueue what is due until told to stop."""
        with contextlib.suppress(StopRequested):
            while True:
                try:
                    make_way(
                        self.connection,
                        {cron_scheduler_registry.get_registry_key(): "zset", self.key: "hash"},
                    )
                    self.start()
                    return
                except StopRequested:
                    raise
                except TROUBLE as error:
                    runtime.part(RedisTrouble).note(error, "trying again")
                except Exception as error:  # noqa: BLE001 - who has Redis may answer anything
                    _seldom.warn(type(error), "Cron's round ended by a defect.", exc_info=error)
                time.sleep(AGAIN_SECONDS)

    def register_death(self, pipeline: Pipeline | None = None) -> None:
        """RQ's; an end that Redis cannot be told of, or of one that it does not know since it was
        wiped, must not look like an error of the work."""
        with contextlib.suppress(*TROUBLE, SchedulerNotFound):
            super().register_death(pipeline)


def timetable(config: Config) -> list[CronJob]:
    """The sweep, the counting, the measuring, the mail, the look at certificates and the nightly
    clean-up."""
    return [
        _every(config.sweep_seconds, jobs.sweep),
        _every(COUNT_SECONDS, jobs.summarize),
        _every(MEASURE_SECONDS, jobs.measure),
        _every(NOTIFY_SECONDS, jobs.notify),
        _every(
            CERTIFICATE_SECONDS,
            jobs.look_at_certificates,
            job_timeout=queues.TIMEOUTS[queues.LOOK_AT_CERTIFICATES],
        ),
        _job(jobs.purge, cron=config.retention_cron, job_timeout=queues.TIMEOUTS[queues.PURGE]),
    ]


def _every(seconds: int, func: Callable[[], object], **options: Any) -> CronJob:
    # One that waited for its turn is overtaken by the next.
    return _job(func, interval=seconds, ttl=seconds, **options)


def _job(func: Callable[[], object], **options: Any) -> CronJob:
    maintenance = queues.name_of(queues.MAINTENANCE)
    return PortalCronJob(maintenance, func=func, result_ttl=0, failure_ttl=3_600, **options)
