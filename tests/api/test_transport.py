"""Bodies as they come over a socket, at the server that the portal runs on."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from portal import create_app
from portal.config import load_config
from portal.db.session import db
from portal.models import Event
from portal.people import accounts
from tests.api.caller import check_problem
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
MIB = 1_048_576
JSON = {"Content-Type": "application/json"}


@dataclass
class Server:
    """A running web process, its key, and a look into its database."""

    port: int
    key: str
    engine: sa.Engine

    def events(self) -> int:
        with self.engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(Event.__table__)) or 0

    def send(
        self,
        body: bytes,
        *,
        path: str = "/events",
        method: str = "POST",
        headers: dict[str, str] = JSON,
        declared: int | None = None,
        chunk: int | None = None,
    ) -> tuple[int, str, Any]:
        """Status, content type and content of the answer. With `chunk` the body comes in chunks
        of this size; `declared` lies about its length."""
        head = {"Host": "127.0.0.1", "Authorization": f"Bearer {self.key}", "Connection": "close"}
        head |= headers
        if chunk is None:
            head["Content-Length"] = str(len(body) if declared is None else declared)
        else:
            head["Transfer-Encoding"] = "chunked"
        lines = [f"{method} /api/v1{path} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            connection.sendall(body if chunk is None else _chunked(body, chunk))
            if declared is not None:
                connection.shutdown(socket.SHUT_WR)
            response = HTTPResponse(connection, method=method)
            response.begin()
            content = response.read()
            return (
                response.status,
                response.headers["Content-Type"],
                json.loads(content) if content else None,
            )


def _chunked(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    settings = {
        "PORTAL_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "PORTAL_PORT": str(port),
        # Nobody listens there: what is answered must not need Redis.
        "PORTAL_REDIS_URL": "redis://127.0.0.1:1",
        "PORTAL_SECRET_KEY": "k" * 40,
    }
    app = create_app(load_config(settings, first_start=True))
    with app.app_context():
        db.create_all()
        merchant = accounts.create_merchant("alice", "Alice's store", "cli", active=True)
        key = accounts.create_key(merchant, "write", "", "cli")
        engine = db.engine
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "granian",
            "--interface",
            "rsgi",
            "--http",
            "1",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "wsgi:front",
        ],
        cwd=ROOT,
        env=dict(os.environ) | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(port, process)
        yield Server(port, key, engine)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        engine.dispose()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended at its start"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server did not start within 30 s")


def _event(size: int) -> bytes:
    frame = b'{"type":"order.created","data":{"text":"%b"}}'
    return frame % (b"a" * (size - len(frame % b"")))


def _batch(size: int) -> bytes:
    events = [{"type": "order.created", "data": {"text": "a" * 900_000}}] * 15
    text = json.dumps({"events": events})
    # White space fills it to the byte.
    return (text[:-1] + " " * (size - len(text)) + "}").encode()


@pytest.mark.parametrize("chunk", [None, 1_000, 65_536, 2 * MIB])
def test_an_event_of_exactly_the_limit_is_stored(server: Server, chunk: int | None) -> None:
    before = server.events()
    status, _, content = server.send(_event(MIB), chunk=chunk)
    assert (status, content["deliveries"]) == (202, 0)
    assert server.events() == before + 1


@pytest.mark.parametrize("chunk", [None, 1_000, 65_536, 2 * MIB])
@pytest.mark.parametrize("size", [MIB + 1, 3 * MIB, 16 * MIB + 1, 20 * MIB])
def test_an_event_over_the_limit_is_refused(server: Server, chunk: int | None, size: int) -> None:
    before = server.events()
    status, kind, content = server.send(_event(size), chunk=chunk)
    assert status == 413
    check_problem(kind, content, 413)
    assert server.events() == before


@pytest.mark.parametrize("chunk", [None, 65_536])
def test_a_batch_of_exactly_its_limit_is_stored(server: Server, chunk: int | None) -> None:
    before = server.events()
    status, _, content = server.send(_batch(16 * MIB), chunk=chunk)
    assert (status, len(content["data"])) == (202, 15)
    assert server.events() == before + 15


@pytest.mark.parametrize("chunk", [None, 65_536])
def test_a_batch_over_its_limit_is_refused(server: Server, chunk: int | None) -> None:
    before = server.events()
    status, kind, content = server.send(_batch(16 * MIB + 1), chunk=chunk)
    assert status == 413
    check_problem(kind, content, 413)
    assert server.events() == before


@pytest.mark.parametrize("chunk", [None, 65_536])
@pytest.mark.parametrize("path", ["/webhooks", "/event-types"])
def test_other_bodies_have_the_limit_of_one_event(
    server: Server, path: str, chunk: int | None
) -> None:
    body = json.dumps({"description": "a" * MIB}).encode()
    status, kind, content = server.send(body, path=path, chunk=chunk)
    assert status == 413
    check_problem(kind, content, 413)


def test_a_body_that_ends_early_is_not_taken_for_a_whole_one(server: Server) -> None:
    before = server.events()
    status, kind, content = server.send(b'{"type":"order.created"}', declared=1_000)
    assert status == 400
    check_problem(kind, content, 400)
    assert server.events() == before


def test_a_gzip_bomb_is_not_unpacked(server: Server) -> None:
    before = server.events()
    bomb = gzip.compress(b'{"type":"order.created","data":{"a":"' + b"a" * 100_000_000 + b'"}}')
    status, kind, content = server.send(bomb, headers=JSON | {"Content-Encoding": "gzip"})
    assert status == 415
    check_problem(kind, content, 415)
    assert server.events() == before


@pytest.mark.parametrize("chunk", [None, 1_000])
def test_another_content_type_is_refused(server: Server, chunk: int | None) -> None:
    headers = {"Content-Type": "text/plain"}
    status, kind, content = server.send(_event(500_000), headers=headers, chunk=chunk)
    assert status == 415
    check_problem(kind, content, 415)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/nothing", 404),
        ("GET", "/events/evt_nothing", 404),
        ("DELETE", "/events", 405),
        ("PUT", "/webhooks", 405),
        ("PROPFIND", "/events", 405),
    ],
)
def test_wrong_addresses_and_methods_are_problems(
    server: Server, method: str, path: str, status: int
) -> None:
    answered, kind, content = server.send(b"", method=method, path=path)
    assert answered == status
    check_problem(kind, content, status)


def test_a_key_that_is_not_text_is_unknown(server: Server) -> None:
    status, kind, content = server.send(b"", headers={"Authorization": "Bearer \x80ÿ"})
    assert status == 401
    check_problem(kind, content, 401)
