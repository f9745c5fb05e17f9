"""Many machines: PostgreSQL and Redis on one, the web on another, workers on two more, each with a
network, a hostname and a data directory of its own (docs/scale.md)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.machines import STORE, Machines, missing
from tests.faults.world import ORDER, Sender, World

pytestmark = [pytest.mark.faults, pytest.mark.skipif(bool(missing()), reason=missing())]

EAST = ("worker-east", "maintenance-east", "cron-east")
WEST = ("worker-west", "maintenance-west", "cron-west")


@pytest.fixture
def portal(directory: Path) -> Iterator[World]:
    """A running portal on four machines."""
    machines = Machines(directory, "east", "west")
    world = None
    try:
        world = World(directory, "postgresql", machines, LANES="4")
        world.start("valkey", "web", *EAST, *WEST)
        world.wait_for_workers(2)
        yield world
    finally:
        if world:
            world.close()
        machines.close()


def cut_power(portal: World, name: str) -> None:
    """End a machine as a power cut does: it says nothing to anyone."""
    assert portal.machines is not None
    portal.machines.unplug(name)
    for part in portal.parts:
        if portal.machines.of(part) == name:
            portal.kill(part)


def owners(portal: World) -> set[str]:
    """The machines that own lanes now."""
    rows = portal.rows("SELECT owner FROM lane WHERE owner IS NOT NULL")
    return {owner.partition(":")[0] for (owner,) in rows}


def test_each_machine_takes_its_part_and_each_delivery_is_made_once(portal: World):
    for _ in range(8):
        portal.webhook()
    portal.receiver.delay = 0.02
    ids: set[str] = set()
    working: set[str] = set()
    for _ in range(6):
        ids |= portal.send(50)
        portal.wait(lambda: bool(owners(portal)), 20)
        working |= owners(portal)
        time.sleep(0.5)
    portal.judge(ids)
    assert working == {"east", "west"}
    assert set(Counter(portal.receiver.ids()).values()) == {8}


def test_a_machine_that_loses_its_power_is_taken_over(portal: World):
    for ordered in (False, False, False, True):
        portal.webhook(ordered=ordered)
    portal.receiver.delay = 0.1
    with Sender(portal, per_second=40, threads=4) as sender:
        portal.wait(lambda: owners(portal) == {"east", "west"}, 20)
        time.sleep(1)
        cut_power(portal, "east")
        cut_at = time.monotonic()
        before = len(sender.accepted)
        portal.wait(lambda: owners(portal) == {"west"}, 40, "west owns every lane")
        taken_over = time.monotonic() - cut_at
        time.sleep(3)
    assert len(sender.accepted) > before
    assert not sender.refused
    portal.judge(sender.accepted)
    assert taken_over < 25


def test_a_power_cut_in_the_middle_of_a_transaction_holds_nobody(portal: World):
    """What the dead machine had locked is free when the database has noticed."""
    for name in WEST:
        portal.kill(name)
    for _ in range(8):
        portal.webhook()
    ids = portal.send(5)
    portal.wait(lambda: len(portal.receiver.ledger) >= 40, 20)
    portal.judge(ids)
    with portal.locked("attempt"):
        ids |= portal.send(5)
        portal.wait(lambda: len(portal.receiver.ledger) >= 80, 20)
        # East has locked the rows of its lanes, and waits for the table.
        portal.wait(
            lambda: bool(
                portal.rows(
                    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND "
                    "query LIKE 'COPY%'"
                )
            ),
            20,
        )
        cut_power(portal, "east")
    cut_at = time.monotonic()
    portal.start(*WEST)
    portal.judge(ids, seconds=60)
    assert time.monotonic() - cut_at < 40


def test_a_machine_that_is_cut_off_and_comes_back_writes_nothing_late(portal: World):
    assert portal.machines is not None
    for _ in range(8):
        portal.webhook()
    with Sender(portal, per_second=40, threads=4) as sender:
        portal.wait(lambda: owners(portal) == {"east", "west"}, 20)
        portal.machines.unplug("east")
        portal.wait(lambda: owners(portal) == {"west"}, 40, "west owns every lane")
        time.sleep(5)
        portal.machines.plug_in("east")
        time.sleep(5)
    assert not sender.refused
    portal.judge(sender.accepted)


def test_a_store_that_cannot_be_reached_is_a_503_within_seconds(portal: World):
    assert portal.machines is not None
    portal.webhook()
    ids = portal.send(5)
    portal.judge(ids)
    portal.machines.unplug(STORE)
    found: list[tuple[float, int]] = []

    def post() -> None:
        started = time.monotonic()
        status, _ = portal.call("POST", "/api/v1/events", ORDER)
        found.append((time.monotonic() - started, status))

    for _ in range(4):
        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    portal.machines.plug_in(STORE)
    assert {status for _, status in found} == {503}
    assert max(seconds for seconds, _ in found) < 14
    portal.wait(lambda: portal.call("POST", "/api/v1/events", ORDER)[0] == 202, 30)
    portal.judge(ids | portal.send(5))
    assert portal.running() == portal.parts.keys(), "nothing ends because the store is away"
