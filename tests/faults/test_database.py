"""HAZARDS, "Faults": the database is locked, full, killed, away."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import on_both_databases
from tests.faults import disk
from tests.faults.world import ORDER, Sender, World

pytestmark = pytest.mark.faults

Make = Callable[..., World]
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@pytest.mark.parametrize(("seconds", "answers"), [(3, {202}), (30, {202, 503})])
def test_sqlite_write_locked(world: Make, seconds: int, answers: set[int]):
    """F12: waits, then 503 with Retry-After, never a false 202."""
    portal = world()
    portal.webhook()
    found: set[int] = set()
    accepted: set[str] = set()

    def post() -> None:
        status, answer = portal.call("POST", "/api/v1/events", ORDER)
        found.add(status)
        if status == 202:
            accepted.add(answer["id"])

    with portal.locked("event"):
        first = threading.Thread(target=post)
        first.start()
        time.sleep(seconds)
    first.join(20)
    post()
    assert found == answers
    portal.judge(accepted)


def test_who_watches_is_answered_while_eighty_writers_wait_for_a_lock(world: Make):
    """F12: what waits is refused in time, and leaves threads for others."""
    portal = world("valkey", "web", LOG_LEVEL="INFO")
    refused: list[int] = []
    waits: list[tuple[float, float]] = []

    def post() -> None:
        with contextlib.suppress(OSError):
            refused.append(portal.call("POST", "/api/v1/events", ORDER)[0])

    with portal.locked("event"):
        threads = [threading.Thread(target=post) for _ in range(80)]
        for thread in threads:
            thread.start()
        since = time.monotonic()
        while (moment := time.monotonic() - since) < 20:
            assert portal.call("GET", "/healthz")[0] == 200
            waits.append((moment, time.monotonic() - since - moment))
            time.sleep(0.2)
        status, answer = portal.call("GET", "/readyz")
        assert (status, answer["cause"]) == (503, "locked")
        for thread in threads:
            thread.join(30)
    assert refused == [503] * 80
    # What a busy machine adds; those that wait for the database have places of their own.
    assert max(wait for _, wait in waits) < 2
    assert "holds the database's lock" in (portal.directory / "web.log").read_text()


@pytest.fixture
def on_a_small_disk(directory: Path, database: str) -> Iterator[World]:
    """A running portal with all that it stores, Redis included, on a disk that can be filled."""
    if reason := disk.missing():
        pytest.skip(reason)
    with disk.mounted(directory, 250 if database == "postgresql" else 60):
        # The disk is smaller than what should be free of it.
        portal = World(directory, database, DISK_FREE_MB="0")
        try:
            portal.start()
            yield portal
        finally:
            portal.close()


@on_both_databases
def test_the_disk_is_full(on_a_small_disk: World):
    """F13: 503 with a sentence, nothing half-stored, pages load; goes on when there is room."""
    portal = on_a_small_disk
    portal.webhook()
    browser = portal.sign_in()
    with Sender(portal, per_second=40, threads=4) as sender:
        time.sleep(2)
        disk.fill(portal.directory / "filler")
        portal.wait(lambda: sender.refused["503"] >= 20, 60)
        answer = browser.post(
            f"{portal.url}/api/v1/events",
            json=ORDER,
            timeout=15,
            headers={"Authorization": f"Bearer {portal.key}"},
        )
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert "nothing was stored" in answer.json()["detail"]
        page = browser.get(f"{portal.url}/m/alice/webhooks", timeout=15)
        # PostgreSQL may have ended by now: it does when its own log has no room.
        assert page.status_code in ((200, 503) if portal.postgres else (200,))
        time.sleep(3)
        (portal.directory / "filler").unlink()
        if "postgres" in portal.parts.keys() - portal.running():
            # A service manager starts it again.
            portal.start("postgres")
        before = len(sender.accepted)
        portal.wait(lambda: len(sender.accepted) > before + 40, 60)
    assert portal.running() == portal.parts.keys(), "nothing of ours ends because the disk is full"
    portal.judge(sender.accepted)
    if not portal.postgres:
        assert portal.rows("PRAGMA integrity_check") == [("ok",)]


@on_postgresql
def test_postgresql_backends_killed(world: Make):
    """F14: reconnects, nothing lost."""
    portal = world()
    portal.webhook()
    with Sender(portal, per_second=50, threads=4) as sender:
        for _ in range(5):
            time.sleep(1)
            portal.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        time.sleep(1)
    portal.judge(sender.accepted)


@on_postgresql
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["restarted", "killed"])
def test_postgresql_away_for_twenty_seconds(world: Make, stop: signal.Signals):
    """F14: 503 meanwhile, reconnects, nothing lost, nobody does anything."""
    portal = world()
    portal.webhook()
    with Sender(portal, per_second=50, threads=4) as sender:
        time.sleep(2)
        portal.signal("postgres", stop)
        portal.parts["postgres"].wait(20)
        portal.start("worker-3")
        time.sleep(20)
        before = len(sender.accepted)
        portal.start("postgres")
        portal.wait(lambda: len(sender.accepted) > before + 40, 30)
    assert sender.refused.keys() == {"503"}
    assert portal.running() == portal.parts.keys(), "nothing ends because the database is away"
    portal.judge(sender.accepted)
