"""Writers of a SQLite database take turns, wherever they run, and nobody waits for ever."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import math
import os
import signal
import sqlite3
import statistics
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal import runtime
from portal.db import session
from portal.db import turns as turns_module
from portal.db import writers as writers_module
from portal.db.session import db, write_turns, writing
from portal.db.turns import CannotTakeTurns, NoTurn, Record, Turns
from portal.db.writers import Database
from portal.errors import Unavailable
from portal.fairness.company import Company
from portal.models import Lane
from tests.conftest import on_both_databases

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file, as far as turns are concerned."""
    path = tmp_path / "portal.db"
    path.touch()
    path.chmod(0o640)
    return path


def other_process(path: Path, code: str) -> subprocess.Popen[str]:
    """Another process that has `turns`, and runs the code; it says when it begins."""
    start = "import sys, time, pathlib; from portal.db.turns import Turns; "
    start += "turns = Turns(pathlib.Path(sys.argv[1])); "
    return subprocess.Popen(
        [sys.executable, "-c", start + code, str(path)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )


KEEPS = "turns.take(5); print('mine', flush=True); sys.stdin.readline(); turns.give_back()"


def keeper_of_the_turn(path: Path) -> subprocess.Popen[str]:
    process = other_process(path, KEEPS)
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    return process


def test_the_next_one_is_woken_and_does_not_look_again_and_again(path: Path):
    # Two that write all the time: a third waits for a few of their turns, not for a pause.
    busy = "end = time.monotonic() + 4\nprint('mine', flush=True)\n"
    busy += "while time.monotonic() < end: turns.take(5); time.sleep(0.01); turns.give_back()"
    others = [other_process(path, f"exec({busy!r})") for _ in range(2)]
    for process in others:
        assert process.stdout is not None
        process.stdout.readline()
    turns, waits = Turns(path), []
    for _ in range(100):
        started = time.monotonic()
        turns.take(5)
        waits.append(time.monotonic() - started)
        turns.give_back()
        time.sleep(0.01)
    for process in others:
        assert process.wait(20) == 0
    assert sorted(waits)[50] < 0.05
    # Not the longest: a machine that stands still for a second keeps one of them, whoever waits.
    assert sorted(waits)[94] < 0.3
    assert turns.record().turns > 200


def test_threads_of_a_process_take_turns_too(path: Path):
    turns, inside, most = Turns(path), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            turns.take(20)
            inside += 1
            most = max(most, inside)
            time.sleep(0.0002)
            inside -= 1
            turns.give_back()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert turns.record().turns == 400


def test_the_turn_of_one_that_dies_is_free(path: Path):
    holder = keeper_of_the_turn(path)
    turns = Turns(path)
    threading.Timer(0.5, holder.kill).start()
    started = time.monotonic()
    turns.take(5)
    assert 0.3 < time.monotonic() - started < 5
    turns.give_back()
    holder.wait(10)


def test_nobody_waits_for_ever_for_one_that_stands_still_and_it_is_said_who_that_is(path: Path):
    holder = keeper_of_the_turn(path)
    turns = Turns(path)
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(NoTurn, match=f"process {holder.pid} has been writing for"):
                turns.take(0.3)
            assert 0.3 <= time.monotonic() - started < 5
        record = turns.record()
        assert record.process == holder.pid
        assert time.monotonic() - record.since > 0.6
    finally:
        os.kill(holder.pid, signal.SIGCONT)
    # Who gave up has left nothing behind that would keep the turn.
    threading.Timer(0.2, holder.communicate, ["\n"]).start()
    turns.take(5)
    turns.give_back()
    time.sleep(0.1)
    assert turns.record().process == 0
    other = keeper_of_the_turn(path)
    other.communicate("\n", timeout=10)


def test_one_that_gave_up_lets_the_turn_go_when_it_comes(path: Path):
    holder = keeper_of_the_turn(path)
    turns = Turns(path)
    with pytest.raises(NoTurn):
        turns.take(0.1)
    holder.communicate("\n", timeout=10)
    other = keeper_of_the_turn(path)
    other.communicate("\n", timeout=10)


def test_one_that_is_interrupted_while_it_waits_lets_the_turn_go_when_it_comes(path: Path):
    """As RQ does with a job whose time is over."""
    holder = keeper_of_the_turn(path)
    turns = Turns(path)

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            turns.take(5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    holder.communicate("\n", timeout=10)
    Turns(path).take(2)


def test_a_forked_process_has_not_its_parents_turn(path: Path):
    turns = Turns(path)
    turns.take(5)
    child = os.fork()
    if not child:
        try:
            turns.take(0.2)
        except NoTurn:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    turns.give_back()
    turns.take(1)
    turns.give_back()


@pytest.mark.parametrize(
    "wrong",
    [{"kept_seconds": math.nan}, {"waited_seconds": math.inf}, {"since": -1.0}, {"turns": -1}],
)
def test_a_garbled_record_is_begun_anew(path: Path, wrong: dict[str, float]):
    turns = Turns(path)
    values = vars(Record(1, 1.0, 7, 7, 7.0, 7.0)) | wrong
    turns.path.write_bytes(struct.pack("<qdqqdd", *values.values()))
    assert turns.record() == Record()
    turns.take(1)
    turns.give_back()
    record = turns.record()
    assert (record.turns, record.long) == (1, 0)
    assert 0 <= record.kept_seconds < 60
    assert 0 <= record.waited_seconds < 60


def test_the_file_may_be_read_by_whoever_may_read_the_database(path: Path):
    turns = Turns(path)
    turns.take(1)
    turns.give_back()
    assert turns.path.stat().st_mode & 0o777 == 0o640
    assert Turns(path.with_name("other.db")).record() == Record()


def test_the_file_is_theirs_too_where_new_files_are_the_owners_alone(path: Path):
    os.umask(0o077)
    turns = Turns(path)
    turns.take(1)
    turns.give_back()
    assert turns.path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path):
    (tmp_path / "portal.db").touch()
    (tmp_path / "portal.db-turn").mkdir()
    with pytest.raises(NoTurn, match=r"portal\.db-turn, the file by which writers"):
        Turns(tmp_path / "portal.db").take(1)


def test_a_link_in_its_place_is_not_followed(path: Path):
    other = path.with_name("another's")
    other.write_bytes(b"something of theirs")
    path.with_name("portal.db-turn").symlink_to(other)
    turns = Turns(path)
    with pytest.raises(NoTurn, match=r"portal\.db-turn, the file by which writers"):
        turns.take(1)
    assert turns.record() == Record()
    assert other.read_bytes() == b"something of theirs"


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The system's calls as `portal.db.turns` finds them, for a test to change."""
    calls = SimpleNamespace(**vars(fcntl))
    monkeypatch.setattr(turns_module, "fcntl", calls)
    return calls


def test_a_keeper_that_lets_go_takes_the_turn_from_nobody(path: Path, system: SimpleNamespace):
    holder = keeper_of_the_turn(path)
    turns = Turns(path)
    lets_go, taken, gone = threading.Event(), threading.Event(), threading.Event()

    def slow(file: int, how: int) -> None:
        if how == fcntl.LOCK_UN and threading.current_thread().name == "turn-keeper":
            lets_go.set()
            taken.wait(1)
            fcntl.flock(file, how)
            gone.set()
            return
        fcntl.flock(file, how)

    system.flock = slow
    with pytest.raises(NoTurn):
        turns.take(0.1)
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert lets_go.wait(5)
    turns.take(5)
    taken.set()
    assert gone.wait(5)
    with pytest.raises(NoTurn):
        Turns(path).take(0.1)
    turns.give_back()
    holder.communicate(timeout=10)


def test_a_turn_that_cannot_be_noted_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch):
    turns = Turns(path)
    turns.take(1)
    turns.give_back()

    def breaks(_: int) -> Record:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(turns_module, "_read", breaks)
        with pytest.raises(CannotTakeTurns, match="Input/output error") as refused:
            turns.take(1)
        assert refused.value.number == errno.EIO
    other = keeper_of_the_turn(path)
    other.communicate("\n", timeout=10)
    turns.take(1)
    turns.give_back()


