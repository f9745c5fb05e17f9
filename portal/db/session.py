"""The sessions of the database, and the one way to write: `writing()`."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg.errors
import sqlalchemy as sa
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session, scoped_session

from portal import runtime
from portal.database_errors import LOCKED, MISSING, say_nothing_of_rows, trouble_of, trouble_of_file
from portal.db.turns import LONG_SECONDS, CannotTakeTurns, NoTurn, Record, Turns
from portal.db.writers import NEVER as NEVER
from portal.db.writers import Database, Manners, Writers
from portal.errors import Unavailable
from portal.fairness import courtesy
from portal.fairness.company import Company

LOCK_WAIT_MS = 5_000
"""How long a statement waits for another program's or process's lock before the request answers
503; the portal's own writers too, on SQLite."""
BUSY = "The database is busy or away; nothing was stored. Try again in a few seconds."
UNUSABLE = "The portal's database cannot be used until somebody has mended it; nothing was stored."
LOG_BYTES = 67_108_864
"""How long SQLite's write-ahead log stays when it begins again (portal.db.wal)."""
GONE_SECONDS = 6
"""How soon PostgreSQL and the portal notice that the other's machine is gone without a word: until
then a request waits for its 503, and a dead worker's locks hold its lanes."""
RESTED_SECONDS = 1
"""How long a connection to PostgreSQL may have rested and be used without a look."""
STOPPED_SECONDS = 30
"""How long a process that was stopped in the middle of a transaction keeps its locks."""

_log = logging.getLogger(__name__)


class Base(DeclarativeBase):
    """Base of all models, with names for constraints so that migrations can change them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def table(model: type[Base]) -> sa.Table:
    """A model's table, for statements that make no objects."""
    return cast(sa.Table, model.__table__)


def insert_into(
    session: Session | scoped_session[Any], into: sa.Table
) -> sqlite.Insert | postgresql.Insert:
    """An insert that may say what to do when the row is there; each database has its own."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    return sqlite.insert(into) if is_sqlite else postgresql.insert(into)


db = SQLAlchemy(model_class=Base)
migrate = Migrate(render_as_batch=True)
"""Flask's extensions hold nothing of an application: what is its own they find through it."""


_EACH_ALONE = {"isolation_level": "AUTOCOMMIT"}
"""For PostgreSQL: each statement is a transaction of its own."""


@contextmanager
def writing(
    patience_seconds: float | None = None, *, is_large: bool = False
) -> Iterator[scoped_session[Any]]:
    """One write transaction: everything in it is committed at its end, or nothing is.

    On SQLite it takes the write lock at its start (BEGIN IMMEDIATE): a transaction that reads first
    and writes later would fail at once, whatever the timeout, when another process wrote in
    between. Before that it waits for its turn (portal.db.turns), at most `patience_seconds`. One
    that `is_large` stands in line with its like first, so that who writes little never waits for
    more than one or two of them; while several merchants are there (portal.fairness.company), none
    begins just when something has begun for others. Objects loaded before it are read again inside
    it. Raises Unavailable when the database cannot take the write now.
    """
    session = db.session
    try:
        session.rollback()
        with turn_to_write(patience_seconds, is_large=is_large) as options:
            try:
                session.connection(execution_options=options)
                yield session
                session.commit()
            except BaseException:
                # Before others have their turn.
                session.rollback()
                raise
    except SQLAlchemyError as error:
        if (trouble := trouble_of(error)) and trouble is not MISSING:
            raise Unavailable(BUSY if trouble.passes else UNUSABLE, trouble) from error
        raise
    if patience_seconds is None:
        runtime.part(Database).written_at = time.monotonic()


@contextmanager
def reading(*, each_alone: bool = False) -> Iterator[scoped_session[Any]]:
    """One short read transaction, for workers: a snapshot that stays open would keep SQLite's
    log from shrinking. With `each_alone` there is none on PostgreSQL, where each statement sees
    what is committed by then in any case, and to begin and to end one are round trips: for who
    reads often, and fetches no rows by and by, which takes a cursor and so a transaction. Raises
    Unavailable when the database cannot be read now."""
    session = db.session
    with unavailable_when_away():
        session.rollback()
        try:
            if each_alone and db.engine.dialect.name != "sqlite":
                session.connection(execution_options=_EACH_ALONE)
            yield session
        finally:
            session.rollback()


def one_statement() -> Connection:
    """A connection for one statement that reads, as a `with`: without a transaction around it,
    which would cost as much as the statement does."""
    own = runtime.part(Database)
    if own.bare is None:
        engine = db.engine
        # PostgreSQL's driver begins one of its own unless it is told; SQLite's is (begin, below).
        how = {} if engine.dialect.name == "sqlite" else _EACH_ALONE
        own.bare = engine.execution_options(is_bare=True, **how)
    return own.bare.connect()


def written_at() -> float:
    """When this process has last written, in seconds of its monotonic clock; what was written with
    less than the usual patience, to see whether it can be, does not count."""
    return runtime.part(Database).written_at


