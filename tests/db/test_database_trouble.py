"""When the database takes nothing: what senders hear, what the log and /readyz say, and that all of
it ends by itself."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg.errors
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import DBAPIError

from portal import create_app, database_errors, queues
from portal.config import SettingError, load_config
from portal.db import schema, session
from portal.db.engine_settings import engine_settings
from portal.db.session import db
from portal.delivery import lanes
from portal.diagnosis import shares
from portal.errors import Unavailable
from portal.journal.seldom import Seldom
from portal.run import worker
from portal.upkeep import readiness
from tests.conftest import on_both_databases
from tests.factories import make_merchant, make_webhook
from tests.faults import disk

ROOT = Path(__file__).resolve().parents[2]
EVENT = {"type": "order.created", "data": {"total": "99.50", "name": "canary-of-a-record"}}
Send = Callable[[], Any]


@pytest.fixture
def send(app: Flask, client: FlaskClient, api_key: str) -> Send:
    """Sends an event; its answer."""
    db.session.remove()
    return lambda: client.post(
        "/api/v1/events", json=EVENT, headers={"Authorization": f"Bearer {api_key}"}
    )


@pytest.fixture(autouse=True)
def _asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "KNOWN_SECONDS", 0.0)
    for module in ("portal.upkeep.refusals", "portal.upkeep.readiness"):
        monkeypatch.setattr(f"{module}._log", Seldom(logging.getLogger(module), 10))


def refused(
    send: Send,
    client: FlaskClient,
    caplog: pytest.LogCaptureFixture,
    cause: str,
    *,
    passes: bool = True,
) -> str:
    """Checks that events are refused for this cause; the lines of the log."""
    caplog.clear()
    for _ in range(3):
        answer = send()
        assert answer.status_code == 503, answer.text
        assert "nothing was stored" in answer.json["detail"].lower()
        assert ("Retry-After" in answer.headers) is passes
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json["cause"]) == (503, cause), ready.json
    assert ready.json["detail"].endswith((".", "migrate"))
    said_by = ("portal.upkeep.refusals", "portal.upkeep.readiness")
    lines = [one for one in caplog.records if one.name in said_by]
    assert sum("Refused a request" in one.message for one in lines) == 1
    assert not [one for one in caplog.records if one.exc_info]
    assert "canary-of-a-record" not in caplog.text
    return caplog.text


def accepted(send: Send, client: FlaskClient) -> None:
    """Checks that all is well again."""
    assert send().status_code == 202
    assert client.get("/readyz").status_code == 200


@on_both_databases
@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("UPDATE alembic_version SET version_num = '0001'", "schema-older"),
        ("UPDATE alembic_version SET version_num = '9999'", "schema-newer"),
        ("DELETE FROM alembic_version", "schema-empty"),
    ],
)
def test_a_schema_of_another_version_is_not_ready_for_events(
    client: FlaskClient, app: Flask, statement: str, cause: str
):
    try:
        with db.engine.begin() as connection:
            connection.execute(sa.text(statement))
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json["cause"]) == (503, cause)
        found = schema.trouble()
        assert found is not None
        assert found.name == cause
    finally:
        with db.engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE alembic_version"))


def test_a_database_without_tables_says_what_to_run(
    environment: dict[str, str], caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    sqlite3.connect(tmp_path / "portal.db").execute("VACUUM")
    app = create_app(load_config(environment))
    answer = app.test_client().post(
        "/api/v1/events", json=EVENT, headers={"Authorization": "Bearer whp_x"}
    )
    assert answer.status_code == 503
    assert "Retry-After" not in answer.headers
    assert "bin/portal migrate" in caplog.text
    ready = app.test_client().get("/readyz")
    assert (ready.status_code, ready.json["cause"]) == (503, "schema-empty")
    assert app.test_client().get("/healthz").status_code == 200


def test_an_older_version_does_not_touch_a_newer_database(app: Flask):
    with db.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingError, match="newer than this version"):
        schema.upgrade()


def test_a_damaged_file_is_said_to_be(
    send: Send, client: FlaskClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    db.session.remove()
    db.engine.dispose()
    path = tmp_path / "portal.db"
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    text = refused(send, client, caplog, "damaged", passes=False)
    assert "restore it from a backup" in text


def test_a_file_that_is_no_database_is_said_to_be(
    send: Send, client: FlaskClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    db.session.remove()
    db.engine.dispose()
    for path in tmp_path.glob("portal.db*"):
        path.write_bytes(os.urandom(8192))
    refused(send, client, caplog, "damaged", passes=False)


def test_a_lock_is_trouble_once_events_are_refused_for_it(
    send: Send,
    client: FlaskClient,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    accepted(send, client)
    other = sqlite3.connect(tmp_path / "portal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    # Events wait for longer than this lock has lasted.
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(session, "LOCK_WAIT_MS", 500)
    refused(send, client, caplog, "locked")
    other.execute("ROLLBACK")
    accepted(send, client)


def test_a_lock_is_trouble_once_it_has_outlasted_the_patience_of_events(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(readiness, "LOCK_WAIT_MS", 2_500)
    monkeypatch.setattr(readiness, "PATIENCE_SECONDS", 0.1)
    other = sqlite3.connect(tmp_path / "portal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert client.get("/readyz").status_code == 200
    time.sleep(2.5)
    assert client.get("/readyz").json["cause"] == "locked"
    other.close()
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("table", ["event", "webhook", "alembic_version"])
def test_a_table_that_another_session_has_locked_is_a_503_in_time(
    app: Flask,
    send: Send,
    client: FlaskClient,
    caplog: pytest.LogCaptureFixture,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(session, "LOCK_WAIT_MS", 700)
    monkeypatch.setattr(readiness, "LOCK_WAIT_MS", 700)
    db.engine.dispose()
    with sa.create_engine(db.engine.url).connect() as other:
        other.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        began = time.monotonic()
        if table == "alembic_version":
            assert send().status_code == 202
            client.get("/readyz")
            time.sleep(1)
            assert client.get("/readyz").json["cause"] == "locked"
        else:
            answer = send()
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            assert client.get("/readyz").json["cause"] == "locked"
            assert "holds the database's lock. (canceling statement due to lock" in caplog.text
        assert time.monotonic() - began < 4
    accepted(send, client)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "lacking",
    ["INSERT ON event", "SELECT ON webhook", "INSERT ON delivery", "ALL ON alembic_version"],
)
def test_a_user_who_lacks_a_right_is_said_to(
    app: Flask, send: Send, client: FlaskClient, caplog: pytest.LogCaptureFixture, lacking: str
):
    with db.engine.begin() as owner:
        owner.execute(sa.text("DROP ROLE IF EXISTS clerk"))
        owner.execute(sa.text("CREATE ROLE clerk"))
        owner.execute(sa.text("GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk"))
        owner.execute(sa.text("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO clerk"))
    owner_engine = sa.create_engine(db.engine.url)

    @sa.event.listens_for(db.engine, "connect")
    def be_a_clerk(connection: Any, _record: Any) -> None:
        connection.execute("SET ROLE clerk")
        connection.commit()

    db.session.remove()
    db.engine.dispose()
    try:
        accepted(send, client)
        with owner_engine.begin() as owner:
            owner.execute(sa.text(f"REVOKE {lacking} FROM clerk"))
        if lacking in ("INSERT ON delivery", "ALL ON alembic_version"):
            # An event that nobody hears needs neither.
            assert client.get("/readyz").json["cause"] == "forbidden"
        else:
            refused(send, client, caplog, "forbidden")
    finally:
        sa.event.remove(db.engine, "connect", be_a_clerk)
        db.session.remove()
        db.engine.dispose()
        with owner_engine.begin() as owner:
            owner.execute(sa.text("DROP OWNED BY clerk"))
            owner.execute(sa.text("DROP ROLE clerk"))
        owner_engine.dispose()
    accepted(send, client)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_not_every_text_fits_is_refused(
    app: Flask, environment: dict[str, str], encoding: str
):
    server = sa.create_engine(db.engine.url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sa.text("DROP DATABASE IF EXISTS narrow"))
        connection.execute(
            sa.text(
                f"CREATE DATABASE narrow ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' "
                "TEMPLATE template0"
            )
        )
    narrow = db.engine.url.set(database="narrow").render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-m", "portal", "migrate"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | environment | {"PORTAL_DATABASE_URL": narrow},
    )
    server.dispose()
    assert done.returncode == 1
    assert f"keeps text as {encoding}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_says_why_a_database_takes_nobody_in(environment: dict[str, str], tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "portal", "migrate"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ
        | environment
        | {"PORTAL_DATABASE_URL": f"postgresql://nobody@/none?host={tmp_path}"},
    )
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr, done.stderr


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_statement_that_somebody_cancels_is_not_called_locked(
    app: Flask, send: Send, client: FlaskClient, caplog: pytest.LogCaptureFixture
):
    @sa.event.listens_for(db.engine, "connect")
    def impatient(connection: Any, _record: Any) -> None:
        connection.execute("SET statement_timeout = 300")
        connection.commit()

    db.engine.dispose()
    with sa.create_engine(db.engine.url).connect() as other:
        other.execute(sa.text("LOCK TABLE event IN EXCLUSIVE MODE"))
        assert send().status_code == 503
        assert client.get("/readyz").json["cause"] == "cancelled"
        assert "statement timeout" in caplog.text
    accepted(send, client)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_patience_with_locks_is_the_portals_unless_the_address_has_its_own(
    app: Flask, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    def patience(options: dict[str, str]) -> str:
        url = sa.make_url(environment["PORTAL_DATABASE_URL"]).update_query_dict(options)
        address = {"PORTAL_DATABASE_URL": url.render_as_string(hide_password=False)}
        with create_app(load_config(environment | address)).app_context():
            return str(db.session.scalar(sa.text("SHOW lock_timeout")))

    assert patience({}) == "5s"
    assert patience({"options": "-c work_mem=8MB"}) == "5s"
    assert patience({"options": "-c lock_timeout=1234"}) == "1234ms"
    # A migration waits for another one that has begun, however long that takes.
    monkeypatch.setattr(session, "LOCK_WAIT_MS", 200)
    db.session.remove()
    db.engine.dispose()
    waits = threading.Event()

    def migrate() -> None:
        with app.app_context(), schema.one_at_a_time():
            waits.set()

    with schema.one_at_a_time():
        second = threading.Thread(target=migrate)
        second.start()
        assert not waits.wait(1)
    second.join(10)
    assert waits.is_set()


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture
def may_mount() -> None:
    if reason := disk.missing():
        pytest.skip(reason)


@pytest.mark.usefixtures("may_mount")
def test_a_file_system_that_can_only_be_read(
    send: Send,
    client: FlaskClient,
    api_key: str,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    environment: dict[str, str],
):
    accepted(send, client)
    db.session.remove()
    db.engine.dispose()
    # For a process that runs, and for one that starts while it is so.
    fresh = create_app(load_config(environment)).test_client()
    key = {"Authorization": f"Bearer {api_key}"}
    with read_only(tmp_path):
        # SQLite cannot open the files that it needs for reading beside the database.
        text = refused(send, client, caplog, "unreadable")
        assert "mounted for reading only" in text
        assert fresh.post("/api/v1/events", json=EVENT, headers=key).status_code == 503
        assert fresh.get("/readyz").json["cause"] == "read-only"
        assert "portal.db-turn, the file by which writers take turns" in caplog.text
        db.engine.dispose()
    accepted(send, client)


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    with disk.mounted(directory, 8):
        yield directory


@pytest.fixture
def small_database(may_mount: None, on_a_small_disk: Path) -> str:
    return f"sqlite:///{on_a_small_disk / 'portal.db'}"


class TestOnASmallDisk:
    """A disk that can be filled."""

    @pytest.fixture
    def database(self, small_database: str) -> str:
        """On that disk."""
        return small_database

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        """The disk is smaller than what should be free of it."""
        return {"DISK_FREE_MB": "0"}

    def test_a_full_disk(
        self,
        send: Send,
        client: FlaskClient,
        caplog: pytest.LogCaptureFixture,
        on_a_small_disk: Path,
    ):
        accepted(send, client)
        disk.fill(on_a_small_disk / "filler")
        EVENT["data"]["filler"] = "x" * 500_000  # type: ignore[index]
        try:
            text = refused(send, client, caplog, "full")
        finally:
            del EVENT["data"]["filler"]  # type: ignore[attr-defined]
        assert "no room on the disk" in text
        (on_a_small_disk / "filler").unlink()
        accepted(send, client)


class TestLittleRoom:
    """A disk of which less is free than PORTAL_DISK_FREE_MB."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"DISK_FREE_MB": "1000000000"}

    def test_events_are_refused_and_all_else_is_still_written(
        self, send: Send, client: FlaskClient, caplog: pytest.LogCaptureFixture, app: Flask
    ):
        text = refused(send, client, caplog, "full")
        assert "less room than PORTAL_DISK_FREE_MB asks for" in text
        assert "The portal's disk is nearly full; nothing was stored" in send().json["detail"]
        make_webhook(make_merchant("bob"))
        app.config["PORTAL"] = replace(app.config["PORTAL"], disk_free_mb=1)
        accepted(send, client)

    @pytest.mark.parametrize("database", ["postgresql"], indirect=True)
    def test_of_a_servers_disk_nothing_is_known_here(self, send: Send, client: FlaskClient):
        accepted(send, client)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_server_that_became_a_standby_is_left_for_the_next_without_a_restart(
    send: Send, client: FlaskClient, caplog: pytest.LogCaptureFixture
):
    accepted(send, client)
    (name,) = {db.engine.url.database}
    admin = sa.create_engine(db.engine.url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        # As a primary that is stopped and comes back as a standby: the session of before stays.
        connection.execute(
            sa.text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        )
        with db.engine.connect() as ours:
            ours.execute(sa.text("SET default_transaction_read_only = on"))
            ours.commit()
        try:
            refused(send, client, caplog, "read-only")
        finally:
            connection.execute(sa.text("SET default_transaction_read_only = off"))
            connection.execute(
                sa.text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
            )
    admin.dispose()
    # No connection of before the change is used again.
    accepted(send, client)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.AdminShutdown, "away"),
        (psycopg.errors.CrashShutdown, "away"),
        (psycopg.errors.CannotConnectNow, "away"),
        (psycopg.errors.ConnectionFailure, "away"),
        (psycopg.errors.ConnectionException, "away"),
        (psycopg.OperationalError, "away"),
        (psycopg.errors.IdleInTransactionSessionTimeout, "away"),
        (psycopg.errors.TooManyConnections, "connections"),
        (psycopg.errors.DiskFull, "full"),
        (psycopg.errors.OutOfMemory, "memory"),
        (psycopg.errors.LockNotAvailable, "locked"),
        (psycopg.errors.QueryCanceled, "cancelled"),
        (psycopg.errors.ReadOnlySqlTransaction, "read-only"),
        (psycopg.errors.SerializationFailure, "collided"),
        (psycopg.errors.DeadlockDetected, "collided"),
        (psycopg.errors.IoError, "unreadable"),
        (psycopg.errors.DataCorrupted, "damaged"),
        (psycopg.errors.IndexCorrupted, "damaged"),
        (psycopg.errors.UndefinedTable, "schema"),
        (psycopg.errors.UndefinedColumn, "schema"),
        (psycopg.errors.UniqueViolation, None),
        (psycopg.errors.SyntaxError, None),
        (psycopg.errors.InvalidTextRepresentation, None),
    ],
)
def test_each_error_of_postgresql_has_its_meaning(error: type[psycopg.Error], expected: str | None):
    found = database_errors.trouble_of(DBAPIError("SELECT 1", {}, error("words")))
    assert (found and found.name) == expected


