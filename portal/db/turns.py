"""Writers of a SQLite database take turns, and the kernel wakes the next one.

SQLite has no queue of writers: one that finds the database locked sleeps and looks again, ever
longer, up to a tenth of a second, while others that come later go first. So each writer locks a
file beside the database before it begins (flock): that is a queue, in which nobody sleeps longer
than necessary, and which forgets a process that dies.

flock has no time-out, and a thread that waits in it cannot be told to stop. So one thread of each
process, the keeper, waits there in place of the others, which wait for the keeper and can give up.
Before that the threads of a process stand in a line of their own.

The database is safe without all this: its own lock still holds, also against programs that take no
turns. Where the file is deleted, writers merely wait as SQLite has them wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import stat
import struct
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

LONG_SECONDS = 1.0
"""A turn that was kept for so long is told of."""
_RECORD = struct.Struct("<qdqqdd")


class NoTurn(Exception):
    """It was not this writer's turn in time; the message says who kept it."""


class CannotTakeTurns(NoTurn):
    """The file for it cannot be opened, read or locked; the message says which and why, `number` is
    the system's (errno)."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


@dataclass
class Record:
    """What the file says, written by whoever has the turn: its process and since when it has it
    (seconds of the system's monotonic clock), and of all turns so far how many there were, how many
    of these were long, and how many seconds they were kept and waited for."""

    process: int = 0
    since: float = 0.0
    turns: int = 0
    long: int = 0
    kept_seconds: float = 0.0
    waited_seconds: float = 0.0


class Turns:
    """The turns to write into one database file, of all processes on this machine. Another `name`
    is another queue, for those who are to stand in one before they stand in this one."""

    def __init__(self, database: Path, name: str = "turn"):
        self._database = database
        self.path = database.with_name(f"{database.name}-{name}")
        self._forget()
        _known.add(self)

    def _forget(self) -> None:
        """Begin anew: the threads of the process that forked this one are not here, and its open
        file would be its lock too."""
        file = getattr(self, "_file", None)
        if file is not None:
            os.close(file)
        self._file: int | None = None
        self._line = threading.Lock()
        self._changed = threading.Condition()
        self._keeper: threading.Thread | None = None
        self._keeper_waits = self._is_ours = self._is_wanted = False
        self._failure: OSError | None = None
        self._record = Record()

    def take(self, seconds: float) -> None:
        """Wait for the turn, for this many seconds at most. Raises NoTurn."""
        started = time.monotonic()
        if not self._line.acquire(timeout=seconds):
            raise NoTurn(self._whose())
        try:
            file = self._open()
            try:
                self._take(file, started + seconds)
                self._note(started)
            except OSError as error:
                raise self._cannot("used", error) from None
        except BaseException:
            if self._is_ours:
                self._let_go()
            self._line.release()
            raise

    def give_back(self) -> float:
        """End the turn; for how many seconds it was kept."""
        record, kept = self._record, time.monotonic() - self._record.since
        record.process, record.long = 0, record.long + (kept >= LONG_SECONDS)
        record.kept_seconds += kept
        assert self._file is not None
        self._write(self._file)
        self._let_go()
        self._line.release()
        return kept

    def _let_go(self) -> None:
        assert self._file is not None
        self._is_ours = False
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def record(self) -> Record:
        """What the file says now; `process` is 0 when nobody has the turn."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return Record()
        try:
            record = _read(file)
            with contextlib.suppress(BlockingIOError):
                # Whoever had it may have died without a word.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                record.process = 0
            return record
        finally:
            os.close(file)

    # -- waiting ----------------------------------------------------------------------------

    def _take(self, file: int, until: float) -> None:
        # Decided in one go with what the keeper does: the lock belongs to the open file, and a
        # keeper that is about to let it go would take it from a thread that has it meanwhile.
        with self._changed:
            if not self._keeper_waits:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._ask_keeper(file)
                else:
                    self._is_ours = True
                    return
            self._is_wanted = True
            try:
                self._changed.wait_for(
                    lambda: self._is_ours or self._failure, until - time.monotonic()
                )
            finally:
                # Also when it is interrupted: the keeper would hold the turn for nobody.
                self._is_wanted = False
            if self._is_ours:
                return
            if self._failure is not None:
                raise self._failure
        raise NoTurn(self._whose())

    def _ask_keeper(self, file: int) -> None:
        self._keeper_waits, self._failure = True, None
        if self._keeper is None:
            self._keeper = threading.Thread(
                target=self._keep, args=(file,), name="turn-keeper", daemon=True
            )
            self._keeper.start()
        self._changed.notify_all()

    def _keep(self, file: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._keeper_waits)
            failure = None
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                failure = error
            with self._changed:
                self._keeper_waits, self._failure = False, failure
                if failure is not None:
                    self._changed.notify_all()
                elif self._is_wanted:
                    self._is_ours = True
                    self._changed.notify_all()
                else:
                    # Whoever asked has given up, and nobody came after.
                    fcntl.flock(file, fcntl.LOCK_UN)

    # -- the file ---------------------------------------------------------------------------

    def _open(self) -> int:
        if self._file is None:
            try:
                # Where others may write into the directory, a link of theirs leads to any file.
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                is_new, mode = not self.path.exists(), self._mode()
                self._file = os.open(self.path, flags, mode)
                if is_new:
                    # A process that makes files for its owner alone may be the first to come.
                    os.fchmod(self._file, mode)
            except OSError as error:
                raise self._cannot("opened for writing", error) from None
        return self._file

    def _cannot(self, what: str, error: OSError) -> CannotTakeTurns:
        return CannotTakeTurns(
            f"{self.path}, the file by which writers take turns, cannot be {what} "
            f"({error.strerror}): the portal must be able to write into that directory",
            error.errno or 0,
        )

    def _mode(self) -> int:
        # For those who may use the database, as SQLite makes its own files beside it.
        with contextlib.suppress(FileNotFoundError):
            return stat.S_IMODE(self._database.stat().st_mode)
        return 0o600

    def _note(self, started: float) -> None:
        assert self._file is not None
        record = self._record = _read(self._file)
        record.process, record.since = os.getpid(), time.monotonic()
        record.turns += 1
        record.waited_seconds += record.since - started
        self._write(self._file)

    def _write(self, file: int) -> None:
        # A full disk keeps nobody from their turn.
        with contextlib.suppress(OSError):
            os.pwrite(file, _RECORD.pack(*vars(self._record).values()), 0)

    def _whose(self) -> str:
        record = self.record()
        if not record.process:
            return "too many writers wait for their turn"
        kept = time.monotonic() - record.since
        return f"process {record.process} has been writing for {kept:.1f} s"


def _read(file: int) -> Record:
    content = os.pread(file, _RECORD.size, 0)
    if len(content) != _RECORD.size:
        return Record()
    values = _RECORD.unpack(content)
    # What is no number would stay one however much is added to it.
    is_sound = all(math.isfinite(value) and value >= 0 for value in values)
    return Record(*values) if is_sound else Record()


_known: weakref.WeakSet[Turns] = weakref.WeakSet()
"""All of this process: a fork of it has its open files, whatever made them."""


def _forget_all() -> None:
    for turns in list(_known):
        turns._forget()


os.register_at_fork(after_in_child=_forget_all)
