"""Redis: the wake-up call. Nothing here is needed for an event to be delivered sooner or later.

Queue names and dotted job paths live here, so that a stage can enqueue without importing jobs.
Every name in Redis holds that of the installation: several may share a server, whose channels know
no database numbers, and even a database of it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable
from functools import partial

from flask import Flask, current_app
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer
from sqlalchemy.exc import SQLAlchemyError

from portal import runtime
from portal.errors import Unavailable
from portal.installation import installation as installation
from portal.installation import key as key
from portal.redis_replies import bounded
from portal.redis_trouble import TROUBLE, Beside, RedisTrouble
from portal.strange_keys import forget_job, is_queued

DELIVERIES, MAINTENANCE = "deliveries", "maintenance"
DRAIN = "portal.jobs.drain"
SWEEP = "portal.jobs.sweep"
PURGE = "portal.jobs.purge"
SUMMARIZE = "portal.jobs.summarize"
RECOVER = "portal.jobs.recover"
NOTIFY = "portal.jobs.notify"
MEASURE = "portal.jobs.measure"
LOOK_AT_CERTIFICATES = "portal.jobs.look_at_certificates"
JOB_PATHS = (DRAIN, SWEEP, PURGE, SUMMARIZE, MEASURE, RECOVER, NOTIFY, LOOK_AT_CERTIFICATES)

NO_TIMEOUT = -1
"""A drain ends by itself when its lane is idle."""
TIMEOUTS = dict.fromkeys(JOB_PATHS, 180) | {
    DRAIN: NO_TIMEOUT,
    PURGE: 600,
    RECOVER: 600,
    LOOK_AT_CERTIFICATES: 600,
}
"""How long each job may take, in seconds, whatever Redis says of one."""
QUEUED_SECONDS = 0.5
"""How long a lane's job counts as queued without asking again: a worker that takes it listens for
far longer, and until one does every event would ask."""

IDLE_SECONDS = 6
"""How long it stands that a worker has nothing to do; one that waits for a job says it again every
two seconds."""

PROTOCOL = 2
"""Of Redis (RESP). In the third whoever reaches it can have it send any connection messages that it
did not ask for (CLIENT TRACKING REDIRECT), in any number, between an answer and its question."""

NO_NAME = (Unavailable, SQLAlchemyError)
"""What the database may raise when the name of this installation is asked for. Whoever wakes others
has committed: nothing that goes wrong then makes their answer an error."""

_log = logging.getLogger(__name__)


class Queues:
    """What one process has of them; `address` is that of Redis."""

    def __init__(self, address: str):
        self.client = bounded(
            Redis.from_url(
                address,
                socket_timeout=1,
                socket_connect_timeout=1,
                retry=Retry(NoBackoff(), 0),
                protocol=PROTOCOL,
            )
        )
        self.queued_at: dict[int, float] = {}
        """When the job of each lane was queued last."""
        self.beside = Beside()


def client() -> Redis:
    """The process's connection for short commands: it gives up after a second and does not
    retry, because a request may be waiting."""
    return runtime.part(Queues).client


def blocking_client() -> Redis:
    """A connection for a worker, which waits on it; not longer by trying again, while Redis hangs
    the worker looks for work elsewhere."""
    return bounded(
        Redis.from_url(
            current_app.config["PORTAL"].redis_url,
            health_check_interval=30,
            socket_connect_timeout=1,
            retry=Retry(NoBackoff(), 0),
            protocol=PROTOCOL,
        )
    )


def answers() -> bool:
    """Whether Redis answers now; asked for a second."""
    try:
        return client().ping() is True
    except TROUBLE as error:
        runtime.part(RedisTrouble).leave_alone(error, "work is looked for in the database")
        return False


def name_of(queue: str) -> str:
    """What RQ calls one of the two queues. Raises Unavailable."""
    return f"{queue}-{installation()}"


def queue_of(queue: str) -> Queue:
    """One of the two queues. Raises Unavailable."""
    return Queue(name_of(queue), connection=client(), serializer=JSONSerializer)


def wake_channel(lane: int) -> str:
    """Where the owner of a lane listens for new work."""
    return key("wake", lane)


def idle_channel() -> str:
    """Where a worker that has nothing to do says so."""
    return key("idle")


def wake(lanes: Iterable[int]) -> None:
    """Tell the owners of lanes that there is work; a lane that nobody owns gets a drain job.

    Called after the commit. Never raises for a Redis that is down, or whatever that answers: the
    sweep finds the work. Who calls does not wait for one that is slow, but for its first answer.
    """
    lanes, trouble = sorted(set(lanes)), runtime.part(RedisTrouble)
    if not lanes or trouble.is_left_alone:
        return
    if not trouble.is_slow:
        lanes = _tell(lanes)
        if not trouble.is_slow:
            _enqueue(lanes)
            return
    if lanes:
        runtime.part(Queues).beside.add(lanes, partial(_wake_in, current_app._get_current_object()))  # type: ignore[attr-defined]


def _wake_in(app: Flask, lanes: list[int]) -> None:
    with app.app_context():
        if not runtime.part(RedisTrouble).is_left_alone:
            _enqueue(_tell(lanes))


def _tell(lanes: list[int]) -> list[int]:
    """Tell the owners of lanes; which of them nobody has heard of."""
    try:
        pipeline = client().pipeline(transaction=False)
        for lane in lanes:
            pipeline.publish(wake_channel(lane), "work")
        with runtime.part(RedisTrouble).timed():
            heard = pipeline.execute()
        return [
            lane
            for lane, ears in zip(lanes, heard, strict=True)
            if not (type(ears) is int and ears > 0)
        ]
    except TROUBLE as error:
        runtime.part(RedisTrouble).leave_alone(error, "the sweep will find the work")
    except NO_NAME:
        _log.warning("The database was not there to name the queue; the sweep will find the work.")
    return []


def _enqueue(lanes: list[int]) -> None:
    queued_at = runtime.part(Queues).queued_at
    try:
        for lane in lanes:
            if time.monotonic() - queued_at.get(lane, -1.0) > QUEUED_SECONDS:
                queued_at[lane] = time.monotonic()
                enqueue_drain(lane)
    except TROUBLE as error:
        runtime.part(RedisTrouble).leave_alone(error, "the sweep will find the work")
    except NO_NAME:
        _log.warning("The database was not there to name the queue; the sweep will find the work.")


def enqueue_drain(lane: int) -> None:
    """Queue the job that drains a lane, unless it is queued or running."""
    queue = queue_of(DELIVERIES)
    try:
        queue.enqueue(
            DRAIN,
            lane,
            job_id=drain_job_id(lane),
            unique=True,
            job_timeout=TIMEOUTS[DRAIN],
            result_ttl=0,
            failure_ttl=3_600,
            description=f"drain lane {lane}",
        )
    except DuplicateJobError:
        return


def replace_drain(lane: int) -> None:
    """Queue a lane's drain job although RQ may still know one: for a lane whose owner is gone.

    A killed worker leaves its job marked as started, which would keep a new one out for many
    minutes.
    """
    queue, job_id = queue_of(DELIVERIES), drain_job_id(lane)
    if not is_queued(queue, job_id):
        forget_job(queue, job_id)
        enqueue_drain(lane)


def this_process() -> str:
    """Machine and number of this process, as others know it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def ask_for_lane(name: str | None = None) -> bool:
    """Say that a process (this one, when none is named) has nothing to do, to those who have more
    than they can send; False when Redis does not answer."""
    name = name or this_process()
    try:
        pipeline = client().pipeline(transaction=False)
        pipeline.set(key("idle-worker"), name, ex=IDLE_SECONDS)
        pipeline.publish(idle_channel(), name)
        pipeline.execute()
    except TROUBLE as error:
        runtime.part(RedisTrouble).note(error, "no lane was asked for")
        return False
    return True


