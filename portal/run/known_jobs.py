"""What a worker takes from Redis: the portal's own jobs, and nothing else.

RQ imports what a job names and calls it with what the job holds, so whoever can write into Redis
could have a worker run anything. A job is therefore looked at before RQ does so: its function is
one of queues.JOB_PATHS, its arguments are of that function's types, and it asks for nothing that
the portal does not use, such as callbacks (which RQ imports and calls as well), requests to
addresses, or an object to call the function on. What is not like that is dropped, and the log says
so.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, NoReturn, cast, get_args, get_type_hints

from redis import Redis
from rq import Queue
from rq.exceptions import DequeueTimeout, NoSuchJobError
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from portal import queues, runtime
from portal.jobs import RunningWorker
from portal.journal.seldom import Seldom
from portal.strange_keys import unpacked

NOT_OURS = (
    b"success_callback_name",
    b"failure_callback_name",
    b"stopped_callback_name",
    b"webhooks",
    b"dependency_id",
    b"dependency_ids",
    b"retries_left",
    b"repeats_left",
    b"group_id",
    b"rate_limit_key",
    b"meta",
    b"result",
)
"""What RQ's jobs can have and the portal's never do."""
_UNREADABLE = "unreadable"
_LARGEST, _LONGEST = 2**31 - 1, 100
"""The largest number and the longest text that a job of the portal holds."""
_DAY = 86_400
FEW, AGAIN_SECONDS = 100, 0.5
"""What is done again and again is done no sooner after it was begun where more than these wait: who
writes into Redis may have put any number of them there, and all others would wait behind them."""

_seldom = Seldom(logging.getLogger(__name__), 60)


class KnownJob(Job):
    """A job of the portal. Restoring any other deletes it and raises NoSuchJobError, which RQ
    passes over in silence."""

    def __init__(
        self,
        id: str | None = None,
        connection: Redis | None = None,
        _serializer: Any = None,
        **_serializers: Any,
    ):
        # Whatever is asked for: RQ's own default would load a pickle.
        super().__init__(id, connection, JSONSerializer)

    @classmethod
    def fetch(cls, id: str, connection: Redis | None = None, serializer: Any = None) -> Job:
        """RQ's. Raises NoSuchJobError also for what no job can be called."""
        try:
            return super().fetch(id, connection, serializer)
        except ValueError as error:
            raise NoSuchJobError(str(error)) from error

    def restore(self, raw_data: Mapping[bytes, bytes]) -> None:
        """RQ's; raises NoSuchJobError for all that is not a job of the portal."""
        if asked := [name.decode() for name in NOT_OURS if raw_data.get(name)]:
            fault = f"it has {', '.join(asked)}"
        else:
            try:
                super().restore(unpacked(raw_data))
                fault = _fault_of(self)
            except Exception as error:  # noqa: BLE001 - whoever wrote it may have written anything
                fault = f"it cannot be read ({type(error).__name__})"
        if fault:
            self.drop(fault)
        # One that ended a drain amid its requests would have them sent again.
        self.timeout = queues.TIMEOUTS[str(self.func_name)]
        self.ttl = self.failure_ttl = None
        self.result_ttl = 0 if self.result_ttl == 0 else None

    def drop(self, fault: str) -> NoReturn:
        """Delete it and say why. Raises NoSuchJobError."""
        _seldom.warn(
            "dropped",
            "A job that is none of the portal's was found in Redis, and dropped: "
            f"{fault[:200]!a}. Somebody else writes into it.",
        )
        self.connection.delete(self.key)
        raise NoSuchJobError(fault)