@on_both_databases
def test_connections_that_are_all_in_use_are_a_503_and_no_defect(
    app: Flask, send: Send, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
):
    pool = db.engine.pool
    monkeypatch.setattr(pool, "_timeout", 0.2)
    with contextlib.ExitStack() as held:
        for _ in range(pool.size() + pool._max_overflow):  # type: ignore[attr-defined]
            held.enter_context(db.engine.connect())
        answer = send()
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert client.get("/healthz").status_code == 200
    accepted(send, client)


def test_the_pool_is_as_large_as_the_threads_that_use_it():
    settings = engine_settings("sqlite:////tmp/portal.db", 40)
    assert settings["pool_size"] >= 40
    assert settings["pool_timeout"] <= 5


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", None),
        ("?host=a:5432", None),
        ("?host=a:5432&host=b:5432", "read-write"),
        ("?host=a,b", "read-write"),
        ("?host=a,b&target_session_attrs=any", None),
    ],
)
def test_of_several_servers_the_one_that_can_write_is_taken(query: str, expected: str | None):
    address = f"postgresql+psycopg://portal@/portal{query}"
    assert engine_settings(address, 8)["connect_args"].get("target_session_attrs") == expected


@on_both_databases
def test_what_a_statement_was_given_is_in_no_error(app: Flask):
    with pytest.raises(DBAPIError) as caught, db.engine.connect() as connection:
        connection.execute(
            sa.text("INSERT INTO lane (id, owner, token) VALUES (:id, :owner, :token)"),
            {"id": 77, "owner": "canary-of-a-record", "token": None},
        )
    assert "canary-of-a-record" not in str(caught.value) + str(caught.value.orig)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_value_that_does_not_fit_is_in_no_error(app: Flask):
    with pytest.raises(DBAPIError) as caught, db.engine.connect() as connection:
        connection.execute(
            sa.text("SELECT CAST(:value AS integer)"), {"value": "canary-of-a-record"}
        )
    assert "canary-of-a-record" not in str(caught.value) + str(caught.value.orig)
    assert "22P02" in str(caught.value)