def test_a_keeper_that_cannot_wait_says_so_and_waits_again_later(
    path: Path, system: SimpleNamespace
):
    holder = keeper_of_the_turn(path)
    turns, broken = Turns(path), [True]

    def breaks(file: int, how: int) -> None:
        if how == fcntl.LOCK_EX and broken:
            raise OSError(errno.ENOLCK, "No locks available")
        fcntl.flock(file, how)

    system.flock = breaks
    for _ in range(2):
        with pytest.raises(CannotTakeTurns, match="No locks available"):
            turns.take(1)
    broken.clear()
    threading.Timer(0.2, holder.communicate, ["\n"]).start()
    turns.take(5)
    turns.give_back()


# -- the portal's own writers ---------------------------------------------------------------


def lock(path: str) -> sqlite3.Connection:
    """A program that takes no turns, and has the database's own lock."""
    connection = sqlite3.connect(
        path.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
    )
    connection.execute("BEGIN IMMEDIATE")
    return connection


def write() -> float:
    started = time.monotonic()
    with writing() as session:
        session.execute(sa.update(Lane).values(owner=None))
    return time.monotonic() - started


@on_both_databases
def test_a_turn_ends_with_its_transaction_however_that_ends(app: Flask):
    write()
    with contextlib.suppress(RuntimeError), writing() as session:
        session.execute(sa.update(Lane).values(owner="nobody"))
        raise RuntimeError
    assert write() < 1
    assert db.session.scalar(sa.select(Lane.owner).limit(1)) is None


