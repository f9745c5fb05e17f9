"""Worker processes: `bin/portal worker` starts all parts; `--part` and `--processes` choose.

deliver      drains lanes (RQ, queue `deliveries`)
maintenance  sweeps, counts, measures, sends mail, looks at certificates, cleans up (RQ, queue
             `maintenance`)
cron         enqueues them: sweep, measuring and mail every few seconds, counting each minute,
             certificates now and then, clean-up each night
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import current_app
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import DequeueTimeout, InvalidJobOperation, NoSuchJobError, StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import WorkerStatus
from rq.worker_registration import register
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import configure_mappers

from portal import create_app, jobs, queues, runtime, signs
from portal.config import Config, SettingError, load_config
from portal.database_errors import is_temporary, reason
from portal.delivery import lanes
from portal.errors import Unavailable
from portal.journal import log_lines
from portal.journal.seldom import Seldom
from portal.processes import has_started, has_stepped, show_life
from portal.redis_trouble import TROUBLE, RedisTrouble
from portal.run import first_start
from portal.run.children import has_loaded, keep_running
from portal.run.job_ends import EndingWorker
from portal.run.known_jobs import KnownJob, KnownQueue
from portal.run.overdue import Upkeep
from portal.run.scheduling import PortalCron, timetable
from portal.strange_keys import make_way, names_of, tidy
from portal.upkeep import refusals

WAIT_SECONDS, ANSWER_SECONDS = 2, 1
"""How long a worker waits for a job in Redis, and how much longer for any answer: together they are
how soon a Redis that hangs is noticed."""
WORKER_TTL = WAIT_SECONDS + 15
"""RQ waits for a job for 15 s less."""
AGAIN_SECONDS = 1.0
"""How often Redis is asked whether it serves again, and the database for what is due meanwhile."""

_log = logging.getLogger(__name__)
_seldom, _defects = Seldom(_log, 10), Seldom(_log, 60)


def _is_no_traceback(record: logging.LogRecord) -> bool:
    """Whether a line of RQ's log stands as it is; one with a traceback stands seldom, for whoever
    writes into Redis brings about as many as they like."""
    if record.exc_info and record.exc_info[0] is not None:
        _defects.warn(
            (record.msg, record.exc_info[0]), record.getMessage(), exc_info=record.exc_info
        )
        return False
    return True


class NotServed(StopRequested):
    """Redis is away, hangs, or is full; RQ's loop ends as quietly as when it is told to stop."""


def _not_served(error: Exception) -> NotServed:
    runtime.part(RedisTrouble).leave_alone(error, "work is looked for in the database")
    return NotServed(str(error))


class ImpatientQueue(KnownQueue):
    """One that is waited for once: while Redis hangs, RQ would rest, connect and wait again, and
    nobody deliver meanwhile."""

    @classmethod
    def dequeue_any(cls, *args: Any, **kwargs: Any) -> Any:
        """RQ's. Raises NotServed where Redis does not answer."""
        try:
            return super().dequeue_any(*args, **kwargs)
        except TROUBLE as error:
            raise _not_served(error) from error


