"""What lies in Redis under the portal's names and is not the portal's: whoever can write there may
have written anything. It is taken away or passed over, so that it delays deliveries by one sweep at
most and does not keep them from being made.
"""

from __future__ import annotations

import contextlib
import logging
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError
from rq import Queue
from rq.job import Job
from rq.registry import BaseRegistry
from rq.utils import as_text, utcparse
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from portal.clock import SECOND
from portal.journal.seldom import Seldom

MOST = 10_000
"""Entries of a queue, or of a list that RQ keeps. The portal has a job for each lane, and one for
each recovery that goes on; what is taken away with the others its sweep queues anew."""
MOST_BYTES = 65_536
"""What a job holds, unpacked; the portal's hold an ID or a number."""
_SIZES = {"list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN"}

_seldom = Seldom(logging.getLogger(__name__), 60)


def is_queued(queue: Queue, job_id: str, *, is_start: bool = False) -> bool:
    """Whether a job waits in a queue, or (`is_start`) one whose ID begins so. Not by RQ's list of
    IDs, which is not to be had where one of them is no text. Raises RedisError."""
    wanted = job_id.encode()
    waiting: list[Any] = queue.connection.lrange(queue.key, 0, MOST)
    return any(one.startswith(wanted) for one in waiting) if is_start else wanted in waiting


def forget_job(queue: Queue, job_id: str) -> None:
    """Delete a job, or what somebody wrote in its place, unread: RQ reads it first, so what cannot
    be read, or takes all memory, would stay, and keep the job of that name out for ever. Raises
    RedisError where Redis does not answer."""
    redis, registry = queue.connection, queue.started_job_registry.key
    redis.unlink(Job.key_for(job_id), f"rq:executions:{job_id}")
    # Where it is of another type, make_way deletes it.
    with contextlib.suppress(ResponseError):
        begun: list[Any] = redis.zrange(registry, 0, MOST)
        runs = [entry for entry in begun if entry.startswith(f"{job_id}:".encode())]
        if runs:
            redis.zrem(registry, *runs)


def names_of(queue: Queue) -> dict[str, str]:
    """What has the name of a queue and of the lists RQ keeps for it, with the type of each."""
    return {
        queue.key: "list",
        queue.intermediate_queue_key: "list",
        Queue.redis_queues_keys: "set",
        REDIS_WORKER_KEYS: "set",
        WORKERS_BY_QUEUE_KEY % queue.name: "set",
        **{registry.key: "zset" for registry in _registries(queue)},
    }


def make_way(redis: Redis, names: Mapping[str, str]) -> None:
    """Delete what has one of these names and is of another type, which would refuse every command;
    and what is longer than the portal's can be, which would have to be gone through. Raises
    RedisError."""
    pipeline = redis.pipeline(transaction=False)
    for name, wanted in names.items():
        pipeline.type(name)
        pipeline.execute_command(_SIZES[wanted], name)
    answers = pipeline.execute(raise_on_error=False)
    for (name, wanted), kind, size in zip(names.items(), answers[::2], answers[1::2], strict=True):
        if isinstance(kind, RedisError):
            raise kind
        if as_text(kind) not in (wanted, "none"):
            fault = f"{name} was no {wanted}"
        elif isinstance(size, int) and size > MOST:
            fault = f"{name} had {size:,} entries"
        else:
            continue
        redis.unlink(name)
        _tell(fault)


def tidy(queue: Queue) -> None:
    """Take away what is over, and what workers that were killed have left. RQ would read each of
    these jobs, and of other users' what it has for those. Raises RedisError."""
    redis, moment = queue.connection, time.time()
    begun: list[Any] = redis.zrangebyscore(
        queue.started_job_registry.key, "-inf", moment, start=0, num=MOST
    )
    pipeline = redis.pipeline(transaction=False)
    for entry in begun:
        pipeline.unlink(Job.redis_job_namespace_prefix.encode() + entry.partition(b":")[0])
    for registry in _registries(queue):
        pipeline.zremrangebyscore(registry.key, "-inf", moment)
    # A job that a worker took, and was killed before it began, the sweep or cron queues anew.
    pipeline.unlink(queue.intermediate_queue_key)
    pipeline.execute()
    for name in (WORKERS_BY_QUEUE_KEY % queue.name, REDIS_WORKER_KEYS):
        workers: list[Any] = list(redis.smembers(name))
        for worker in workers:
            pipeline.exists(worker)
        gone = [
            worker
            for worker, is_there in zip(workers, pipeline.execute(), strict=True)
            if not is_there
        ]
        if gone:
            redis.srem(name, *gone)


def unpacked(fields: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What a hash holds that is to be a job, without what its last failure was, which nobody reads;
    a job's text is unpacked, within a bound. Raises ValueError beyond it: a kilobyte can be packed
    into which a gigabyte goes."""
    found = {name: value for name, value in fields.items() if name != b"exc_info"}
    text = found.get(b"data")
    if text is None:
        return found
    with contextlib.suppress(zlib.error):
        packed = zlib.decompressobj()
        text = packed.decompress(text, MOST_BYTES)
        if not packed.eof:
            raise ValueError("it is too large")
    # What is packed twice does not begin so.
    if len(text) > MOST_BYTES or not text.startswith(b"["):
        raise ValueError("it is no job's text")
    return found | {b"data": text}


def moment_of(text: bytes | str | None) -> int | None:
    """The time that RQ wrote down, in Unix µs; None for what is none."""
    with contextlib.suppress(ValueError, OverflowError):
        return int(utcparse(as_text(text)).timestamp() * SECOND) if text else None
    return None


def readable(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """What a hash holds, whatever that is."""
    return {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in fields.items()
    }


def _registries(queue: Queue) -> Iterable[BaseRegistry]:
    return (
        queue.started_job_registry,
        queue.finished_job_registry,
        queue.failed_job_registry,
        queue.deferred_job_registry,
        queue.scheduled_job_registry,
        queue.canceled_job_registry,
    )


def _tell(what: str) -> None:
    _seldom.warn(
        "strange",
        f"Deleted from Redis what is none of the portal's: {what[:200]!a}. Somebody "
        "else writes into it.",
    )
