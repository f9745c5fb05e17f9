"""The thread of a drain that writes, so that the loop that sends never waits for the database.

To write is mostly to wait, for the disk or for the server, and other threads can run meanwhile. One
batch is written at a time, so results are written in the order in which they came.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa
from flask import Flask

from portal.config import Config
from portal.db.session import are_several_there, db, writing
from portal.delivery import health, lanes, recording
from portal.delivery.paces import PACES, Paces
from portal.delivery.recording import FinishedAttempt
from portal.delivery.trying import Result
from portal.errors import Unavailable
from portal.journal.seldom import Seldom
from portal.outbound import defects
from portal.storage import allowance

AT_ONCE, AT_ONCE_BESIDE_OTHERS = 300, 75
"""How many results go into one transaction on SQLite. That keeps everybody else from writing for
some 20 ms, or some 5 ms with fewer results, where others are there."""
AT_ONCE_AMONG_WRITERS = 500
"""The same for PostgreSQL, where others write at the same time. What has been committed is not sent
again if the rest takes long."""
MOST_LEFT_OUT = 3
"""How many results of one batch are left out if the database refuses them in any form and takes
others: the lane's next owner makes these attempts again. If it refuses more, the fault is
elsewhere."""

_log = logging.getLogger(__name__)
_seldom, _defects = Seldom(_log, 10), Seldom(_log, 60)


@dataclass
class Batch:
    """Results to be written, and the leases under which they are written.

    A batch without results renews the leases.
    """

    tokens: dict[int, int]
    results: list[Result] = field(default_factory=list)
    healths: list[health.Changed] = field(default_factory=list)

    def without(self, lost: set[int]) -> Batch:
        """What is left of it when some lanes have another owner."""
        return Batch(
            {lane: token for lane, token in self.tokens.items() if lane not in lost},
            [one for one in self.results if one.line.lane not in lost],
            [one for one in self.healths if one.lane not in lost],
        )

    def pieces(self, most: int = AT_ONCE) -> list[Batch]:
        """The same, cut into transactions that do not keep others from writing for long; changes of
        health are in the last."""
        starts = range(0, max(1, len(self.results)), most)
        found = [Batch(self.tokens, self.results[one : one + most]) for one in starts]
        found[-1].healths = self.healths
        return found

    def parts(self, error: Exception) -> list[Batch]:
        """Smaller batches for one that cannot be written because of `error`, to find out which
        result is to blame. A result that is alone is written as a failure, without anything that
        came from outside. Empty when nothing is left to try."""
        results, healths, tokens = self.results, self.healths, self.tokens
        if results and healths:
            return [Batch(tokens, results), Batch(tokens, healths=healths)]
        if (count := max(len(results), len(healths))) > 1:
            half = count // 2
            return [
                Batch(tokens, results[:half], healths[:half]),
                Batch(tokens, results[half:], healths[half:]),
            ]
        if not results or results[0].tried.is_plain:
            return []
        plain = results[0].tried.plainly(defects.answer(error, "record the result"))
        change = recording.settle_by_schedule(plain, plain.schedule)
        return [Batch(tokens, [Result(results[0].line, plain, change)])]


@dataclass(frozen=True)
class Written:
    """What became of a batch: the attempts that are committed, those that were left out, and the
    lanes that were lost."""

    batch: Batch
    tried: list[FinishedAttempt]
    left_out: list[FinishedAttempt]
    lost: set[int]


def commit(batch: Batch, config: Config) -> None:
    """Write a batch in one transaction. Raises LeaseLost, and writes nothing, if one of its lanes
    has another owner; Unavailable; and whatever error the database makes of its content."""
    tried = [one.tried for one in batch.results]
    full = allowance.full_among(one.due.merchant_id for one in tried)
    # Before its turn to write, for it may have to wait for the interpreter.
    rows = recording.rows_of(tried, full)
    with writing(is_large=bool(tried)) as session:
        lanes.renew(batch.tokens)
        if tried:
            recording.log_attempts(session, rows)
            recording.update_deliveries(
                session, [(one.tried.due, one.change) for one in batch.results]
            )
        for changed in batch.healths:
            health.store(session, changed, config)


class Recorder:
    """Writes one batch after another by `commit`, which gets each in small parts; `collect` returns
    what became of them."""

    def __init__(
        self,
        app: Flask,
        config: Config,
        commit: Callable[[Batch, Config], None] = commit,
        paces: Paces = PACES,
    ) -> None:
        self._app = app
        self._config = config
        self._commit = commit
        self._paces = paces
        self._in: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._out: queue.SimpleQueue[Written] = queue.SimpleQueue()
        self._under_way = 0
        self._closing = False
        self._bell: int | None = os.eventfd(0, os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    @property
    def bell(self) -> int:
        """A file descriptor that can be read when something has been written: the loop that sends
        waits for it as for its sockets."""
        assert self._bell is not None
        return self._bell

    @property
    def is_busy(self) -> bool:
        """Whether a batch is being written, or was written and not collected yet."""
        return self._under_way > 0

    def put(self, batch: Batch) -> None:
        """Write a batch, trying again until the database takes it."""
        self._under_way += 1
        self._in.put(batch)

    def collect(self) -> list[Written]:
        """What became of the batches that are done.

        Raises RuntimeError when the thread has died of a defect: the drain must end too, or it
        would go on sending and record nothing.
        """
        if self._bell is not None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
        found: list[Written] = []
        while self._under_way:
            try:
                found.append(self._out.get_nowait())
            except queue.Empty:
                if not self._thread.is_alive():
                    raise RuntimeError("The recorder has ended; see its error above.") from None
                break
            self._under_way -= 1
        return found

    def close(self) -> None:
        """Write what is left, trying once. What the database does not take is sent again later."""
        self._closing = True
        self._in.put(None)
        self._thread.join()
        os.close(self.bell)
        self._bell = None

    def _work(self) -> None:
        with self._app.app_context():
            while (batch := self._in.get()) is not None:
                self._out.put(self._write(batch))
                os.eventfd_write(self.bell, 1)
            db.session.remove()

    def _write(self, batch: Batch) -> Written:
        lost: set[int] = set()
        whole = batch
        written: list[FinishedAttempt] = []
        left_out: list[FinishedAttempt] = []
        refused = 0
        most = AT_ONCE_BESIDE_OTHERS if are_several_there() else AT_ONCE
        if db.engine.dialect.name != "sqlite":
            most = AT_ONCE_AMONG_WRITERS
        waiting = batch.pieces(most)[::-1]
        while waiting and (batch := waiting.pop().without(lost)).tokens:
            try:
                self._commit(batch, self._config)
                written += [one.tried for one in batch.results]
            except lanes.LeaseLost as error:
                _log.warning("Lanes %s have another owner now.", sorted(error.lanes))
                lost |= error.lanes
                waiting.append(batch)
            except Unavailable as error:
                if self._closing:
                    _log.warning("Attempts could not be recorded and will be made again: %s", error)
                    break
                _seldom.warn(
                    error.trouble,
                    "Attempts are kept until the database takes them. "
                    f"{error.trouble.sentence if error.trouble else error}",
                )
                time.sleep(self._paces.away_seconds)
                waiting.append(batch)
            except Exception as error:
                parts = batch.parts(error)
                waiting += reversed(parts)
                if parts:
                    continue
                refused += 1
                left_out += [one.tried for one in batch.results]
                if refused <= MOST_LEFT_OUT and (written or waiting):
                    defects.noted(error, "A result cannot be recorded in any form; it is left out.")
                    continue
                if not isinstance(error, sa.exc.SQLAlchemyError):
                    raise
                # The fault is no single result's. The rows are still due; another owner may
                # succeed.
                _defects.warn(
                    type(error),
                    "A batch of attempts cannot be recorded. They will be made again; "
                    f"lanes {sorted(batch.tokens)} are given back.",
                    exc_info=error,
                )
                lost |= batch.tokens.keys()
                self._give_back(batch.tokens)
        return Written(whole, written, left_out, lost)

    def _give_back(self, tokens: dict[int, int]) -> None:
        try:
            lanes.release(tokens, rest_seconds=self._paces.defect_rest_seconds)
        except (Unavailable, sa.exc.SQLAlchemyError) as error:
            _log.warning("Lanes %s are free when their leases end: %s", sorted(tokens), error)