class PortalWorker(EndingWorker):
    """An RQ worker that runs jobs in its own process, so that connections stay open from one drain
    to the next; ends a long one in order when told to; and outlives a Redis that is away or full.
    """

    ip_address = "unknown"
    """Until Redis was asked."""
    _telling: threading.Thread | None = None
    _looked_at = float("-inf")

    def __init__(self, queue: str, connection: Redis):
        super().__init__(
            [queues.name_of(queue)],
            connection=connection,
            serializer=JSONSerializer,
            job_class=KnownJob,
            queue_class=ImpatientQueue,
            worker_ttl=WORKER_TTL,
        )
        self._delivers = queue == queues.DELIVERIES
        self._upkeep = Upkeep(current_app.config["PORTAL"])
        self.log.addFilter(_is_no_traceback)
        running = jobs.RunningWorker(lambda: self.told_to_stop, self._keep_alive)
        runtime.of(current_app).put(jobs.RunningWorker, running)

    @property
    def told_to_stop(self) -> bool:
        """Whether SIGTERM or SIGINT came."""
        return self._shutdown_requested_date is not None

    def serve(self) -> None:
        """Work until told to stop. While Redis does not serve, work that is due is found in the
        database, as the sweep finds it."""
        self._install_signal_handlers()
        while not self.told_to_stop:
            started = time.monotonic()
            # A name for each round: a worker whose end Redis was not told of lives on in there.
            self.name = uuid.uuid4().hex
            has_stepped()
            self._try(self._work_with_redis)
            if self.told_to_stop:
                return
            if time.monotonic() - started > WORKER_TTL:
                _log.warning("Redis does not serve; work is looked for in the database.")
            self._try(self._do_forgotten)
            if not self.told_to_stop:
                self._try(lambda: time.sleep(AGAIN_SECONDS))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except RedisError as error:
            _not_served(error)
        except (StopRequested, Unavailable):
            pass
        except Exception as error:  # noqa: BLE001 - Redis may hold what anybody wrote into it
            _defects.warn(type(error), "A worker's round ended by a defect.", exc_info=error)

    def _work_with_redis(self) -> None:
        if not queues.answers():
            return
        self._make_way()
        if self._delivers:
            # What came due while nobody looked, and what a queue that was lost held.
            lanes.sweep()
        self.work(logging_level="WARNING")

    def _do_forgotten(self) -> None:
        """Deliver what is due and nobody works on, by the database; or keep up (Upkeep)."""
        # Whoever tells it to stop now finds it busy, and lets it end what is in flight.
        self._state = WorkerStatus.BUSY
        if not self._delivers:
            self._upkeep.keep_up(lambda: self.told_to_stop)
            return
        try:
            for lane in lanes.forgotten():
                jobs.drain(lane)
        except Unavailable as error:
            _seldom.warn(
                error.trouble, f"What is due cannot be read now. {refusals.in_words(error)}"
            )

    def execute_job(self, job: Job, queue: Queue) -> None:
        """RQ's."""
        self._upkeep.done(str(job.func_name))
        super().execute_job(job, queue)

    def dequeue_job_and_maintain_ttl(
        self,
        timeout: int | None,
        max_idle_time: int | None = None,  # noqa: ARG002 - as RQ has it
    ) -> tuple[Job, Queue] | None:
        """RQ's, which looks about between what it finds in the queue. Whatever lies there, or in
        that of the sweep, however much it is, what is due is delivered."""
        while True:
            self.set_state(WorkerStatus.IDLE)
            self.heartbeat()
            self._look_about()
            try:
                found = self.queue_class.dequeue_any(
                    self._ordered_queues,
                    timeout,
                    connection=self.connection,
                    job_class=self.job_class,
                    serializer=self.serializer,
                    death_penalty_class=self.death_penalty_class,
                )
            except DequeueTimeout:
                continue
            if found is not None:
                found[0].redis_server_version = self.get_redis_server_version()
                self.heartbeat()
            return found

    def _look_about(self) -> None:
        """Every PORTAL_SWEEP_SECONDS. Raises StopRequested."""
        if time.monotonic() - self._looked_at < current_app.config["PORTAL"].sweep_seconds:
            return
        self._make_way()
        self._do_forgotten()
        self._looked_at = time.monotonic()
        if self.told_to_stop:
            raise StopRequested
        self.set_state(WorkerStatus.IDLE)

    def _make_way(self) -> None:
        # One that delivers may be busy for days, so each looks after the names of both.
        names: dict[str, str] = {}
        for queue in (queues.DELIVERIES, queues.MAINTENANCE):
            names |= names_of(queues.queue_of(queue))
        make_way(self.connection, names)

    def run_maintenance_tasks(self) -> None:
        """RQ's reads all jobs that it has noted, of all users of this Redis."""
        # At once, so that what cannot be read there does not end each round.
        self.last_cleaned_at = now()  # type: ignore[assignment] # so RQ does it itself
        tidy(self.queues[0])

    def check_for_suspension(self, burst: bool) -> None:
        """RQ's rests while a certain key is there, and says nothing: then nobody would deliver."""

    def subscribe(self) -> None:
        """RQ's takes commands from whoever publishes them, such as to end."""

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ's, which is the first to write after each wait: without Redis the round ends. Who
        waits to deliver asks for a lane of those who have more than they can send."""
        try:
            super().heartbeat(timeout, pipeline)
            # Redis may have been wiped, and who is not in its list seems not to live.
            register(self)
        except TROUBLE as error:
            raise _not_served(error) from error
        has_stepped()
        if self.get_state() == WorkerStatus.IDLE and self._delivers:
            signs.show()
            queues.ask_for_lane()

    @property
    def connection_timeout(self) -> int:
        """RQ's is ten seconds longer than a wait for a job, and so long would nobody deliver while
        Redis hangs."""
        return self.dequeue_timeout + ANSWER_SECONDS

    def teardown(self) -> None:
        """RQ's, where Redis answers: it forgets a worker by itself."""
        if queues.answers():
            with contextlib.suppress(*TROUBLE):
                self.register_death()
                if self._delivers:
                    signs.withdraw()

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """RQ's, which would write the same traceback at each run of the sweep."""
        error = exc_info[1]
        if isinstance(error, Unavailable):
            _seldom.warn(error.trouble, f"Jobs must wait. {refusals.in_words(error)}")
        elif isinstance(error, InvalidJobOperation | NoSuchJobError):
            # Its work was done. Redis was wiped, or a sweep had the lane's job made anew.
            _log.debug("The job %s ended, and Redis does not know it any more.", job.id)
        else:
            _defects.warn((job.origin, type(error)), f"The job {job.id} failed.", exc_info=exc_info)

    def _set_ip_address(self, connection: Redis) -> None:
        with contextlib.suppress(*TROUBLE):
            super()._set_ip_address(connection)

    def set_shutdown_requested_date(self) -> None:
        """RQ's, called in the signal handler, where a Redis that is away must not break a drain."""
        with contextlib.suppress(*TROUBLE):
            super().set_shutdown_requested_date()  # type: ignore[no-untyped-call]

    def _keep_alive(self) -> None:
        """Tell RQ that the job and the worker live; a drain may run for days. In a thread of its
        own: the drain must not wait for a Redis that hangs."""
        has_stepped()
        if self._telling is None or not self._telling.is_alive():
            context = contextvars.copy_context()
            self._telling = threading.Thread(
                target=context.run, args=(self._tell,), name="keep-alive", daemon=True
            )
            self._telling.start()

    def _tell(self) -> None:
        executions = list(self.executions.values())
        try:
            for execution in executions:
                self.maintain_heartbeats(execution.job, execution)
            if not executions:
                # The worker has found by itself what is due.
                self.heartbeat()
        except (*TROUBLE, NotServed, NoSuchJobError) as error:
            # Redis is away, or was wiped; the lane's lease is in the database.
            _log.warning("RQ was not told of the drain: %s", error)


