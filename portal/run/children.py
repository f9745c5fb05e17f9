"""Processes that are kept running, and that end with the one that started them.

What is Python is forked from this process, which has loaded it: that shares the memory of what was
loaded, and starts in milliseconds. Children die with their parent, however it ends
(PR_SET_PDEATHSIG), are stopped in order, and started again when they end or show no sign of life.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from portal.config import SettingError
from portal.processes import (
    LIVES,
    READY,
    ROOT,
    STOP_SECONDS,
    SUPERVISED,
    call,
    die_with_parent,
    say,
    show_life_on,
)
from portal.run.part import Part, how_ended

TELL_SECONDS = 3.0
"""How long stopping may take before the person who waits is told what for."""
SHORT_LIFE_SECONDS = 10.0
LONGEST_BACKOFF_SECONDS = 10.0
MAX_EARLY_DEATHS = 4
"""Deaths in a row of a part that never came up, after which everything is stopped."""
WATCH_SECONDS = 0.2
STARTING_SECONDS = 0.05
"""How often the parts are looked at: while they run, and while somebody waits for them."""
STUCK_SECONDS = 60.0
"""How long a process may show no sign of life; it shows one every BEAT_SECONDS, also while it is at
work in a statement or in a call to a receiver, for hours if need be."""
STOOD_STILL_SECONDS = 5.0
"""When this process itself did not get to look for so long, neither did the others get to show that
they live: the machine is overloaded, slept, or everything was stopped."""
NOISE = (
    # Granian compares PORTAL_WEB_THREADS with the cores; they wait for the database, not for those.
    b"Configuration allows spawning up to",
)
"""Lines of others that nobody at the terminal can use."""

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_log = logging.getLogger(__name__)
_fork = multiprocessing.get_context("fork")


class Supervisor:
    """Starts parts, passes their output on with their name in front, restarts those that die or,
    having shown signs of life, show none for STUCK_SECONDS."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._selector = selectors.DefaultSelector()
        self._pulse, write = os.pipe()
        os.set_blocking(self._pulse, False)
        os.set_blocking(write, False)
        self._pulse_in = write
        show_life_on(write)
        self._seen: dict[int, float] = {}
        self._looked_at = time.monotonic()
        self._stopping = False
        self._force = False
        self.failed = False
        os.environ[SUPERVISED] = "1"

    def handle_signals(self) -> None:
        """Stop in order on SIGINT, SIGTERM and a closed terminal; at once on the second."""
        for number in HANDLED:
            # nohup has SIGHUP ignored, and means it.
            if signal.getsignal(number) is not signal.SIG_IGN or number != signal.SIGHUP:
                signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._force = self._stopping
        self._stopping = True

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping

    def start(
        self,
        name: str,
        work: Sequence[str] | Callable[[], object],
        *,
        processes: int = 1,
        is_quiet: bool = False,
    ) -> None:
        """Start a part and keep it running: a command, or a function in a fork of this process,
        which says `processes` times that it is ready. What a quiet one prints is shown only when
        it ends by itself."""
        part = Part(name, work, processes, is_quiet)
        self._parts.append(part)
        self._spawn(part)

    def is_ready(self, *names: str) -> bool:
        """Whether these parts have said that they begin to work."""
        chosen = [part for part in self._parts if part.name.startswith(names)]
        return all(part.running and len(part.ready) >= part.processes for part in chosen)

    def perform(self, work: Callable[[], str]) -> str:
        """What a function gives that is called once, in a fork of this process whose memory goes
        with it. Raises SettingError where the function does, or ends otherwise."""
        receiver, sender = _fork.Pipe(duplex=False)

        def answer() -> None:
            try:
                sender.send((work(), ""))
            except SettingError as error:
                sender.send(("", str(error)))

        with self._forking():
            process = _fork.Process(target=self._become, args=(None, answer, os.getpid()))
            process.start()
        sender.close()
        while not receiver.poll(STARTING_SECONDS):
            self._look_around(0)
            if self._force:
                process.kill()
        try:
            found, problem = receiver.recv()
        except EOFError:
            process.join()
            raise SettingError(
                f"The start ended ({how_ended(process.exitcode or 0)}); see the lines above."
            ) from None
        process.join()
        if problem:
            raise SettingError(problem)
        return str(found)

    def _spawn(self, part: Part) -> None:
        part.restart_at = None
        part.started_at = time.monotonic()
        part.ready.clear()
        parent = os.getpid()
        read, write = os.pipe()
        if callable(part.work):
            with self._forking():
                part.process = _fork.Process(
                    target=self._become, args=(part.name, part.work, parent, write)
                )
                part.process.start()
        else:
            # A session of its own: Ctrl-C reaches only this process, which stops them in order.
            part.process = subprocess.Popen(
                part.work,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),
            )
        os.close(write)
        os.set_blocking(read, False)
        self._selector.register(read, selectors.EVENT_READ, part)

    @contextlib.contextmanager
    def _forking(self) -> Iterator[None]:
        """A signal that comes while this process is forked waits: the fork has this one's handlers,
        which would swallow it."""
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def _become(
        self, name: str | None, work: Callable[[], object], parent: int, output: int | None = None
    ) -> None:
        """In the fork: be a process of its own, and do the work."""
        die_with_parent(parent)
        os.setsid()
        if name is not None:
            call(name)
        if output is not None:
            os.dup2(output, 1)
            os.dup2(output, 2)
            # The lock on the data directory and the others' output are the supervisor's alone.
            for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
                if fd > 2 and fd != self._pulse_in:
                    with contextlib.suppress(OSError):
                        os.close(fd)
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        work()

    def run(self, seconds: float | None = None, until: Callable[[], bool] | None = None) -> None:
        """Watch the parts until asked to stop, for at most `seconds`, or `until` it is true."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self._stopping and not self.failed:
            if end is not None and time.monotonic() >= end:
                return
            if until is not None and until():
                return
            self._look_around(WATCH_SECONDS if until is None else STARTING_SECONDS)

    def _look_around(self, seconds: float) -> None:
        self._pass_on_output(seconds)
        self._feel_pulse()
        for part in self._parts:
            self._look_after(part)

    def _look_after(self, part: Part) -> None:
        moment = time.monotonic()
        if part.restart_at is not None:
            if moment >= part.restart_at and not self._stopping:
                self._spawn(part)
            return
        if (code := part.code) is None:
            return
        lived = moment - part.started_at
        part.came_up = part.came_up or lived >= SHORT_LIFE_SECONDS
        part.deaths = part.deaths + 1 if lived < SHORT_LIFE_SECONDS else 1
        self._pass_on_output(0)
        self._show_kept(part)
        if part.deaths > MAX_EARLY_DEATHS and not part.came_up:
            _log.error("%s ended %d times in a row; see its lines above.", part.name, part.deaths)
            self.failed = True
            return
        pause = min(0.25 * 2 ** (part.deaths - 1), LONGEST_BACKOFF_SECONDS)
        _log.warning("%s ended (%s); starting it again in %g s", part.name, how_ended(code), pause)
        part.restart_at = moment + pause

    # -- signs of life ----------------------------------------------------------------------

    def _feel_pulse(self) -> None:
        """Take the signs of life, and end who has shown none for too long. It is the moment of
        taking them that counts, so nobody is late because this process was."""
        moment = time.monotonic()
        try:
            text = os.read(self._pulse, 65_536).decode()
        except BlockingIOError:
            text = ""
        for line in text.splitlines():
            number, _, word = line.partition(" ")
            pid = int(number)
            if word == READY:
                part = self._part_of(pid)
                if part is not None:
                    part.ready.add(pid)
            elif word == LIVES:
                self._seen[pid] = moment
        if moment - self._looked_at > STOOD_STILL_SECONDS:
            self._seen = dict.fromkeys(self._seen, moment)
        self._looked_at = moment
        for pid, seen_at in list(self._seen.items()):
            if moment - seen_at > STUCK_SECONDS:
                del self._seen[pid]
                self._end_stuck(pid)

    def _end_stuck(self, pid: int) -> None:
        if (part := self._part_of(pid)) is not None:
            _log.warning(
                "%s has shown no sign of life for %g s (process %d); it is ended and started again",
                part.name,
                STUCK_SECONDS,
                pid,
            )
            # Stopped or deep in a call, it would take no other; or it has ended by itself just now.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _part_of(self, pid: int) -> Part | None:
        """The part a process belongs to: each is a session of its own. None when it has ended,
        whoever has its number now."""
        try:
            session = os.getsid(pid)
        except ProcessLookupError:
            return None
        return next(
            (
                part
                for part in self._parts
                if part.running and part.process is not None and part.process.pid == session
            ),
            None,
        )

    # -- output -----------------------------------------------------------------------------

    def _pass_on_output(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            part: Part = key.data
            assert isinstance(key.fileobj, int)
            try:
                data = os.read(key.fileobj, 65_536)
            except BlockingIOError:
                continue
            if not data:
                self._selector.unregister(key.fileobj)
                os.close(key.fileobj)
                data = b"\n" if part.partial else b""
            *lines, part.partial = (part.partial + data).split(b"\n")
            for line in lines:
                if any(noise in line for noise in NOISE):
                    continue
                text = f"{part.name:<12} {line.decode(errors='replace')}"
                if part.is_quiet:
                    part.kept.append(text)
                else:
                    say(text)

    def _show_kept(self, part: Part) -> None:
        while part.kept:
            say(part.kept.popleft())

    def show_kept(self, *names: str) -> None:
        """Show what quiet parts have printed last."""
        self._pass_on_output(0)
        for part in self._parts:
            if part.name.startswith(names):
                self._show_kept(part)

    # -- the end ----------------------------------------------------------------------------

    def stop(self, *orders: str) -> None:
        """Stop parts whose names start with these, together, and wait: 30 s, then kill."""
        self._stopping = True
        chosen = [part for part in self._parts if part.name.startswith(orders)]
        for part in chosen:
            part.restart_at = None
            if part.running and part.process is not None:
                part.process.terminate()
        moment = time.monotonic()
        end, tell_at = moment + STOP_SECONDS, moment + TELL_SECONDS
        while running := [part.name for part in chosen if part.running]:
            if time.monotonic() > tell_at:
                say(f"{' and '.join(running)} still at work; Ctrl-C again ends it at once.")
                tell_at = end
            if self._force or time.monotonic() > end:
                for part in chosen:
                    if part.running and part.process is not None:
                        part.process.kill()
            self._pass_on_output(0.05)
        self._pass_on_output(0)


def keep_running(parts: Mapping[str, Callable[[], object]]) -> int:
    """Keep functions running by name, each in a fork of this process, until SIGINT or SIGTERM; the
    exit code."""
    supervisor = Supervisor()
    supervisor.handle_signals()
    for name, work in parts.items():
        supervisor.start(name, work)
    supervisor.run()
    supervisor.stop("cron")
    supervisor.stop("")
    return 1 if supervisor.failed else 0


def has_loaded() -> None:
    """Say that all is loaded which the forks of this process need. None of them looks through it
    for garbage, which would make a copy of it."""
    gc.collect()
    gc.freeze()
