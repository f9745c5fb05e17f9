"""Processes that are kept running, and that end with the one that started them.

Children die with their parent, however it ends (PR_SET_PDEATHSIG), and are stopped in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
SUPERVISED = "WEBHOOK_PORTAL_SUPERVISED"
"""Set for children whose own children must die with them (wsgi.py looks for it)."""
STOP_SECONDS = 30.0
TELL_SECONDS = 3.0
"""How long stopping may take before the person who waits is told what for."""
SHORT_LIFE_SECONDS = 10.0
LONGEST_BACKOFF_SECONDS = 10.0
MAX_EARLY_DEATHS = 4
"""Deaths in a row of a part that never came up, after which everything is stopped."""

WATCH_SECONDS = 0.2
STARTING_SECONDS = 0.05
"""How often the parts are looked at: while they run, and while somebody waits for them."""
NOISE = (
    # True of any machine with vm.overcommit_memory=0; an append-only file needs no fork to be safe.
    b"Memory overcommit must be enabled",
    # What stopping in order looks like.
    b"Received SIGTERM scheduling shutdown", b"is now ready to exit, bye bye",
    # Granian compares PORTAL_WEB_THREADS with the cores; they wait for the database, not for those.
    b"Configuration allows spawning up to",
)
"""Lines of others that nobody at the terminal can use."""

_PR_SET_PDEATHSIG = 1
_signals: int | None = None
"""Where the numbers of signals arrive that have a handler."""


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel end this process when its parent, whose ID this is, ends (prctl(2),
    PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        # It ended before the line above.
        os.kill(os.getpid(), number)


def notice_signals() -> None:
    """Let `is_stopping` see signals, whoever handles them later (signal.set_wakeup_fd); called by
    the main thread."""
    global _signals
    _signals, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)


def is_stopping() -> bool:
    """Whether a process that called `notice_signals` was asked to end; for any thread."""
    if _signals is None:
        return False
    poll = select.poll()
    poll.register(_signals, select.POLLIN)
    return bool(poll.poll(0))


def open_files(wanted: int) -> int:
    """How many files this process may have open, after raising that to `wanted` where the system
    allows it: shells and systemd start with 1,024 (setrlimit(2), RLIMIT_NOFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def has_started() -> None:
    """Say that all which this process needs is loaded. It stays for as long as the process does,
    so the garbage collector leaves it alone from now on: to walk through it stops everything for
    some 70 ms, each time."""
    gc.collect()
    gc.freeze()


@dataclass
class _Part:
    name: str
    command: Sequence[str]
    death_signal: signal.Signals = signal.SIGKILL
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    restart_at: float | None = None
    partial: bytes = field(default=b"")

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Starts parts, passes their output on with their name in front, restarts those that die."""

    def __init__(self, environment: Mapping[str, str] | None = None):
        self._parts: list[_Part] = []
        self._selector = selectors.DefaultSelector()
        self._environment = dict(environment or os.environ) | {SUPERVISED: "1"}
        self._stopping = False
        self._force = False
        self.failed = False

    def handle_signals(self) -> None:
        """Stop in order on SIGINT, SIGTERM and a closed terminal; at once on the second."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
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
        self, name: str, command: Sequence[str],
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Start a part and keep it running."""
        part = _Part(name, command, death_signal)
        self._parts.append(part)
        self._spawn(part)

    def _spawn(self, part: _Part) -> None:
        part.restart_at = None
        part.started_at = time.monotonic()
        parent = os.getpid()
        # A session of its own: Ctrl-C reaches only this process, which stops them in order.
        part.process = subprocess.Popen(
            part.command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent, part.death_signal),
        )
        assert part.process.stdout is not None
        os.set_blocking(part.process.stdout.fileno(), False)
        self._selector.register(part.process.stdout, selectors.EVENT_READ, part)

    def run(self, seconds: float | None = None, until: Callable[[], bool] | None = None) -> None:
        """Watch the parts until asked to stop, for at most `seconds`, or `until` it is true."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self._stopping and not self.failed:
            if end is not None and time.monotonic() >= end:
                return
            if until is not None and until():
                return
            self._pass_on_output(WATCH_SECONDS if until is None else STARTING_SECONDS)
            for part in self._parts:
                self._look_after(part)

    def _look_after(self, part: _Part) -> None:
        moment = time.monotonic()
        if part.restart_at is not None:
            if moment >= part.restart_at:
                self._spawn(part)
            return
        if part.running or part.process is None:
            return
        code = part.process.returncode
        lived = moment - part.started_at
        part.deaths = part.deaths + 1 if lived < SHORT_LIFE_SECONDS else 1
        self._pass_on_output(0)
        if part.deaths > MAX_EARLY_DEATHS and lived < SHORT_LIFE_SECONDS:
            say(f"{part.name} ended {part.deaths} times in a row; see its lines above.")
            self.failed = True
            return
        pause = min(0.25 * 2 ** (part.deaths - 1), LONGEST_BACKOFF_SECONDS)
        say(f"{part.name} ended ({_how(code)}); starting it again in {pause:g} s")
        part.restart_at = moment + pause

    def _pass_on_output(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            part: _Part = key.data
            stream = key.fileobj
            assert not isinstance(stream, int)
            try:
                data = os.read(stream.fileno(), 65_536)
            except BlockingIOError:
                continue
            if not data:
                self._selector.unregister(stream)
                data = b"\n" if part.partial else b""
            *lines, part.partial = (part.partial + data).split(b"\n")
            for line in lines:
                if any(noise in line for noise in NOISE):
                    continue
                say(f"{part.name:<12} {line.decode(errors='replace')}")

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


def keep_running(commands: Mapping[str, Sequence[str]]) -> int:
    """Run commands by name until SIGINT or SIGTERM; the exit code."""
    supervisor = Supervisor()
    supervisor.handle_signals()
    for name, command in commands.items():
        supervisor.start(name, command)
    supervisor.run()
    supervisor.stop("cron")
    supervisor.stop("")
    return 1 if supervisor.failed else 0


def say(line: str) -> None:
    """One line for the person at the terminal, which may be gone."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