def wait_for_database(call: Callable[[], object]) -> None:
    """Call what needs the database, again until that is there: after a power cut it may come up
    later than its workers."""
    while True:
        try:
            call()
            return
        except SettingError as error:
            sys.exit(str(error))
        except DatabaseError as error:
            if not is_temporary(error):
                sys.exit(first_start.unusable(error))
            _seldom.warn("wait", f"The database is waited for. ({reason(error)})")
            time.sleep(AGAIN_SECONDS)
        except Unavailable as error:
            _seldom.warn("wait", f"The database is waited for. {refusals.in_words(error)}")
            time.sleep(AGAIN_SECONDS)


def run_worker(queue: str, config: Config | None = None) -> None:
    """Work on one queue until told to stop."""
    app = create_app(config)
    with app.app_context():
        wait_for_database(first_start.check_current)
        wait_for_database(lanes.prepare_lanes)
        wait_for_database(queues.installation)
        served = PortalWorker(queue, queues.blocking_client())
        show_life()
        has_started()
        served.serve()


def run_cron(config: Config) -> None:
    """Enqueue what is in the timetable until told to stop."""
    app = create_app(config)
    with app.app_context():
        wait_for_database(first_start.check_current)
        wait_for_database(queues.installation)
        scheduler = PortalCron(queues.client(), logging_level="WARNING")
        scheduler.get_jobs().extend(timetable(config))
        show_life()
        has_started()
        scheduler.serve()


def run_part(part: str, config: Config) -> None:
    """Do the work of one part in this process, until told to stop."""
    if part == "cron":
        run_cron(config)
    else:
        run_worker(queues.MAINTENANCE if part == "maintenance" else queues.DELIVERIES, config)


def load(config: Config) -> None:
    """Load all that the parts need, before they are forked from this process; no connection is
    opened, and no thread begun, which a fork could not share."""
    create_app(config)
    configure_mappers()
    has_loaded()


def main(part: str, processes: int) -> None:
    """Start one part in this process, or several as children that are kept running: a part by its
    name, or "all"; so many processes that deliver, or (0) as many as PORTAL_WORKERS says."""
    os.umask(0o077)
    try:
        config = load_config()
    except SettingError as error:
        sys.exit(str(error))
    log_lines.set_up(config.log_level)
    if part in ("maintenance", "cron") or (part == "deliver" and processes in (0, 1)):
        run_part(part, config)
        return
    count = processes or config.workers
    parts = {f"deliver-{number + 1}": "deliver" for number in range(count)}
    if part == "all":
        parts |= {name: name for name in ("maintenance", "cron")}
    load(config)
    sys.exit(keep_running({name: partial(run_part, kind, config) for name, kind in parts.items()}))
