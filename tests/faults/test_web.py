"""HAZARDS, "Faults": the web is killed while events come in."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable

import pytest

from tests.conftest import on_both_databases
from tests.faults.world import ORDER, Sender, World

pytestmark = [pytest.mark.faults, on_both_databases]

Make = Callable[..., World]


def test_the_web_killed_while_events_come_in(world: Make):
    """F3: nothing that was answered is lost, and a repeat with its ID makes no second."""
    portal = world()
    portal.webhook()
    with Sender(portal, per_second=60, threads=4) as sender:
        for _ in range(4):
            time.sleep(1.5)
            portal.kill("web")
            portal.start("web")
        time.sleep(1.0)
    assert sender.refused, "the kills were felt"
    stored = portal.rows("SELECT count(*), count(DISTINCT id) FROM event")[0]
    assert stored[0] == stored[1]
    assert sender.accepted <= {row[0] for row in portal.rows("SELECT id FROM event")}
    portal.judge(sender.accepted)


def test_the_web_killed_before_the_commit_and_after_it(world: Make):
    """F3: the event is absent; or present, and a repeat with its ID makes no second."""
    portal = world("valkey", "web")
    portal.webhook()

    def post(event_id: str) -> None:
        with contextlib.suppress(OSError):
            portal.call("POST", "/api/v1/events", ORDER | {"id": event_id})

    def stored() -> set[str]:
        return {row[0] for row in portal.rows("SELECT id FROM event")}

    with portal.locked("event"):
        sender = threading.Thread(target=post, args=("before",))
        sender.start()
        time.sleep(1.5)
        portal.kill("web")
    sender.join()
    time.sleep(0.5)
    assert stored() == set()
    portal.start("web")
    # Redis hangs, so the web is for a second between its commit and its answer.
    portal.signal("valkey", signal.SIGSTOP)
    sender = threading.Thread(target=post, args=("after",))
    sender.start()
    portal.wait(lambda: stored() == {"after"}, 10)
    portal.kill("web")
    sender.join()
    portal.signal("valkey", signal.SIGCONT)
    portal.start("web", "worker-1", "maintenance", "cron")
    for event_id in ("before", "after"):
        status, answer = portal.call("POST", "/api/v1/events", ORDER | {"id": event_id})
        assert (status, answer) == (202, {"id": event_id, "deliveries": 1})
    portal.judge({"before", "after"})
    assert sorted(portal.receiver.ids()) == ["after", "before"]


def test_a_crash_between_commit_and_enqueue(world: Make):
    """F4: swept within one interval."""
    portal = world()
    portal.webhook()
    portal.send(1)
    portal.judge(set())
    # A row as a web process leaves it that dies after its commit: nobody is told.
    portal.wait(lambda: not portal.rows("SELECT 1 FROM lane WHERE leased_until > 0"), 30)
    portal.execute(
        "UPDATE delivery SET state = 'pending', finished_at = NULL, next_attempt_at = created_at"
    )
    started = time.monotonic()
    portal.wait(lambda: len(portal.receiver.ledger) == 2, 10)
    assert time.monotonic() - started < 5
    portal.wait(lambda: portal.states() == {"succeeded": 1}, 10)
