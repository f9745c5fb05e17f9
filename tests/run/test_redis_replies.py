"""Whatever size somebody's values and messages in Redis have, no process needs memory for them."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from portal import jobs, queues
from portal.redis_replies import MOST_BYTES, bounded
from portal.run.worker import PortalWorker
from tests.false_redis import FalseRedis

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


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.get("large"),
        lambda client: client.lrange("larges", 0, -1),
        lambda client: client.hgetall("many"),
        lambda client: client.lrange("list", 0, -1),
        lambda client: client.pipeline().ping().get("large").execute(),
    ],
)
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


@pytest.fixture
def dripping() -> Iterator[FalseRedis]:
    """A server in the place of Redis that sends byte by byte."""
    server = FalseRedis()
    server.drip = 0.4
    yield server
    server.close()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "answer", [b"$10\r\n0123456789\r\n", b"+0123456789\r\n", b"*3\r\n:1\r\n:2\r\n:3\r\n"]
)
def test_an_answer_that_comes_byte_by_byte_has_one_time_for_all(
    dripping: FalseRedis, protocol: int, answer: bytes
):
    dripping.drip = 0.0
    with bounded(
        Redis.from_url(
            f"{dripping.url}?protocol={protocol}", socket_timeout=0.6, retry=Retry(NoBackoff(), 0)
        )
    ) as client:
        client.ping()
        dripping.answer, dripping.drip = answer, 0.4
        for ask in (
            lambda: client.get("x"),
            lambda: client.pipeline(transaction=False).get("a").get("b").execute(),
        ):
            started = time.monotonic()
            with pytest.raises(RedisTimeout):
                ask()
            assert time.monotonic() - started < 2


def test_all_by_which_a_connection_is_made_has_one_time(dripping: FalseRedis):
    with bounded(
        Redis.from_url(
            dripping.url, protocol=2, db=1, socket_timeout=2.5, retry=Retry(NoBackoff(), 0)
        )
    ) as client:
        started = time.monotonic()
        with pytest.raises(RedisTimeout):
            client.ping()
        # Each of three answers takes two seconds.
        assert 2 < time.monotonic() - started < 4


@pytest.mark.parametrize("protocol", [2, 3])
def test_who_waits_for_a_message_has_its_own_time(valkey: str, redis: Redis, protocol: int):
    with bounded(Redis.from_url(f"{valkey}?protocol={protocol}", socket_timeout=0.3)) as client:
        listening = client.pubsub()
        listening.subscribe("channel")
        assert listening.get_message(timeout=5)
        time.sleep(0.5)
        assert listening.get_message(timeout=0) is None
        redis.publish("channel", "x" * 100_000)
        message = listening.get_message(timeout=5)
        assert message is not None
        assert message["data"] == b"x" * 100_000
        listening.close()


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
    monkeypatch.setattr(PortalWorker, "_install_signal_handlers", lambda _: None)
    queue = Queue(queues.name_of(queues.MAINTENANCE), connection=redis, serializer=JSONSerializer)
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
