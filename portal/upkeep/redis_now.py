"""The queues and workers as Redis knows them now, for the page that shows the system's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from portal import queues
from portal.redis_trouble import TROUBLE
from portal.strange_keys import moment_of, readable

WORKERS_SHOWN = 200
WORKERS_ASKED = 1_000
"""Whoever writes into Redis may have put any number of names among those of workers."""


@dataclass(frozen=True)
class QueueNow:
    """A queue: how many jobs wait, are being done, and failed within the last hour."""

    name: str
    waiting: int
    running: int
    failed: int


@dataclass(frozen=True)
class WorkerNow:
    """A worker as Redis knows it; `seen_at` is its last sign of life (Unix µs)."""

    name: str
    process: str
    queue: str
    state: str
    job: str
    seen_at: int | None


def queues_and_workers() -> tuple[list[QueueNow], list[WorkerNow]] | tuple[None, None]:
    """The queues and the workers; None for both while Redis does not answer."""
    try:
        return queues_now(), workers_now()
    except TROUBLE:
        return None, None


def queues_now() -> list[QueueNow]:
    """Both queues as they are. Raises RedisError when Redis does not answer."""
    found = []
    for name in (queues.DELIVERIES, queues.MAINTENANCE):
        queue = queues.queue_of(name)
        pipeline = queues.client().pipeline(transaction=False)
        pipeline.llen(queue.key)
        # Not RQ's own counts, which first look through the registry and clean it.
        for registry in (queue.started_job_registry, queue.failed_job_registry):
            pipeline.zcard(registry.key)
        found.append(QueueNow(name, *pipeline.execute()))
    return found


def workers_now() -> list[WorkerNow]:
    """The workers that Redis knows, WORKERS_SHOWN at most, by queue and machine. Raises RedisError
    when Redis does not answer."""
    # Not RQ's own objects: making one raises the time-out of the connection to minutes.
    redis = queues.client()
    found: set[Any] = set()
    for queue in (queues.DELIVERIES, queues.MAINTENANCE):
        found |= _workers_of(queue)
    keys = sorted(found)[:WORKERS_SHOWN]
    pipeline = redis.pipeline(transaction=False)
    for worker in keys:
        pipeline.hgetall(worker)
    workers = [
        readable(fields) if isinstance(fields, dict) else {}
        for fields in pipeline.execute(raise_on_error=False)
    ]
    # One that ended without a word stays in the list for a while, and says nothing.
    living = [
        WorkerNow(
            worker.decode(errors="replace").rpartition(":")[2][:8],
            f"{fields.get('hostname', '?')}, process {fields.get('pid', '?')}",
            fields.get("queues", "").removesuffix(f"-{queues.installation()}"),
            fields.get("state", "?"),
            fields.get("current_job", ""),
            moment_of(fields.get("last_heartbeat")),
        )
        for worker, fields in zip(keys, workers, strict=True)
        if fields
    ]
    return sorted(living, key=lambda worker: (worker.queue, worker.process))


def _workers_of(queue: str) -> set[Any]:
    found: Any = queues.client().srandmember(
        WORKERS_BY_QUEUE_KEY % queues.name_of(queue), WORKERS_ASKED
    )
    return set(found)