def test_a_line_stands_once_in_its_time_with_how_often_it_was_meant(
    caplog: pytest.LogCaptureFixture, wait_for: Callable[..., None]
):
    seldom = Seldom(logging.getLogger("seldom"), 0.3)

    def lines() -> list[str]:
        return [one.message for one in caplog.records if one.name == "seldom"]

    for _ in range(5):
        seldom.warn("one", "Too bad.")
    seldom.warn("two", "Worse.")
    assert lines() == ["Too bad.", "Worse."]
    wait_for(lambda: len(lines()) == 3)
    assert lines()[2] == "4 more in the last 0.3 s: Too bad."
    time.sleep(0.8)
    assert len(lines()) == 3
    seldom.warn("one", "Too bad.")
    assert lines()[3] == "Too bad."


def test_a_defect_has_one_traceback_a_minute_and_no_address_in_the_log(
    app: Flask,
    client: FlaskClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    def fail(_token: str) -> None:
        raise LookupError("a defect")

    monkeypatch.setattr(shares, "shared_attempt", fail)
    for _ in range(5):
        assert client.get(f"/shared/{'secret-of-a-link' * 3}").status_code == 500
    assert "secret-of-a-link" not in caplog.text
    assert len([one for one in caplog.records if one.exc_info]) == 1


def test_while_the_database_is_locked_the_others_are_answered(
    app: Flask, client: FlaskClient, tmp_path: Path, send: Send, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session, "LOCK_WAIT_MS", 1_000)
    other = sqlite3.connect(tmp_path / "portal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    threads = [threading.Thread(target=send) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Before, each of them waited for as long as all before it.
    assert time.monotonic() - started < 4
    other.close()


def test_jobs_that_must_wait_for_the_database_have_a_line_and_no_traceback(
    app: Flask, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def refuse() -> int:
        raise Unavailable(session.BUSY, database_errors.FULL)

    monkeypatch.setattr(lanes, "sweep", refuse)
    monkeypatch.setattr(worker, "_seldom", Seldom(logging.getLogger("portal.run.worker"), 10))
    monkeypatch.setattr(worker.PortalWorker, "_install_signal_handlers", lambda _: None)
    queue = queues.queue_of(queues.MAINTENANCE)
    for _ in range(3):
        queue.enqueue(queues.SWEEP)
    worker.PortalWorker(queues.MAINTENANCE, queues.blocking_client()).work(burst=True)
    assert queue.count == 0
    (line,) = [one for one in caplog.records if one.name == "portal.run.worker"]
    assert line.message.startswith("Jobs must wait. There is no room on the disk")
    assert line.exc_info is None
    assert "Traceback" not in caplog.text