def test_a_lock_of_another_program_is_waited_for_as_before(app: Flask, database: str):
    other = lock(database)
    threading.Timer(1.0, other.execute, ["ROLLBACK"]).start()
    assert 0.8 < write() < 2


def test_after_one_waited_in_vain_the_others_do_not_wait_as_long(
    app: Flask, database: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session, "LOCK_WAIT_MS", 1_000)
    other = lock(database)
    waits = []
    for _ in range(4):
        started = time.monotonic()
        with pytest.raises(Unavailable):
            write()
        waits.append(time.monotonic() - started)
    assert 0.9 < waits[0] < 2
    assert all(wait < 0.6 for wait in waits[1:])
    other.execute("ROLLBACK")
    write()
    # Once one got through all wait as ever.
    other = lock(database)
    started = time.monotonic()
    with pytest.raises(Unavailable):
        write()
    assert time.monotonic() - started > 0.9
    other.close()


def test_who_wrote_for_long_is_in_the_log_and_in_the_metrics(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING), writing() as session:
        session.execute(sa.update(Lane).values(owner=None))
        assert write_turns().process == os.getpid()  # type: ignore[union-attr]
        time.sleep(1.1)
    # A thread of an earlier test may still have something else to say.
    (line,) = [record.message for record in caplog.records if record.name == "portal.db.session"]
    assert line.startswith(f"Process {os.getpid()} kept others from writing for 1.1 s, in ")
    assert "test_who_wrote_for_long_is_in_the_log_and_in_the_metrics" in line
    text = client.get("/metrics").text
    assert "portal_write_turns_long_total 1.0" in text
    assert "portal_write_turn_held_seconds 0.0" in text


def test_a_migration_waits_for_its_turn(environment: dict[str, str], tmp_path: Path):
    holder = keeper_of_the_turn(tmp_path / "portal.db")
    migration = subprocess.Popen(
        [sys.executable, "-m", "portal", "migrate"], cwd=ROOT, env=os.environ | environment
    )
    time.sleep(4)
    # Looked at only where it is: SQLite would make an empty one.
    if (tmp_path / "portal.db").exists():
        with sqlite3.connect(tmp_path / "portal.db") as connection:
            tables = "SELECT 1 FROM sqlite_master WHERE name = 'event'"
            assert not connection.execute(tables).fetchall()
    holder.communicate("\n", timeout=10)
    assert migration.wait(60) == 0
    with sqlite3.connect(tmp_path / "portal.db") as connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_who_writes_little_waits_for_one_that_writes_much_and_not_for_all_of_them(app: Flask):
    """Four that write much, again and again, and one that writes little."""
    ends, first = threading.Event(), threading.Event()
    order: list[str] = []

    def much() -> None:
        with app.app_context():
            while not ends.is_set():
                with session.writing(is_large=True):
                    order.append("much")
                    first.set()
                    time.sleep(0.03)

    threads = [threading.Thread(target=much) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert first.wait(5)
    between = []
    for _ in range(10):
        before = len(order)
        with session.writing():
            between.append(len(order) - before)
        time.sleep(0.01)
    ends.set()
    for thread in threads:
        thread.join(10)
    # Four where all of them stand in one line. A thread that must wait for the processor before it
    # stands in its own counts a few more, now and then.
    assert statistics.median(between) <= 1


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long writers rest, who do not, and whose clock goes on when they would."""
    found: list[float] = []
    began = time.monotonic()
    monkeypatch.setattr(
        writers_module,
        "time",
        SimpleNamespace(monotonic=lambda: began + sum(found), sleep=found.append),
    )
    return found


def _come(*names: str) -> Company:
    company = runtime.part(Database).manners.company
    for name in names:
        company.asked(name, writers_module.time.monotonic())
    return company


@on_both_databases
def test_who_writes_much_waits_for_nobody_for_whom_nothing_has_begun(
    app: Flask, slept: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("portal.fairness.company.LATELY_SECONDS", 60.0)
    _come("store", "other")
    is_sqlite = session.db.engine.dialect.name == "sqlite"
    assert session.are_several_there() == is_sqlite
    for _ in range(3):
        with session.writing(is_large=True):
            pass
    assert not slept


def test_who_writes_much_lets_go_first_what_has_just_begun_but_not_for_long(
    app: Flask, slept: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("portal.fairness.company.BEGUN_SECONDS", 60.0)
    monkeypatch.setattr("portal.fairness.company.LATELY_SECONDS", 60.0)
    manners = runtime.part(Database).manners
    company = _come("store", "other")
    manners.stand_back()
    assert not slept
    company.begins("other", writers_module.time.monotonic())
    manners.stand_back()
    assert sum(slept) == pytest.approx(writers_module.STAND_BACK_SECONDS, abs=0.002)
