"""How a worker notes that a job has ended.

RQ's own way is for all that its jobs can have: it reads the names of those that wait for this one,
however many there are, and begins again as often as somebody writes there meanwhile, which may be
for ever. The portal's jobs have nobody who waits for them, no results that are read, and are not
repeated; so their end is written down in one go, whatever lies there.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from rq import Queue, SimpleWorker
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job, JobStatus
from rq.results import Result

from portal.journal.seldom import Seldom
from portal.processes import has_stepped

DONE_SECONDS = 60
"""How long a job is to be seen that was done and does not ask to be forgotten at once."""
FAILED_SECONDS = 3_600
"""How long a job is to be seen that failed."""
LONG_SECONDS = 5.0
"""The log says when Redis takes longer to note that a job has ended."""

_seldom = Seldom(logging.getLogger(__name__), 60)


class EndingWorker(SimpleWorker):
    """An RQ worker, in the same process as its jobs, that ends them in one go."""

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """RQ's. A process whose job goes on for long after its time is taken as hanging."""
        super().prepare_job_execution(job, remove_from_intermediate_queue)
        has_stepped(max(0, job.timeout or Queue.DEFAULT_TIMEOUT))

    def _finalize_success(
        self, job: Job, queue: Queue, execution: Execution, return_value: Any
    ) -> None:
        job._result = return_value
        self.handle_job_success(job, queue, queue.started_job_registry, execution)

    def _finalize_failure(
        self, job: Job, queue: Queue, execution: Execution, exc_info: Any
    ) -> None:
        self.handle_exception(job, *exc_info)
        self.handle_job_failure(job, queue, execution=execution)

    def handle_job_success(
        self,
        job: Job,
        queue: Queue,  # noqa: ARG002 - as RQ has it
        started_job_registry: Any,  # noqa: ARG002
        execution: Execution,
    ) -> None:
        """RQ's, without dependents, results and repeats."""
        self._end(job, execution, JobStatus.FINISHED, 0 if job.result_ttl == 0 else DONE_SECONDS)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,  # noqa: ARG002
        started_job_registry: Any = None,  # noqa: ARG002
        exc_string: str = "",  # noqa: ARG002
        execution: Execution | None = None,
    ) -> None:
        """RQ's, without dependents, results and retries."""
        self._end(job, execution, JobStatus.FAILED, FAILED_SECONDS)

    def _end(self, job: Job, execution: Execution | None, status: JobStatus, seconds: int) -> None:
        has_stepped()
        started = time.monotonic()
        pipeline = self.connection.pipeline()
        if execution is not None:
            self.executions.pop(execution.id, None)
            pipeline.unlink(execution.key)
            pipeline.zrem(job.started_job_registry.key, execution.composite_key)
            pipeline.srem(execution.worker_executions_key, execution.composite_key)
        pipeline.unlink(
            job.dependents_key,
            job.dependencies_key,
            Result.get_key(job.id),
            ExecutionRegistry(job.id, self.connection).key,
        )
        if seconds:
            pipeline.hset(job.key, "status", status)
            pipeline.expire(job.key, seconds)
        else:
            pipeline.unlink(job.key)
        if status is JobStatus.FAILED:
            pipeline.zadd(job.failed_job_registry.key, {job.id: time.time() + seconds})
        name = "failed" if status is JobStatus.FAILED else "successful"
        pipeline.hincrby(self.key, f"{name}_job_count", 1)
        pipeline.execute()
        took = time.monotonic() - started
        if took > LONG_SECONDS:
            _seldom.warn("long", f"Redis took {took:.0f} s to note that a job has ended.")
