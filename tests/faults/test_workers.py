"""HAZARDS, "Faults": workers that are killed, stopped, too many. README.md has the whole list."""

from __future__ import annotations

import itertools
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.conftest import on_both_databases
from tests.faults.world import World
from tests.receiver import Receiver

pytestmark = [pytest.mark.faults, on_both_databases]

Make = Callable[..., World]


def test_a_worker_killed_after_the_answer_and_before_the_commit(world: Make):
    """F1: sent again with the same ID, within lease and sweep."""
    portal = world("valkey", "web", "worker-1", "maintenance", "cron")
    portal.webhook()
    portal.receiver.delay = 0.5
    ids = portal.send(20)
    portal.wait(lambda: len(portal.receiver.ledger) >= 10, 20)
    with portal.locked("attempt"):
        # Every answer comes in meanwhile.
        time.sleep(1.5)
        assert not portal.rows("SELECT 1 FROM attempt")
        portal.kill("worker-1")
    killed_at = time.monotonic()
    portal.receiver.delay = 0
    portal.start("worker-2")
    portal.judge(ids)
    assert time.monotonic() - killed_at < 25, "10 s of lease, 1 s of sweep, and the start"
    assert max(Counter(portal.receiver.ids()).values()) == 2


def test_a_worker_killed_before_the_send(world: Make):
    """F2: at least one request, exactly one final state."""
    portal = world()
    portal.webhook()
    portal.receiver.delay = 1.0
    ids = portal.send(60)
    # Twenty are under way, forty are not sent yet.
    portal.wait(lambda: len(portal.receiver.ledger) >= 10, 20)
    for name in ("worker-1", "worker-2"):
        portal.kill(name)
    portal.receiver.delay = 0
    portal.start("worker-1", "worker-2")
    portal.judge(ids)
    assert portal.states() == {"succeeded": 60}


def test_a_worker_killed_in_the_middle_of_a_body(world: Make):
    """F2: the receiver has half a request, and gets a whole one."""
    portal = world("valkey", "web", "worker-1", "maintenance", "cron")
    half = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)

    def read_half() -> None:
        connection, _ = listener.accept()
        connection.recv(4_096)
        half.set()
        # Not read on, so the receiver has but a part of 2 MB.
        threading.Event().wait(60)

    threading.Thread(target=read_half, daemon=True).start()
    webhook_id = portal.webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/")
    portal.send(1, data={"text": "x" * 2_000_000})
    assert half.wait(30)
    portal.kill("worker-1")
    listener.close()
    portal.execute(
        f"UPDATE webhook SET url = '{portal.receiver.url()}', updated_at = updated_at + 1 "
        f"WHERE id = '{webhook_id}'"
    )
    portal.start("worker-2")
    portal.judge(set())
    assert portal.states() == {"succeeded": 1}
    (request,) = portal.receiver.ledger
    assert len(request.body) > 2_000_000


def test_two_sweepers_and_two_crons(world: Make):
    """F9: one owner a lane, one attempt at a time."""
    portal = world(
        "valkey",
        "web",
        "worker-1",
        "worker-2",
        "worker-3",
        "maintenance-1",
        "maintenance-2",
        "cron-1",
        "cron-2",
    )
    portal.webhook(max_in_flight=1)
    portal.receiver.delay = 0.02
    ids = portal.send(150)
    portal.judge(ids)
    assert Counter(portal.receiver.ids()).most_common(1)[0][1] == 1
    starts = sorted(request.at for request in portal.receiver.ledger)
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert min(gaps) >= 0.015, "one request at a time, whoever owns the lane"


def test_a_worker_stopped_past_its_lease(world: Make):
    """F10: its late writes are refused."""
    portal = world("valkey", "web", "worker-1", "maintenance", "cron")
    portal.webhook()
    portal.receiver.delay = 1.0
    ids = portal.send(10)
    portal.wait(lambda: len(portal.receiver.ledger) >= 5, 20)
    # Nobody can take SQLite's lock from a process that stands still amid a write: then events are
    # answered 503, and the log and /readyz name the process.
    portal.stop_between_writes("worker-1")
    portal.receiver.delay = 0
    portal.start("worker-2")
    portal.judge(ids, seconds=60)
    attempts = portal.rows("SELECT count(*) FROM attempt")
    portal.signal("worker-1", signal.SIGCONT)
    time.sleep(3)
    assert portal.rows("SELECT count(*) FROM attempt") == attempts
    assert portal.states() == {"succeeded": 10}


def test_sigterm_with_fifty_in_flight(world: Make):
    """F11: finished or released within 30 s."""
    portal = world("valkey", "web", "worker-1", "maintenance", "cron")
    portal.webhook(max_in_flight=50)
    portal.receiver.delay = 2.0
    ids = portal.send(200)
    portal.wait(lambda: len(portal.receiver.ledger) >= 50, 20)
    portal.parts["worker-1"].terminate()
    assert portal.parts["worker-1"].wait(30) == 0
    assert not portal.rows("SELECT 1 FROM lane WHERE owner IS NOT NULL")
    logged = portal.rows("SELECT count(*) FROM attempt")[0][0]
    assert logged == len(portal.receiver.ledger)
    portal.receiver.delay = 0
    portal.start("worker-1")
    portal.judge(ids)


def test_one_receiver_that_hangs_among_ten(world: Make):
    """A webhook that hangs slows nobody else, in the whole product."""
    portal = world()
    hanging = Receiver()
    hanging.delay = 10
    portal.webhook(hanging.url())
    for _ in range(10):
        portal.webhook()
    ids = portal.send(50)
    portal.wait(lambda: len(portal.receiver.ledger) == 500, 20)
    hanging.close()
    assert set(portal.receiver.ids()) == ids