class KnownQueue(Queue):
    """A queue that passes over what is no job's ID, or the ID of a job that does not wait in it."""

    def enqueue_dependents(self, *_: Any, **_how: Any) -> dict[str, list[str]]:
        """RQ's, for jobs that wait for another: the portal has none."""
        return {}

    def move_dependents_to_ready(self, *_: Any, **_how: Any) -> dict[str, list[str]]:
        """RQ's, for jobs that wait for another: it goes on as long as somebody writes there."""
        return {}

    @classmethod
    def lmove(
        cls, connection: Redis, queue_key: str, timeout: int | None
    ) -> tuple[str, bytes | str] | None:
        """RQ's; what cannot be an ID is taken out, and a name that no job has stands for it."""
        found: tuple[str, bytes | str] | None = super().lmove(connection, queue_key, timeout)
        if found is None:
            return None
        name: Any = found[1]
        try:
            name.decode()
        except UnicodeDecodeError:
            IntermediateQueue(queue_key, connection).remove(name)
            return queue_key, _UNREADABLE
        return found

    @classmethod
    def _fetch_dequeued_job(
        cls, connection: Redis, queue_key: str, job_id: str, *args: Any, **kwargs: Any
    ) -> tuple[Job, Queue]:
        """RQ's, which gives None where there is no such job; then the next is taken, and however
        many there are, nothing else is done meanwhile. Raises DequeueTimeout instead."""
        found = super()._fetch_dequeued_job(connection, queue_key, job_id, *args, **kwargs)
        if found is not None and _waits_in(*found):
            return found
        IntermediateQueue(queue_key, connection).remove(job_id)
        raise DequeueTimeout(f"There is no job {job_id[:100]!a}.")


def _waits_in(job: Job, queue: Queue) -> bool:
    """Whether a job is of this queue and waits. One that drains a lane ends when the lane is quiet:
    among the others it would keep all of them waiting."""
    if (job.func_name == queues.DRAIN) != (queue.name == queues.name_of(queues.DELIVERIES)):
        with contextlib.suppress(NoSuchJobError):
            cast(KnownJob, job).drop(f"{job.func_name} does not belong into {queue.name}")
        return False
    # An ID may stand there any number of times.
    if job.get_status(refresh=False) != JobStatus.QUEUED:
        return False
    if not job.args and not _is_time_for(str(job.func_name), queue):
        job.connection.delete(job.key)
        return False
    return True


def _is_time_for(path: str, queue: Queue) -> bool:
    """Whether what is done again and again was not begun just now, or few jobs wait."""
    clock, taken_at = time.monotonic(), runtime.part(RunningWorker).taken_at
    is_soon = clock - taken_at.get(path, float("-inf")) < AGAIN_SECONDS
    if is_soon and queue.connection.llen(queue.key) > FEW:
        return False
    taken_at[path] = clock
    return True


def _fault_of(job: Job) -> str:
    """What keeps a job from being done; empty when nothing does."""
    if job.func_name not in queues.JOB_PATHS:
        return f"it would call {job.func_name}"
    if job.instance is not None or job.kwargs:
        return f"it would call {job.func_name} in another way"
    signature, types = _takes(job.func_name)
    try:
        given = signature.bind(*job.args).arguments
    except TypeError:
        return f"{job.func_name} takes other arguments"
    # Exactly these types: to Python, True is a number.
    if any(type(value) not in types[name] for name, value in given.items()):
        return f"{job.func_name} takes arguments of other types"
    # The databases have no larger numbers, and PostgreSQL no text with a NUL.
    if any(isinstance(value, int) and not 0 <= value <= _LARGEST for value in job.args):
        return f"{job.func_name} takes no such number"
    if any(isinstance(value, str) and not _may_be_an_id(value) for value in job.args):
        return f"{job.func_name} takes no such text"
    # Beyond that Redis refuses what RQ asks it for, which ends the worker's round.
    times = (job.timeout, job.result_ttl, job.failure_ttl, job.ttl)
    if any(one is not None and not -1 <= one <= _DAY for one in times):
        return f"{job.func_name} asks for other times"
    return ""


def _may_be_an_id(text: str) -> bool:
    return text.isascii() and text.isprintable() and len(text) <= _LONGEST


@cache
def _takes(path: str) -> tuple[inspect.Signature, dict[str, tuple[type, ...]]]:
    module, _, name = path.rpartition(".")
    function = getattr(import_module(module), name)
    types = {
        argument: get_args(hint) or (hint,) for argument, hint in get_type_hints(function).items()
    }
    return inspect.signature(function), types
