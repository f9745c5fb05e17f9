"""What a process of the portal does about itself: its end, its signals, its signs of life.

portal.run.children keeps such processes running.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
SUPERVISED = "WEBHOOK_PORTAL_SUPERVISED"
"""Set for children whose own children must die with them (portal.run.wsgi looks for it)."""
STOP_SECONDS = 30.0
"""How long a part may take to end in order."""
BEAT_SECONDS = 5.0
"""How often a process shows that it lives."""
LOOP_SECONDS = 300.0
"""How long a loop may take to come round: it waits for the database meanwhile, which may be long at
one statement. A lane of such a process has been taken over long before."""
SWITCH_SECONDS = 0.0005
"""How long a thread has the interpreter while others want it. A request gives it away and asks for
it a dozen times, at each query and at each answer; Python's own 5 ms are as much each time."""
GARBAGE = 10_000
"""New objects after which the garbage collector looks for what is left of them. Some 30 are alive
of each delivery until it is recorded: with Python's own 700 most are looked at again and again."""
LIVES, READY = "lives", "ready"

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


@dataclass
class This:
    """What this process knows of itself, whatever it runs: the system has signals and files for
    each process once."""

    signals: int | None = None
    """Where the numbers of signals arrive that have a handler."""
    pulse: int | None = None
    """Where its signs of life go."""
    stepped_at: float | None = None
    step_seconds: float = 0.0


this = This()


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
    this.signals, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)


class Loop(Protocol):
    """An event loop, as far as signals go (asyncio)."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> Any: ...


def notice_signals_of(loop: Loop) -> None:
    """Let `is_stopping` see signals that an event loop handles; called by the main thread."""
    seen, write = os.pipe()
    os.set_blocking(write, False)
    to_loop = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def pass_on() -> None:
        numbers = os.read(seen, 4_096)
        os.write(noticed, numbers)
        os.write(to_loop, numbers)

    this.signals, noticed = os.pipe()
    loop.add_reader(seen, pass_on)


def is_stopping() -> bool:
    """Whether a process that called `notice_signals` was asked to end; for any thread."""
    if this.signals is None:
        return False
    poll = select.poll()
    poll.register(this.signals, select.POLLIN)
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
    """Say that this process begins to work. What is loaded stays for as long as the process does,
    so the garbage collector leaves it alone from now on: to walk through it stops everything for
    some 70 ms, each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
    sys.setswitchinterval(SWITCH_SECONDS)
    _send(READY)


def call(name: str) -> None:
    """Give this process a name that `ps -e` and `top` show (prctl(2), PR_SET_NAME: 15 bytes)."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())


def show_life_on(fd: int) -> None:
    """Have this process, and all that it forks, write their signs of life to `fd`."""
    this.pulse = fd


def has_stepped(seconds: float = 0.0) -> None:
    """Say that the loop which does this process's work has come round, from now on: a process whose
    loop stands still for long shows no more signs of life, though its other threads go on. What it
    does next may take so many seconds more."""
    this.stepped_at, this.step_seconds = time.monotonic(), seconds


def show_life() -> None:
    """Show signs of life from now on, by a thread; one process does it once."""
    if this.pulse is not None:
        threading.Thread(target=_beat, name="pulse", daemon=True).start()


def _beat() -> None:
    while True:
        longest = LOOP_SECONDS + this.step_seconds
        if this.stepped_at is None or time.monotonic() - this.stepped_at < longest:
            _send(LIVES)
        time.sleep(BEAT_SECONDS)


def _send(word: str) -> None:
    if this.pulse is not None:
        # Nobody reads while the supervisor stands still; what is lost then does not matter.
        with contextlib.suppress(OSError):
            os.write(this.pulse, f"{os.getpid()} {word}\n".encode())


def say(line: str) -> None:
    """One line for the person at the terminal, which may be gone."""
    with contextlib.suppress(OSError):
        print(line, flush=True)