@contextmanager
def turn_to_write(
    patience_seconds: float | None = None, *, may_be_long: bool = False, is_large: bool = False
) -> Iterator[dict[str, Any]]:
    """The turn to write, with the execution options for the connection that does; for migrations,
    and what else does not write by writing(), where `is_large` is explained. A long turn is noted
    in the log, unless it `may_be_long`. Raises Unavailable when the turn does not come in time."""
    own = runtime.part(Database)
    writers = own.writers
    if writers is None:
        if is_large:
            own.manners.stand_back()
        yield {}
        return
    if patience_seconds is None:
        patience = writers.patience_seconds(LOCK_WAIT_MS / 1_000)
    else:
        patience = patience_seconds
    until = time.monotonic() + patience
    if is_large:
        with _in_line(writers.large, patience):
            # The line waits too.
            own.manners.stand_back()
            with turn_to_write(
                max(0.0, until - time.monotonic()), may_be_long=may_be_long
            ) as options:
                yield options
        return
    try:
        try:
            writers.turns.take(patience)
        except CannotTakeTurns as error:
            raise Unavailable(BUSY, trouble_of_file(error.number)) from error
        except NoTurn as error:
            raise Unavailable(BUSY, LOCKED) from error
        try:
            patience_ms = max(0, int((until - time.monotonic()) * 1_000))
            yield {"immediate": True, "patience_ms": patience_ms}
            writers.refused_at = NEVER
        finally:
            kept = writers.turns.give_back()
            if kept >= LONG_SECONDS and not may_be_long:
                _log.warning(
                    "Process %d kept others from writing for %.1f s, in %s.",
                    os.getpid(),
                    kept,
                    _caller(),
                )
    except (Unavailable, DBAPIError) as error:
        if patience_seconds is None and _is_locked(error):
            writers.refused_at = time.monotonic()
        raise


@contextmanager
def _in_line(large: Turns, patience: float) -> Iterator[None]:
    try:
        large.take(patience)
    except CannotTakeTurns as error:
        raise Unavailable(BUSY, trouble_of_file(error.number)) from error
    except NoTurn as error:
        raise Unavailable(BUSY, LOCKED) from error
    try:
        yield
    finally:
        large.give_back()


def _is_locked(error: Unavailable | DBAPIError) -> bool:
    trouble = error.trouble if isinstance(error, Unavailable) else trouble_of(error)
    return trouble is LOCKED


def are_several_there() -> bool:
    """Whether who writes much keeps others from writing now, so that it is to write less at a time;
    nobody does on PostgreSQL."""
    own = runtime.part(Database)
    return own.writers is not None and own.manners.are_several()


def others_are_there() -> bool:
    """Whether several merchants are there now, on either database."""
    return runtime.part(Database).manners.are_several()


def write_turns() -> Record | None:
    """Who may write now, and what turns have cost so far; None on PostgreSQL."""
    writers = runtime.part(Database).writers
    return writers.turns.record() if writers else None


def _caller() -> str:
    """Who writes, for people: the nearest function that is neither here nor in contextlib."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals["__name__"] in (__name__, "contextlib"):
        frame = frame.f_back
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"


@contextmanager
def unavailable_when_away() -> Iterator[None]:
    """Raises Unavailable for a database that cannot be read now."""
    try:
        yield
    except SQLAlchemyError as error:
        if (trouble := trouble_of(error)) and trouble is not MISSING:
            raise Unavailable("The database is busy or away.", trouble) from error
        raise


def prepare_engine(engine: Engine, company: Company) -> Database:
    """Make the database fit for many processes that may end or vanish at any moment, and SQLite
    durable; what this process knows of it."""

    @event.listens_for(engine, "handle_error")
    def note(context: ExceptionContext) -> None:
        original = context.original_exception
        courtesy.is_answered()
        if say_nothing_of_rows(original) and context.sqlalchemy_exception:
            # Its text was made of the driver's.
            name = f"{type(original).__module__}.{type(original).__name__}"
            context.sqlalchemy_exception.args = (f"({name}) {original}",)
        if isinstance(original, psycopg.errors.ReadOnlySqlTransaction):
            # The server has become a standby: the next connection finds the new primary.
            context.is_disconnect = True

    if engine.dialect.name == "sqlite":
        return Database(Manners(company), _prepare_sqlite(engine))

    # Its processes work for whoever asks, and their time is in no account of ours.
    event.listen(engine, "before_cursor_execute", lambda *_: courtesy.asks())
    event.listen(engine, "after_cursor_execute", lambda *_: courtesy.is_answered())

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # The server's side of what engine_settings() asks of ours.
        connection.execute(
            f"SET tcp_user_timeout = {GONE_SECONDS * 1_000};"
            f"SET tcp_keepalives_idle = {GONE_SECONDS // 3};"
            f"SET tcp_keepalives_interval = {GONE_SECONDS // 3};"
            "SET tcp_keepalives_count = 2;"
            f"SET idle_in_transaction_session_timeout = {STOPPED_SECONDS * 1_000};"
            # Unless the URL, the role or the database has one.
            f"SELECT set_config('lock_timeout', '{LOCK_WAIT_MS}', false)"
            " WHERE current_setting('lock_timeout') = '0'"
        )
        connection.commit()

    _look_whether_it_is_there(engine)
    return Database(Manners(company), None)


def _look_whether_it_is_there(engine: Engine) -> None:
    """Let a connection that has rested be tried before it is used: the server may have ended it
    meanwhile. SQLAlchemy's `pool_pre_ping` tries each at each use, a round trip that takes as long
    as the statement of a single event does."""

    @event.listens_for(engine, "checkin")
    def rest(_connection: Any, record: Any) -> None:
        record.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def look(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("rests_since", math.inf) < RESTED_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            # All that the pool has are as old, and are made anew.
            raise InvalidatePoolError from error


def _prepare_sqlite(engine: Engine) -> Writers | None:

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={LOCK_WAIT_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if "is_bare" in options:
            return
        if "immediate" not in options:
            connection.exec_driver_sql("BEGIN")
            return
        patience_ms = options.get("patience_ms", LOCK_WAIT_MS)
        # Past SQLAlchemy, where it would cost as much as an insert; it cannot fail.
        connection.connection.execute(f"PRAGMA busy_timeout={patience_ms}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    file = engine.url.database
    if not file or file == ":memory:" or file.startswith("file:"):
        return None
    path = Path(file).absolute()
    return Writers(Turns(path), Turns(path, "large"))
