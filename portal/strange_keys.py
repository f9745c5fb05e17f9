"""What lies in Redis under the portal's names and is not the portal's: whoever can write there may
have written anything. It is taken away or passed over, so that it delays deliveries by one sweep at
most and does not keep them from being made.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as NoAnswer
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import as_text, utcparse
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from portal.clock import SECOND
from portal.seldom import Seldom

_seldom = Seldom(logging.getLogger(__name__), 60)


def is_queued(queue: Queue, job_id: str, *, is_start: bool = False) -> bool:
    """Whether a job waits in a queue, or (`is_start`) one whose ID begins so. Not by RQ's list of
    IDs, which is not to be had where one of them is no text. Raises RedisError."""
    wanted = job_id.encode()
    waiting: list[Any] = queue.connection.lrange(queue.key, 0, -1)
    return any(one.startswith(wanted) for one in waiting) if is_start else wanted in waiting


def forget_job(redis: Redis, job_id: str) -> None:
    """Delete a job, or what somebody wrote in its place: RQ reads it first, so what cannot be read
    would stay, and keep the job of that name out for ever. Raises RedisError where Redis does not
    answer."""
    try:
        Job.fetch(job_id, connection=redis, serializer=JSONSerializer).delete()
    except NoSuchJobError:
        # Also what is there, and has nothing of a job.
        redis.delete(Job.key_for(job_id))
    except (NotConnected, NoAnswer):
        raise
    except Exception as error:  # noqa: BLE001 - whoever wrote it may have written anything
        redis.delete(Job.key_for(job_id))
        _tell(f"the job {job_id} could not be read ({type(error).__name__})")


def make_way(queue: Queue) -> None:
    """Delete what has the name of a queue, or of a list that RQ keeps for it, and is of another
    type: it would refuse every command. Raises RedisError."""
    names = {
        queue.key: "list", queue.intermediate_queue_key: "list",
        Queue.redis_queues_keys: "set", REDIS_WORKER_KEYS: "set",
        WORKERS_BY_QUEUE_KEY % queue.name: "set",
    }
    for registry in (
        queue.started_job_registry, queue.finished_job_registry, queue.failed_job_registry,
        queue.deferred_job_registry, queue.scheduled_job_registry, queue.canceled_job_registry,
    ):
        names[registry.key] = "zset"
    redis = queue.connection
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        pipeline.type(name)
    for (name, wanted), kind in zip(names.items(), pipeline.execute(), strict=True):
        if as_text(kind) not in (wanted, "none"):
            redis.delete(name)
            _tell(f"{name} was no {wanted}")


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


def _tell(what: str) -> None:
    _seldom.warn(
        "strange", f"Deleted from Redis what is none of the portal's: {what[:200]!a}. Somebody "
        "else writes into it."
    )
