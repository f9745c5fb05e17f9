"""HAZARDS, "Faults": Redis is wiped, away, hung or full."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.conftest import on_both_databases
from tests.faults.world import Sender, World, p99

pytestmark = [pytest.mark.faults, on_both_databases]

Make = Callable[..., World]
POLICIES = (
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
)
away = pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP], ids=["stopped", "hung"])


def test_flushall_with_ten_thousand_queued(world: Make):
    """F5: nothing lost, nobody does anything."""
    portal = world("valkey", "web")
    portal.webhook(max_in_flight=200)
    ids = portal.send(10_000)
    portal.redis.flushall()
    portal.start("worker-1", "worker-2", "maintenance", "cron")
    portal.wait(lambda: len(portal.receiver.ledger) > 500, 30)
    portal.redis.flushall()
    portal.judge(ids, seconds=120)


@away
def test_redis_away_at_fifty_events_a_second(world: Make, stop: signal.Signals):
    """F6, F7: every answer 202, p99 under 2 s, then drained."""
    portal = world()
    portal.webhook()
    with Sender(portal, per_second=50, threads=8) as sender:
        time.sleep(2)
        portal.signal("valkey", stop)
        time.sleep(60)
        if stop == signal.SIGSTOP:
            portal.signal("valkey", signal.SIGCONT)
        else:
            portal.start("valkey")
        time.sleep(2)
    assert portal.running() == portal.parts.keys(), "nothing ends because Redis is away"
    assert not sender.refused
    assert len(sender.accepted) > 1_600
    assert p99(sender.seconds) < 2
    portal.judge(sender.accepted)


@away
def test_events_that_come_while_redis_is_away_are_delivered_meanwhile(
    world: Make, stop: signal.Signals
):
    """F6, F7 with idle workers: they find the work in the database."""
    portal = world()
    portal.webhook()
    portal.signal("valkey", stop)
    ids = portal.send(300)
    portal.judge(ids)
    assert portal.running() >= {"web", "worker-1", "worker-2", "maintenance", "cron"}


@pytest.mark.parametrize("working", [False, True], ids=["idle workers", "busy workers"])
def test_a_redis_that_hangs_keeps_deliveries_back_for_seconds_only(world: Make, working: bool):
    """F7: whether the workers wait for a job at that moment, or deliver."""
    portal = world()
    portal.webhook()
    portal.wait_for_workers(2)
    if working:
        portal.judge(portal.send(20))
    accepted: dict[str, float] = {}
    portal.signal("valkey", signal.SIGSTOP)
    try:
        end = time.time() + 25
        while time.time() < end:
            (event_id,) = portal.send(1)
            accepted[event_id] = time.time()
            time.sleep(0.2)
        time.sleep(5)
    finally:
        portal.signal("valkey", signal.SIGCONT)
    waits = sorted(
        request.at - accepted[request.headers["webhook-id"]]
        for request in portal.receiver.ledger
        if request.headers["webhook-id"] in accepted
    )
    assert len(waits) == len(accepted), "all were delivered while Redis hung"
    assert max(waits) < 6
    assert waits[len(waits) // 2] < 1.5
    portal.judge(set(accepted))


def test_redis_full(world: Make):
    """F8: nothing lost, whichever the policy; readiness says degraded."""
    portal = world()
    portal.webhook()
    ids: set[str] = set()
    for policy in POLICIES:
        portal.redis.config_set("maxmemory-policy", policy)
        portal.redis.config_set("maxmemory", "1100kb")
        ids |= portal.send(100)
        status, answer = portal.call("GET", "/readyz")
        assert (status, answer["status"]) == (200, "degraded"), policy
        portal.judge(ids)
        portal.redis.config_set("maxmemory", "0")
    assert portal.running() == portal.parts.keys(), "nothing ends because Redis is full"
