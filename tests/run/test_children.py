"""Processes that are kept running: real forks, which die, hang and are stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portal import processes
from portal.config import SettingError
from portal.run import children
from portal.run.children import Supervisor

pytestmark = [pytest.mark.engine, pytest.mark.whole]

Begin = Callable[[Callable[[], object]], Supervisor]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "STUCK_SECONDS", 1.5)
    monkeypatch.setattr(children, "STOOD_STILL_SECONDS", 0.8)
    monkeypatch.setattr(processes, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(processes, "LOOP_SECONDS", 1.0)


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """`begin(work)`: a supervisor that keeps a part with that work running."""
    monkeypatch.setattr(processes.this, "pulse", None)
    monkeypatch.delenv(processes.SUPERVISED, raising=False)
    begun: list[Supervisor] = []

    def start(work: Callable[[], object]) -> Supervisor:
        supervisor = Supervisor()
        begun.append(supervisor)
        supervisor.start("part", work)
        return supervisor

    yield start
    for supervisor in begun:
        supervisor.stop("")


def works() -> None:
    """As the portal's parts begin, and then wait."""
    processes.show_life()
    processes.has_started()
    time.sleep(60)


def pid_of(supervisor: Supervisor) -> int:
    process = supervisor._parts[0].process
    assert process is not None
    assert process.pid is not None
    return process.pid


def test_it_is_ready_once_it_says_so(begin: Begin):
    def slow() -> None:
        time.sleep(0.5)
        works()

    supervisor = begin(slow)
    assert not supervisor.is_ready("part")
    supervisor.run(10, until=lambda: supervisor.is_ready("part"))
    assert supervisor.is_ready("part")


def test_one_that_is_stopped_is_ended_and_started_again(
    begin: Begin, caplog: pytest.LogCaptureFixture
):
    supervisor = begin(works)
    supervisor.run(10, until=lambda: supervisor.is_ready("part"))
    # One sign of life at least.
    supervisor.run(0.5)
    before = pid_of(supervisor)
    os.kill(before, signal.SIGSTOP)
    supervisor.run(10, until=lambda: pid_of(supervisor) != before)
    assert "part has shown no sign of life for 1.5 s" in caplog.text
    supervisor.run(10, until=lambda: supervisor.is_ready("part"))
    assert pid_of(supervisor) != before


def test_one_that_ends_by_itself_at_the_moment_when_it_is_to_be_ended_ends_nobody_else(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
):
    supervisor = begin(works)
    (part,) = supervisor._parts
    if (pid := os.fork()) == 0:
        time.sleep(60)
        os._exit(0)

    def found_and_gone(_: int) -> object:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return part

    monkeypatch.setattr(supervisor, "_part_of", found_and_gone)
    supervisor._end_stuck(pid)
    assert part.running


def test_one_whose_loop_hangs_is_ended_and_started_again(begin: Begin):
    def hangs() -> None:
        processes.has_stepped()
        processes.show_life()
        processes.has_started()
        threading.Event().wait()

    supervisor = begin(hangs)
    before = pid_of(supervisor)
    supervisor.run(10, until=lambda: pid_of(supervisor) != before)
    assert pid_of(supervisor) != before


def test_one_that_is_busy_is_left_alone(begin: Begin):
    def busy() -> None:
        processes.show_life()
        processes.has_started()
        while True:
            processes.has_stepped()
            sum(range(100_000))

    supervisor = begin(busy)
    before = pid_of(supervisor)
    supervisor.run(4)
    assert pid_of(supervisor) == before
    assert supervisor.is_ready("part")


def test_when_all_stood_still_nobody_is_ended(begin: Begin):
    supervisor = begin(works)
    supervisor.run(10, until=lambda: supervisor.is_ready("part"))
    supervisor.run(0.5)
    before = pid_of(supervisor)
    os.kill(before, signal.SIGSTOP)
    # This process stands still as well: the machine slept.
    time.sleep(3)
    os.kill(before, signal.SIGCONT)
    supervisor.run(2)
    assert pid_of(supervisor) == before


def test_a_stopped_fork_of_a_part_is_ended_as_granians_are(begin: Begin, tmp_path: Path):
    """The part's own processes are watched too; who started them starts another."""
    note = tmp_path / "pid"

    def forks() -> None:
        if (pid := os.fork()) == 0:
            note.write_text(str(os.getpid()))
            works()
        os.waitpid(pid, 0)
        note.write_text("ended")
        time.sleep(60)

    supervisor = begin(forks)
    supervisor.run(10, until=lambda: supervisor.is_ready("part"))
    supervisor.run(0.5)
    os.kill(int(note.read_text()), signal.SIGSTOP)
    supervisor.run(10, until=lambda: note.read_text() == "ended")
    assert note.read_text() == "ended"


def test_a_part_has_no_open_file_of_its_supervisor(begin: Begin, tmp_path: Path):
    said = tmp_path / "files"
    with (tmp_path / "lock").open("w"):

        def tells() -> None:
            found = [
                str(entry.readlink())
                for entry in Path("/proc/self/fd").iterdir()
                if entry.is_symlink()
            ]
            said.write_text("\n".join(found))
            works()

        supervisor = begin(tells)
        supervisor.run(10, until=lambda: supervisor.is_ready("part"))
    assert "lock" not in said.read_text()


def test_what_is_done_once_gives_its_answer_or_its_sentence(begin: Begin):
    supervisor = begin(works)
    assert supervisor.perform(lambda: f"done by {os.getpid() != os.getppid()}") == "done by True"

    def refuses() -> str:
        raise SettingError("Give another one.")

    with pytest.raises(SettingError, match="Give another one"):
        supervisor.perform(refuses)

    def dies() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    with pytest.raises(SettingError, match="killed by SIGKILL"):
        supervisor.perform(dies)


def test_one_that_came_up_once_is_started_again_however_often_it_dies_then(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(children, "SHORT_LIFE_SECONDS", 0.5)
    monkeypatch.setattr(children, "LONGEST_BACKOFF_SECONDS", 0.1)
    starts = tmp_path / "starts"

    def dies() -> None:
        is_first = not starts.exists()
        with starts.open("a") as file:
            file.write("x")
        time.sleep(0.7 if is_first else 0)
        raise SystemExit(1)

    supervisor = begin(dies)
    supervisor.run(20, until=lambda: starts.exists() and starts.stat().st_size > 8)
    assert starts.stat().st_size > 8
    assert not supervisor.failed


def test_one_that_never_comes_up_ends_all(begin: Begin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(children, "LONGEST_BACKOFF_SECONDS", 0.1)
    supervisor = begin(lambda: sys.exit(1))
    supervisor.run(20)
    assert supervisor.failed
