"""Cells: processes in which merchants' templates are filled, and nothing else is done.

A template may take any time and memory, some of it in calls that nothing in Python can interrupt.
So it is filled in a process that holds no secret and no connection, whose memory is bounded, that
stops the work when it has had its time of the processor, and that is killed where that is no help.
(Why no library: multiprocessing, and what is built on it, starts its processes with the memory of
this one, keys and all, or imports the program that it runs.)
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from portal import courtesy
from portal.delivery.cell_limits import CPU_SECONDS, READY, TOO_LONG, TOO_MUCH_MEMORY
from portal.processes import ROOT
from portal.seldom import Seldom

MOST = 2
"""Cells that one process uses at once; each is started when it is first needed."""
KILL_SECONDS = 3.0
"""How long a cell may take by the clock: it has its time of the processor long before, unless the
machine is overloaded."""
START_SECONDS = 20.0
"""How long a cell may take until it is ready."""
PATIENCE_SECONDS = 10.0
"""How long `fill` waits for a cell that is free."""

_MAIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from portal.delivery.in_cell import main; main()"
)
_SIZE = struct.Struct(">I")
_OWN_FAULT = "the portal could not fill it; its log says why"
_OUT_OF_MEMORY = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
"""What ends a process whose memory is at its limit: the kernel where the machine has no more, and
libraries that do not look whether they got any."""
_log = logging.getLogger(__name__)
_seldom = Seldom(_log, 60)


class NotFilled(Exception):
    """A template could not be filled. `template` is its index among those that were asked for; the
    message says why and what to do, as a sentence without its full stop."""

    def __init__(self, why: str, template: int = 0):
        super().__init__(why)
        self.template = template


class TookTooLong(NotFilled):
    """It had had its time before it was filled."""

    def __init__(self, template: int = 0):
        super().__init__(TOO_LONG, template)


class Cell:
    """One process. It does one thing at a time: `ask`, then `answer` when `fileno` can be read, or
    `kill` when it `is_overdue`. One that has just been started takes a while until it can be asked:
    then `fileno` can be read for the first time, and `greet` makes it ready. Raises NotFilled where
    the machine has no room for a process."""

    def __init__(self) -> None:
        try:
            # -I: nothing of this process's environment, or of who may write where it stands.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _MAIN, str(ROOT)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, env={}, cwd="/", bufsize=0,
            )
        except OSError as error:
            _log.error("No process can be started that fills templates: %s", error)
            raise NotFilled(_OWN_FAULT) from None
        self._overdue_at = time.monotonic() + START_SECONDS
        self.is_ready = False
        """Whether it can be asked without waiting for it."""
        self.seconds = 0.0
        """Time of the processor that what was asked last took; all of it where no answer came."""

    def fileno(self) -> int:
        """What can be read once there is an answer."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    @property
    def is_overdue(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() > self._overdue_at

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def greet(self) -> None:
        """Take its first word. Raises NotFilled when the process is gone."""
        try:
            self._read(len(READY))
        except EOFError:
            raise self._cause_of_end() from None
        self.is_ready = True

    def ask(self, event: str, templates: Sequence[str]) -> None:
        """Have the templates filled from an event's JSON text; waits until it is ready. Raises
        NotFilled when the process is gone, or does not take all of it in time."""
        if not self.is_ready:
            self._wait()
            self.greet()
        # In ASCII, since what was stored may hold half a character.
        asked = json.dumps([event, list(templates)]).encode()
        self.seconds = CPU_SECONDS
        self._overdue_at = time.monotonic() + KILL_SECONDS
        assert self._process.stdin is not None
        try:
            _write(self._process.stdin.fileno(), _SIZE.pack(len(asked)) + asked, self._overdue_at)
        except TimeoutError:
            self.kill()
            raise TookTooLong from None
        except OSError:
            raise self._cause_of_end() from None

    def answer(self) -> list[str]:
        """What the templates make, in their order. Raises NotFilled; the cell may be gone then."""
        try:
            (size,) = _SIZE.unpack(self._read(_SIZE.size))
            texts, why, template, self.seconds = json.loads(self._read(size))
        except EOFError:
            raise self._cause_of_end() from None
        if why == TOO_LONG:
            raise TookTooLong(template)
        if why is not None:
            if why == TOO_MUCH_MEMORY:
                self.kill()
            raise NotFilled(why, template)
        filled: list[str] = texts
        return filled

    def wait(self) -> list[str]:
        """The answer, when it comes in time. Raises NotFilled."""
        self._wait()
        return self.answer()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        left = max(0.0, self._overdue_at - time.monotonic())
        if not poll.poll(left * 1_000):
            self.kill()
            raise TookTooLong

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _cause_of_end(self) -> NotFilled:
        code = self._process.wait()
        self.kill()
        if code == -signal.SIGVTALRM:
            return TookTooLong()
        _seldom.warn(code, f"A process that fills templates has ended by itself ({code}).")
        return NotFilled(TOO_MUCH_MEMORY if -code in _OUT_OF_MEMORY else _OWN_FAULT)

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self.fileno(), size)
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class Cells:
    """The cells of this process, for whichever thread needs one."""

    def __init__(self) -> None:
        self._places = threading.Semaphore(MOST)
        self._idle: list[Cell] = []

    def fill(self, event: str, templates: Sequence[str]) -> list[str]:
        """What templates make of an event (its JSON text). Raises NotFilled."""
        if not self._places.acquire(timeout=PATIENCE_SECONDS):
            raise NotFilled("it could not be tried, because many others are; try again in a moment")
        began = time.monotonic()
        try:
            with self.borrowed() as cell:
                cell.ask(event, templates)
                return cell.wait()
        finally:
            self._places.release()
            courtesy.count(time.monotonic() - began)

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[Cell]:
        """A cell for the time of a `with`."""
        cell = self.take()
        try:
            yield cell
        except NotFilled:
            self.give_back(cell)
            raise
        except BaseException:
            # It may be at work still.
            cell.kill()
            raise
        else:
            self.give_back(cell)

    def take(self) -> Cell:
        """A cell that does nothing, for whoever counts by themselves how many they have. Raises
        NotFilled."""
        with contextlib.suppress(IndexError):
            while True:
                cell = self._idle.pop()
                if cell.is_alive:
                    return cell
                cell.kill()
        return Cell()

    def give_back(self, cell: Cell) -> None:
        """Let others use a cell that does nothing; one that is gone is forgotten."""
        if cell.is_alive:
            self._idle.append(cell)

    def forget(self) -> None:
        """After a fork: the cells are the parent's, and so are its threads."""
        self._places = threading.Semaphore(MOST)
        self._idle = []


cells = Cells()
"""Those of this process."""
os.register_at_fork(after_in_child=cells.forget)


def _write(fd: int, data: bytes, until: float) -> None:
    """Write all, by that moment of the monotonic clock. Raises TimeoutError: a pipe takes 64 KiB,
    and what stands still reads no more."""
    os.set_blocking(fd, False)
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    view = memoryview(data)
    while view:
        if not poll.poll(max(0.0, until - time.monotonic()) * 1_000):
            raise TimeoutError
        with contextlib.suppress(BlockingIOError):
            view = view[os.write(fd, view):]