def is_lane_asked_for() -> bool:
    """Whether another process has nothing to do; says so to one caller alone, so that it gets one
    lane."""
    try:
        name = client().getdel(key("idle-worker"))
    except TROUBLE as error:
        runtime.part(RedisTrouble).note(error, "no lane is handed over")
        return False
    return isinstance(name, bytes) and name != this_process().encode()


def drain_job_id(lane: int) -> str:
    """The one ID of a lane's drain job."""
    return f"drain-{installation()}-{lane}"


def enqueue_recovery(recovery_id: str, token: int) -> None:
    """Queue the next run of a recovery. Called after the commit; never raises for a Redis that
    is down: the sweep queues it later."""
    try:
        queue_of(MAINTENANCE).enqueue(
            RECOVER,
            recovery_id,
            token,
            job_id=recovery_job_id(recovery_id, token),
            job_timeout=TIMEOUTS[RECOVER],
            result_ttl=0,
            failure_ttl=3_600,
            description=f"recovery {recovery_id}",
        )
    except (*TROUBLE, *NO_NAME) as error:
        runtime.part(RedisTrouble).note(error, "the sweep will find the recovery")


def enqueue_next(path: str) -> None:
    """Queue one more run of a job that leaves some of its work to the next, unless one waits.
    Never raises for a Redis that is down: cron queues it again."""
    try:
        queue = queue_of(MAINTENANCE)
        first = f"next-{path.rpartition('.')[2]}-{installation()}-"
        if not is_queued(queue, first, is_start=True):
            # A name of its own: that of the run which queues it is taken until that has ended.
            queue.enqueue(
                path,
                job_id=f"{first}{time.time_ns()}",
                result_ttl=0,
                failure_ttl=3_600,
                description=f"{path}, what was left",
            )
    except (*TROUBLE, *NO_NAME) as error:
        runtime.part(RedisTrouble).note(error, "cron does so later")


def enqueue_purge(token: int) -> None:
    """Queue the next run of the clean-up. Called after the commit; never raises for a Redis that
    is down: the sweep queues it later."""
    try:
        queue_of(MAINTENANCE).enqueue(
            PURGE,
            token,
            job_id=purge_job_id(token),
            job_timeout=TIMEOUTS[PURGE],
            result_ttl=0,
            failure_ttl=3_600,
            description="clean-up",
        )
    except (*TROUBLE, *NO_NAME) as error:
        runtime.part(RedisTrouble).note(error, "the sweep will find the clean-up")


def waits_for_purge(token: int) -> bool:
    """Whether a run of the clean-up waits for its turn in the queue."""
    return is_queued(queue_of(MAINTENANCE), purge_job_id(token))


def purge_job_id(token: int) -> str:
    """The ID of the job of one run."""
    return f"clean-up-{installation()}-{token}"


def waits_for_recovery(recovery_id: str, token: int) -> bool:
    """Whether a run of a recovery waits for its turn in the queue."""
    return is_queued(queue_of(MAINTENANCE), recovery_job_id(recovery_id, token))


def recovery_job_id(recovery_id: str, token: int) -> str:
    """The ID of the job of one run."""
    return f"{recovery_id}-{installation()}-{token}"
