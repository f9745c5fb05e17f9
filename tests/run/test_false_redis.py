"""Whatever stands in the place of Redis and answers: events are taken, deliveries made, tries
limited, and no process ends."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask, current_app
from flask.testing import FlaskClient
from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import StopRequested

from portal import jobs, queues, redis_trouble, runtime, signs
from portal.delivery import lanes
from portal.delivery.wakes import Wakes
from portal.journal.seldom import Seldom
from portal.models import Merchant
from portal.queues import Queues
from portal.redis_replies import bounded
from portal.redis_trouble import RedisTrouble
from portal.run import scheduling
from portal.run.scheduling import PortalCron, timetable
from portal.run.worker import PortalWorker
from portal.upkeep import vitals
from portal.web import policy_reports
from portal.web.limit_counts import LimitCounts
from tests.factories import make_webhook
from tests.false_redis import FalseRedis

WRONG = {
    "no number": b":x\r\n",
    "deep": b"*1\r\n" * 3_000,
    "unhashable": b"%1\r\n*0\r\n_\r\n",
    "empty push": b">0\r\n",
    "pushes": b">1\r\n+x\r\n" * 3_000 + b"+OK\r\n",
    "bad length": b"$x\r\n",
    "map": b"%0\r\n",
    "list": b"*0\r\n",
    "nil": b"_\r\n",
    "nothing": b"$-1\r\n",
    "negative": b":-1\r\n",
    "moved": b"-MOVED x\r\n",
    "asking": b"-ASK x\r\n",
    "no float": b",nan\r\n",
    "float": b"(1e5\r\n",
    "long": b":" + b"9" * 5_000 + b"\r\n",
    "text": b"+x\r\n",
    "number": b":0\r\n",
    "lists": b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
}
Wait = Callable[..., None]
every_wrong_answer = pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
in_either_protocol = pytest.mark.parametrize("protocol", [2, 3])


@pytest.fixture
def false_redis(protocol: int) -> Iterator[FalseRedis]:
    """Where PORTAL_REDIS_URL leads."""
    server = FalseRedis()
    server.url += f"?protocol={protocol}"
    yield server
    server.close()


@pytest.fixture
def settings(false_redis: FalseRedis) -> dict[str, str]:
    return {"REDIS_URL": false_redis.url}


def forget_trouble() -> None:
    """Ask Redis again at once although it did not answer, or has a job, since a moment ago."""
    runtime.of(current_app).put(RedisTrouble, RedisTrouble())
    runtime.part(Queues).queued_at.clear()


class Watcher:
    """One whose socket of wake-up calls always has something."""

    woken = True

    def watch(self, _fd: int) -> None: ...
    def unwatch(self, _fd: int) -> None: ...


@every_wrong_answer
@in_either_protocol
def test_events_are_taken_and_nothing_that_is_asked_for_them_raises(
    app: Flask,
    client: FlaskClient,
    merchant: Merchant,
    api_key: str,
    false_redis: FalseRedis,
    answer: bytes,
):
    make_webhook(merchant, "https://receiver.example.com/")
    false_redis.answer = answer
    event = {"type": "order.created", "object_id": "1", "data": {}}
    for _ in range(2):
        forget_trouble()
        accepted = client.post(
            "/api/v1/events", json=event, headers={"Authorization": f"Bearer {api_key}"}
        )
        assert accepted.status_code == 202
    for ask in (
        lambda: queues.ask_for_lane("x"),
        queues.is_lane_asked_for,
        signs.show,
        lambda: queues.enqueue_recovery("rec_1", 1),
        lambda: queues.enqueue_purge(1),
        lambda: queues.enqueue_next(queues.MEASURE),
        vitals.redis_state,
        vitals.workers_state,
        lambda: policy_reports._is_new("x"),
        queues.answers,
        lambda: queues.wake([1]),
    ):
        forget_trouble()
        ask()
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json["database"]) == (200, "ok")  # type: ignore[index]


@every_wrong_answer
@in_either_protocol
def test_the_count_of_the_process_holds(false_redis: FalseRedis, answer: bytes):
    counts = LimitCounts("", address=false_redis.url, trouble=RedisTrouble(), socket_timeout=1)
    false_redis.answer = answer
    name = "LIMITS/ann/10/1/minute"
    assert [counts.incr(name, 60) for _ in range(12)] == list(range(1, 13))
    assert counts.get(name) == 12
    assert counts.get_expiry(name) > 0


@every_wrong_answer
@in_either_protocol
def test_a_worker_looks_for_work_by_itself_and_a_drain_listens_to_nobody(
    app: Flask, false_redis: FalseRedis, answer: bytes, monkeypatch: pytest.MonkeyPatch
):
    worker = PortalWorker(queues.DELIVERIES, queues.blocking_client())
    done: list[int] = []

    def drain(lane: int) -> None:
        wakes = Wakes(Watcher())
        wakes.listen(lane)
        assert not wakes.called()
        wakes.close()
        done.append(lane)
        if len(done) == 2:
            worker.request_stop(15, None)
        raise TypeError("a defect ends no worker")

    monkeypatch.setattr(jobs, "drain", drain)
    monkeypatch.setattr(lanes, "forgotten", lambda: [1])
    monkeypatch.setattr("portal.run.worker.AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("portal.run.worker.WAIT_SECONDS", 1)
    monkeypatch.setattr(PortalWorker, "_install_signal_handlers", lambda _: None)
    false_redis.answer = answer
    worker.serve()
    assert done == [1, 1]


@every_wrong_answer
@in_either_protocol
def test_cron_goes_on(
    app: Flask, false_redis: FalseRedis, answer: bytes, monkeypatch: pytest.MonkeyPatch
):
    cron = PortalCron(queues.client(), logging_level="WARNING")
    cron.get_jobs().extend(timetable(app.config["PORTAL"]))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise StopRequested

    monkeypatch.setattr(scheduling.time, "sleep", sleep)
    monkeypatch.setattr(PortalCron, "_install_signal_handlers", lambda _: None)
    monkeypatch.setattr(FalseRedis, "_send", lambda _, connection, text: connection.sendall(text))
    false_redis.answer = answer
    cron.serve()
    assert len(slept) == 2


@pytest.mark.parametrize("protocol", [2])
@pytest.mark.parametrize("heard", [b"$-1\r\n", b"*0\r\n", b":-1\r\n", b"+x\r\n", b":0\r\n"])
def test_who_is_not_said_to_have_heard_has_not(
    app: Flask, false_redis: FalseRedis, monkeypatch: pytest.MonkeyPatch, heard: bytes
):
    queued: list[int] = []
    monkeypatch.setattr(queues, "enqueue_drain", queued.append)
    queues.installation()
    forget_trouble()
    false_redis.answer = heard
    queues.wake([1])
    assert queued == [1] or runtime.part(RedisTrouble).is_left_alone


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_that_nobody_asked_for_hold_no_answer(valkey: str, protocol: int):
    """Somebody else's CLIENT TRACKING has them sent to another's connection."""
    ours = bounded(Redis.from_url(f"{valkey}?protocol={protocol}"))
    with Redis.from_url(valkey, protocol=2, single_connection_client=True) as other:
        try:
            other.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", ours.client_id())
            names = [f"name-{number}" for number in range(3_000)]
            for name in names:
                other.get(name)
            with Redis.from_url(valkey) as third:
                third.mset(dict.fromkeys(names, "x"))
            # Where something came unasked a connection is made anew, or fails as if it had gone.
            with contextlib.suppress(RedisError):
                assert ours.get("name-1") == b"x"
            assert ours.get("name-1") == b"x"
        finally:
            ours.close()


@pytest.mark.parametrize("protocol", [2])
def test_who_posts_waits_for_no_redis_that_is_slow_and_the_work_is_told_all_the_same(
    app: Flask, false_redis: FalseRedis, wait_for: Wait
):
    queues.client().ping()
    false_redis.delay = 0.4
    queues.wake([0])
    false_redis.asked.clear()
    started = time.monotonic()
    for lane in range(1, 5):
        queues.wake([lane])
    assert time.monotonic() - started < 0.3
    # The first by itself, and those that came meanwhile at once.
    wait_for(lambda: false_redis.asked.count(b"PUBLISH") >= 4, 10)
    assert runtime.part(RedisTrouble).is_slow
    false_redis.delay = 0.0

    def is_quick() -> bool:
        queues.wake([5])
        return not runtime.part(RedisTrouble).is_slow

    wait_for(is_quick, 10)


@pytest.mark.parametrize("protocol", [2])
def test_a_lane_that_nobody_owns_is_queued_beside_who_posts(
    app: Flask, false_redis: FalseRedis, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
):
    queued: list[tuple[int, str]] = []
    monkeypatch.setattr(
        queues, "enqueue_drain", lambda lane: queued.append((lane, threading.current_thread().name))
    )
    monkeypatch.setattr(redis_trouble, "SLOW_SECONDS", -1.0)
    queues.client().ping()
    false_redis.answer = b":0\r\n"
    queues.wake([1])
    wait_for(lambda: queued == [(1, "beside")], 10)


@pytest.mark.parametrize("protocol", [2])
def test_readyz_says_that_redis_is_slow_and_asks_it_once_a_second(
    client: FlaskClient, false_redis: FalseRedis
):
    queues.client().ping()
    false_redis.delay = 0.15
    said = [client.get("/readyz").json["redis"] for _ in range(3)]  # type: ignore[index]
    assert said == ["slow"] * 3
    assert false_redis.asked.count(b"INFO") < 3


@pytest.mark.parametrize("protocol", [2])
def test_readyz_waits_for_redis_once(client: FlaskClient, false_redis: FalseRedis):
    queues.client().ping()
    false_redis.delay = 0.9
    started = time.monotonic()
    assert client.get("/readyz").json["redis"] == "unavailable"  # type: ignore[index]
    assert time.monotonic() - started < 2.5


@pytest.mark.parametrize("protocol", [2])
def test_what_is_the_matter_with_redis_is_said_and_without_what_the_server_says(
    client: FlaskClient,
    false_redis: FalseRedis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    log = logging.getLogger("portal.redis_trouble")
    monkeypatch.setattr(redis_trouble, "_seldom", Seldom(log, 60))
    false_redis.answer = b"-NOPERM this user at a-secret.example may not\r\n"
    for _ in range(3):
        queues.wake([1])
        forget_trouble()
    answer = client.get("/readyz")
    assert answer.json is not None
    assert (answer.json["redis"], answer.json["redis_trouble"]) == (
        "unavailable",
        "it forbids a command",
    )
    assert "secret" not in answer.text
    assert caplog.text.count("the sweep will find the work") == 1
    assert "this user at a-secret.example may not" in caplog.text
