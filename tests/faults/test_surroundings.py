"""HAZARDS, "Faults": the clock jumps, webhooks are taken away, the clean-up dies, names fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import on_both_databases
from tests.faults.world import ROOT, Sender, World, p99
from tests.nameserver import NXDOMAIN, SERVFAIL, WORKS, NameServer

pytestmark = [pytest.mark.faults, on_both_databases]

Make = Callable[..., World]
HOUR = 3_600


@pytest.fixture
def moved_clock(directory: Path) -> Callable[[int], None]:
    """`moved_clock(seconds)`: moves the clock of every process that is started with it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("moving the clock of a process needs a C compiler")
    library, seconds = directory / "clock.so", directory / "clock"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, ROOT / "tests/faults/clock.c"],
        check=True,
    )
    seconds.write_bytes(bytes(8))

    def move(by: int) -> None:
        with seconds.open("r+b") as file:
            file.write(by.to_bytes(8, "little", signed=True))

    return move


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
def test_the_clock_jumps_and_jumps_back(
    world: Make, directory: Path, moved_clock: Callable[[int], None], jump: int
):
    """F15: nothing lost, no burst."""
    portal = world("valkey")
    portal.environment |= {
        "LD_PRELOAD": str(directory / "clock.so"),
        "MOVED_CLOCK": str(directory / "clock"),
    }
    portal.start("web", "worker-1", "worker-2", "maintenance", "cron")
    portal.webhook()
    portal.webhook(ordered=True)
    with Sender(portal, per_second=20) as sender:
        portal.wait(lambda: len(portal.receiver.ledger) > 20, 30)
        moved_clock(jump)
        time.sleep(5)
        # What comes now is still owed when the clock jumps back.
        for name in ("worker-1", "worker-2"):
            portal.parts[name].terminate()
        for name in ("worker-1", "worker-2"):
            assert portal.parts[name].wait(40) == 0
        time.sleep(2)
        moved_clock(0)
        portal.start("worker-1", "worker-2")
        time.sleep(3)
    portal.judge(sender.accepted, seconds=90)
    # One to each webhook, and what was under way at a jump again.
    again = [count for count in Counter(portal.receiver.ids()).values() if count > 2]
    assert len(again) < len(sender.accepted) / 4


@pytest.mark.parametrize("change", ["disable", "delete"])
def test_a_webhook_taken_away_while_it_is_retried(world: Make, change: str):
    """F16: it stops, and the log says so."""
    portal = world()
    webhook_id = portal.webhook()
    portal.receiver.always = 500
    portal.send(5)
    portal.wait(lambda: len(portal.receiver.ledger) >= 10, 30)
    if change == "disable":
        portal.call("POST", f"/api/v1/webhooks/{webhook_id}/disable", {"reason": "Too loud."})
    else:
        portal.call("DELETE", f"/api/v1/webhooks/{webhook_id}")
    time.sleep(2)
    count = len(portal.receiver.ledger)
    time.sleep(6)
    assert len(portal.receiver.ledger) == count
    _, answer = portal.call("GET", "/api/v1/deliveries?limit=10")
    states = {row["state"] for row in answer["data"]}
    assert states == ({"held"} if change == "disable" else {"discarded"})
    if change == "delete":
        assert {row["reason"] for row in answer["data"]} == {"The webhook was deleted."}


def test_the_clean_up_killed_in_the_middle_of_full_ingest(world: Make):
    """F17: no active row deleted, resumable, ingest hardly slower."""
    portal = world("valkey", "web", "worker-1", "cron")
    portal.webhook(max_in_flight=100)
    old = portal.send(6_000)
    portal.judge(old)
    past = int((time.time() - 90 * 86_400) * 1e6)
    portal.execute(f"UPDATE event SET received_at = {past}")
    portal.execute(f"UPDATE event_payload SET received_at = {past}")
    portal.execute(f"UPDATE delivery SET created_at = {past}")
    portal.receiver.always = 500
    waiting = portal.send(20)
    portal.execute(
        f"UPDATE event SET received_at = {past} WHERE id IN "
        "(SELECT event_id FROM delivery WHERE state = 'pending')"
    )
    portal.receiver.always = 200
    with Sender(portal, per_second=50, threads=4) as calm:
        time.sleep(6)
    with Sender(portal, per_second=50, threads=4, name="b") as sender:
        portal.start("clean-up")
        portal.wait(lambda: portal.rows("SELECT count(*) FROM event")[0][0] < 6_000, 30)
        portal.kill("clean-up")
        assert portal.rows(f"SELECT 1 FROM event WHERE received_at = {past} LIMIT 1")
        portal.start("clean-up")
        assert portal.parts["clean-up"].wait(120) == 0
    left = {row[0] for row in portal.rows("SELECT id FROM event")}
    assert not old & left
    assert sender.accepted <= left
    assert p99(sender.seconds) < max(3 * p99(calm.seconds), 0.5)
    portal.judge(calm.accepted | sender.accepted | waiting)


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    """A resolver of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("a resolver of one's own needs root, for its port and /etc/resolv.conf")
    try:
        server = NameServer()
    except OSError as error:
        pytest.skip(f"a resolver cannot listen on {NameServer.ADDRESS}:53 here ({error})")
    yield server
    server.close()


def test_names_cannot_be_resolved(world: Make, directory: Path, name_server: NameServer):
    """F18: retried; fails closed; goes on when names are resolved again."""
    portal = world("valkey", "web", RETRY_SCHEDULE="0" + 19 * " 1")
    portal.prefix = name_server.in_its_world(directory)
    portal.webhook(f"http://shop.example.com:{portal.receiver.port}/hook")
    portal.start("worker-1", "maintenance", "cron")
    ids = portal.send(1)
    errors: list[str] = []

    def fails_as(error: str) -> None:
        def came() -> bool:
            rows = portal.rows("SELECT error FROM attempt ORDER BY id")
            return [row[0] for row in rows][len(errors) :].count(error) > 0

        portal.wait(came, 30, error)
        errors[:] = [row[0] for row in portal.rows("SELECT error FROM attempt ORDER BY id")]

    fails_as("connect_timeout")
    for says in (NXDOMAIN, SERVFAIL):
        name_server.says = says
        fails_as("dns_failed")
    name_server.close()
    fails_as("dns_failed")
    assert not portal.receiver.ledger
    again = NameServer()
    again.says = WORKS
    portal.judge(ids)
    again.close()
    assert portal.states() == {"succeeded": 1}, portal.rows("SELECT error FROM attempt")
