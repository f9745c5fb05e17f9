"""A part that is kept running (portal.run.children): a process, with what is known of it."""

from __future__ import annotations

import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

KEPT_LINES = 30


@dataclass
class Part:
    """What is kept running, as it runs now."""

    name: str
    work: Sequence[str] | Callable[[], object]
    """A command, or what a fork of this process does."""
    processes: int = 1
    """How many of it say that they are ready."""
    is_quiet: bool = False
    """Its lines are kept, and shown when it ends by itself."""
    process: subprocess.Popen[bytes] | BaseProcess | None = None
    started_at: float = 0.0
    deaths: int = 0
    came_up: bool = False
    restart_at: float | None = None
    partial: bytes = b""
    kept: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    ready: set[int] = field(default_factory=set)

    @property
    def code(self) -> int | None:
        """How it ended; None before."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll()
        return None if self.process is None else self.process.exitcode

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.code is None


def how_ended(code: int) -> str:
    """How a process ended, by its exit code, for people."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
