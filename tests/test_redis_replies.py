"""Whatever size somebody's values and messages in Redis have, no process needs memory for them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer

from portal import jobs, queues
from portal.redis_replies import MOST_BYTES, bounded
from portal.run import known_jobs
from portal.run.worker import PortalWorker

LARGE = b"x" * 20_000_000


@pytest.fixture
def redis(valkey: str) -> Iterator[Redis]:
    """What somebody else has of the portal's Redis."""
    with Redis.from_url(valkey) as connection:
        yield connection


def pieces(redis: Redis) -> None:
    pipeline = redis.pipeline(transaction=False)
    for start in range(0, 400_000, 50_000):
        numbers = range(start, start + 50_000)
        pipeline.hset("many", mapping=dict.fromkeys(map(str, numbers), "x"))
        pipeline.rpush("list", *numbers)
    pipeline.execute()


def of_client(ask: Callable[[Redis], object]) -> None:
    with pytest.raises(RedisError, match="an answer of more than"):
        ask(queues.client())


@pytest.mark.parametrize("ask", [
    lambda client: client.get("large"),
    lambda client: client.lrange("larges", 0, -1),
    lambda client: client.hgetall("many"),
    lambda client: client.lrange("list", 0, -1),
    lambda client: client.pipeline().ping().get("large").execute(),
])
def test_an_answer_that_is_too_large_is_not_read(
    app: Flask, redis: Redis, ask: Callable[[Redis], object]
):
    redis.set("large", LARGE)
    redis.rpush("larges", *[b"x" * (MOST_BYTES // 4)] * 5)
    pieces(redis)
    queues.client().ping()
    tracemalloc.start()
    try:
        of_client(ask)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Python keeps each small piece as an object.
    assert most < 30 * MOST_BYTES
    if "large" in ask.__code__.co_consts:
        assert most < 2 * MOST_BYTES
    # The next connection serves.
    redis.set("small", b"x" * (MOST_BYTES - 1_000))
    assert len(queues.client().get("small") or b"") == MOST_BYTES - 1_000


@pytest.mark.parametrize("protocol", [2, 3])
def test_either_protocol_is_read(valkey: str, protocol: int):
    with bounded(Redis.from_url(valkey, protocol=protocol)) as client:
        client.hset("hash", mapping={"a": 1})
        assert (client.hgetall("hash"), client.get("nothing")) == ({b"a": b"1"}, None)
        client.set("large", LARGE)
        with pytest.raises(RedisError, match="an answer of more than"):
            client.get("large")


def test_a_worker_goes_on_behind_names_jobs_and_messages_of_any_size(
    app: Flask, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    done: list[int] = []
    monkeypatch.setattr(known_jobs, "_begun_at", {})
    monkeypatch.setattr(PortalWorker, "_install_signal_handlers", lambda _: None)
    queue = Queue(
        queues.name_of(queues.MAINTENANCE), connection=redis, serializer=JSONSerializer
    )
    redis.rpush(queue.key, LARGE, "large")
    redis.hset("rq:job:large", mapping={"data": LARGE, "status": "queued"})
    queue.enqueue(queues.MEASURE)
    worker = PortalWorker(queues.MAINTENANCE, queues.blocking_client())

    def measure() -> None:
        done.append(1)
        worker.request_stop(15, None)

    monkeypatch.setattr(jobs, "measure", measure)
    worker.serve()
    assert done == [1]


def test_a_message_that_is_too_large_ends_listening_alone(app: Flask, redis: Redis):
    listening = queues.client().pubsub()
    listening.subscribe("channel")
    assert listening.get_message(timeout=5)
    redis.publish("channel", LARGE)
    with pytest.raises(RedisError, match="an answer of more than"):
        listening.get_message(timeout=5)
    listening.close()
