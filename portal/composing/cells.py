"""Cells: processes in which merchants' templates are filled, and nothing else is done.

A template may take any time and memory, some of it in calls that nothing in Python can interrupt.
So it is filled in a process that holds no secret and no connection, whose memory is bounded, that
stops the work when it has had its time of the processor, and that is killed where that is no help.
What it is given, and what it makes, lies in memory that both share: no pipe takes more than a few
pages at once, and the thread that sends would wait for a process that yields to everybody.
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
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from portal.composing.cell_limits import (
    ANSWERED,
    ASKED,
    BUSY,
    CPU_SECONDS,
    READ_AT,
    READING_SECONDS,
    READY,
    RECORD_TOO_LARGE,
    RECORD_TOO_LONG,
    TOO_LONG,
    TOO_MUCH_MEMORY,
)
from portal.fairness import courtesy
from portal.journal.seldom import Seldom
from portal.processes import ROOT

MOST = 2
"""Cells that one process uses at once; each is started when it is first needed."""
KILL_SECONDS = 6.0
"""How long a cell may take by the clock: it has its time of the processor long before, unless the
machine is overloaded."""
START_SECONDS = 20.0
"""How long a cell may take until it is ready."""
PATIENCE_SECONDS = 10.0
"""How long `fill` waits for a cell that is free."""

_MAIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); from portal.composing.in_cell import main; main()"
)
_ASKED, _ANSWERED, _READ_AT = map(struct.Struct, (ASKED, ANSWERED, READ_AT))
_OWN_FAULT = "the portal could not fill it; its log says why"
_OUT_OF_MEMORY = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
"""What ends a process whose memory is at its limit: the kernel where the machine has no more, and
libraries that do not look whether they got any."""
_ending: list[subprocess.Popen[bytes]] = []
"""Processes that were killed, until they are gone: children of this one, whoever used them."""
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

    def __init__(self, template: int = 0, why: str = TOO_LONG):
        super().__init__(why, template)


class Cell:
    """One process. It does one thing at a time: `ask`, then `answer` when `fileno` can be read, or
    `kill` when it `is_overdue`. One that has just been started takes a while until it can be asked:
    then `fileno` can be read for the first time, and `greet` makes it ready. Raises NotFilled where
    the machine has no room for a process."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as stack:
            try:
                memory = stack.enter_context(os.fdopen(os.memfd_create("cell"), "r+b", buffering=0))
                self._memory = memory.fileno()
                self._socket, its = socket.socketpair()
                stack.enter_context(self._socket)
                with its:
                    # -I: nothing of this process's environment, or of who may write where it
                    # stands.
                    self._process = subprocess.Popen(
                        [sys.executable, "-I", "-c", _MAIN, str(ROOT)],
                        stdin=self._memory,
                        stdout=its.fileno(),
                        env={},
                        cwd="/",
                    )
            except OSError as error:
                _log.error("No process can be started that fills templates: %s", error)
                raise NotFilled(_OWN_FAULT) from None
            self._close = stack.pop_all().close
        self._overdue_at = time.monotonic() + START_SECONDS
        self.is_ready = False
        """Whether it can be asked without waiting for it."""
        self.seconds = 0.0
        """Time of the processor that what was asked last took; all of it where no answer came."""
        self._had = 0.0
        self._is_over = False

    def fileno(self) -> int:
        """What can be read once there is an answer."""
        return self._socket.fileno()

    @property
    def is_overdue(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() > self._overdue_at

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self._is_over and self._process.poll() is None

    def greet(self) -> None:
        """Take its first word. Raises NotFilled when the process is gone."""
        try:
            self._hear(len(READY))
        except EOFError:
            raise self._cause_of_end() from None
        self.is_ready = True

    def ask(self, event: str, templates: Sequence[str]) -> None:
        """Have the templates filled from an event's JSON text; waits until it is ready. Raises
        NotFilled when the process is gone, or does not take all of it in time."""
        if not self.is_ready:
            self._wait()
            self.greet()
        # What was stored may hold half a character.
        asked, record = json.dumps(list(templates)).encode(), event.encode("utf-8", "surrogatepass")
        self.seconds = CPU_SECONDS
        self._overdue_at = time.monotonic() + KILL_SECONDS
        _write(self._memory, bytes(_READ_AT.size) + asked, 0)
        _write(self._memory, record, _READ_AT.size + len(asked))
        self._had = self._used()
        try:
            self._socket.sendall(_ASKED.pack(len(asked), len(record)))
        except OSError:
            raise self._cause_of_end() from None

    def answer(self) -> list[str]:
        """What the templates make, in their order. Raises NotFilled; the cell may be gone then."""
        try:
            size, of_texts = _ANSWERED.unpack(self._hear(_ANSWERED.size))
        except EOFError:
            raise self._cause_of_end() from None
        said = memoryview(self.read(size + of_texts))
        sizes, why, template, self.seconds = json.loads(bytes(said[:size]))
        # It is the system's again until the next time.
        os.ftruncate(self._memory, 0)
        if why in (TOO_LONG, RECORD_TOO_LONG):
            raise TookTooLong(template, why)
        if why is not None:
            if why in (TOO_MUCH_MEMORY, RECORD_TOO_LARGE):
                self.kill()
            raise NotFilled(why, template)
        return list(_texts(said[size:], sizes))

    def wait(self) -> list[str]:
        """The answer, when it comes in time. Raises NotFilled."""
        self._wait()
        return self.answer()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        left = max(0.0, self._overdue_at - time.monotonic())
        if not poll.poll(left * 1_000):
            raise self.end_overdue()

    def end_overdue(self) -> TookTooLong:
        """End the process, whose time is over; why it was not done by then."""
        used, read_at = self._used(), self._read_at()
        self.kill()
        if used - (read_at or self._had) < (CPU_SECONDS if read_at else READING_SECONDS):
            self.seconds = used - self._had
            return TookTooLong(why=BUSY)
        return TookTooLong(why=TOO_LONG if read_at else RECORD_TOO_LONG)

    def kill(self) -> None:
        """End the process, whatever it does. Nobody waits until it is gone, and has given its
        memory back."""
        if self._is_over:
            return
        self._is_over = True
        self._process.kill()
        self._close()
        _ending.append(self._process)
        _forget_ended()

    def _cause_of_end(self) -> NotFilled:
        code = self._process.wait()
        is_read = self._read_at() > 0
        self.kill()
        if code == -signal.SIGVTALRM:
            return TookTooLong(why=TOO_LONG if is_read else RECORD_TOO_LONG)
        _seldom.warn(code, f"A process that fills templates has ended by itself ({code}).")
        if -code in _OUT_OF_MEMORY:
            return NotFilled(TOO_MUCH_MEMORY if is_read else RECORD_TOO_LARGE)
        return NotFilled(_OWN_FAULT)

    def _read_at(self) -> float:
        """How much of the processor's time it had had when it came to the templates; 0 before."""
        (read_at,) = _READ_AT.unpack(os.pread(self._memory, _READ_AT.size, 0))
        return float(read_at)

    def _used(self) -> float:
        """How much of the processor's time the process has had."""
        with contextlib.suppress(OSError):
            # The clock of a process by its number (clock_getcpuclockid(3)), which Python has not.
            return time.clock_gettime((~self._process.pid << 3) | 2)
        return 0.0

    def _hear(self, size: int) -> bytes:
        """What the process says. Raises EOFError when it is gone."""
        try:
            said = self._socket.recv(size)
        except ConnectionResetError:
            said = b""
        if not said:
            raise EOFError
        return said

    def read(self, size: int) -> bytes:
        """What the process has put into the memory."""
        return os.pread(self._memory, size, _READ_AT.size)


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
"""Those of this process, which may be used by anything in it: an application for each would start
MOST for each."""
os.register_at_fork(after_in_child=cells.forget)


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _texts(made: memoryview, sizes: Sequence[int]) -> Iterator[str]:
    start = 0
    for size in sizes:
        yield str(made[start : start + size], "utf-8")
        start += size


def _forget_ended() -> None:
    _ending[:] = [one for one in _ending if one.poll() is None]
