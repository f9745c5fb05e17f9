"""The web server, by hand as README has it and as bin/run starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from flask import Flask

from portal import queues
from tests.ports import free_port

pytestmark = [pytest.mark.engine, pytest.mark.whole]

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = (0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4)


@pytest.mark.parametrize("seconds", MOMENTS)
@pytest.mark.usefixtures("app")
def test_it_ends_whenever_it_is_told_to(environment: dict[str, str], seconds: float):
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "granian",
            "--interface",
            "rsgi",
            "--http",
            "1",
            "--workers",
            "2",
            "--port",
            str(free_port()),
            "wsgi:front",
        ],
        cwd=ROOT,
        env=os.environ | environment,
        start_new_session=True,
    )
    try:
        # Before its signals are handled SIGTERM simply ends it; after, it ends its workers first.
        time.sleep(seconds)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) in (0, -signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            os.killpg(server.pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


STARTS = {
    "by hand": [
        "-m",
        "granian",
        "--interface",
        "rsgi",
        "--http",
        "1",
        "--workers",
        "2",
        "wsgi:front",
    ],
    "of WSGI": ["-m", "granian", "--interface", "wsgi", "--workers", "2", "wsgi:app"],
    "bin/run": [
        "-c",
        "from portal import config; from portal.run import supervisor; "
        "supervisor.serve(config.load_config())",
    ],
}


@pytest.fixture(params=STARTS)
def address(
    request: pytest.FixtureRequest, environment: dict[str, str], app: Flask
) -> Iterator[str]:
    """The address of a web server of its own, after a first start."""
    queues.installation()
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, *STARTS[request.param]],
        cwd=ROOT,
        start_new_session=True,
        env=os.environ | environment | {"PORTAL_PORT": str(port), "GRANIAN_PORT": str(port)},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: requests.get(f"{address}/healthz", timeout=5).ok, 60)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


def until(is_so: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(requests.ConnectionError):
            if is_so():
                return
        assert time.monotonic() < end
        time.sleep(0.1)


def test_health_waits_behind_no_request_that_waits_for_the_database(
    address: str, api_key: str, tmp_path: Path
):
    def post() -> int:
        return requests.post(
            f"{address}/api/v1/events",
            json={"type": "order.created", "data": {}},
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=60,
        ).status_code

    def seconds(path: str, *statuses: int) -> float:
        began = time.monotonic()
        assert requests.get(f"{address}/{path}", timeout=10).status_code in statuses
        return time.monotonic() - began

    def cause() -> str:
        return str(requests.get(f"{address}/readyz", timeout=5).json().get("cause"))

    with ThreadPoolExecutor(80) as senders:
        with locked(tmp_path / "portal.db"):
            answers = [senders.submit(post) for _ in range(80)]
            time.sleep(1)
            assert not [one for one in answers if one.done()]
            alive = sorted(seconds("healthz", 200) for _ in range(20))
            assert alive[10] < 0.1, alive
            assert alive[-1] < 0.5, alive
            assert seconds("readyz", 200, 503) < 2.5
            until(lambda: cause() == "locked", 10)
        assert {one.result() for one in answers} <= {202, 503}
    assert post() == 202
    until(lambda: cause() == "None", 10)


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program holds the lock for writing."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
