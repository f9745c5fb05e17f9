"""What is wrong with the database, told from the error that its driver raises.

SQLite's result codes are those of https://www.sqlite.org/rescode.html, PostgreSQL's SQLSTATEs those
of https://www.postgresql.org/docs/current/errcodes-appendix.html.
"""

from __future__ import annotations

import errno
import sqlite3
from dataclasses import dataclass

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout


@dataclass(frozen=True)
class Trouble:
    """A way in which a database takes nothing: its name for machines, a sentence for who runs the
    portal, and whether it may be over in a while, with the same program and the same data."""

    name: str
    sentence: str
    passes: bool = True


LOCKED = Trouble("locked", "Another program or process holds the database's lock.")
CANCELLED = Trouble(
    "cancelled",
    "The database ended a statement: somebody cancelled it, or it took longer than the "
    "statement_timeout that is set there.",
)
COLLIDED = Trouble("collided", "Two transactions wanted the same rows; one of them must try again.")
FULL = Trouble("full", "There is no room on the disk of the database: make some.")
NEARLY_FULL = Trouble(
    "full",
    "The disk of the database has less room than PORTAL_DISK_FREE_MB asks for: make some, "
    "or keep the logs for fewer days.",
)
MEMORY = Trouble("memory", "The database has no memory left.")
CONNECTIONS = Trouble(
    "connections", "The database takes no more connections, or all of this process are in use."
)
READ_ONLY = Trouble(
    "read-only",
    "The database can only be read: its file or file system is write-protected, or the server is "
    "a standby.",
)
UNREADABLE = Trouble(
    "unreadable",
    "The database's files cannot be opened, read or written: look at the disk, "
    "whether it is mounted for reading only, and at whose the files are.",
)
AWAY = Trouble(
    "away", "The database's server does not answer, or takes nobody in: look at the server."
)
SILENT = Trouble("silent", "The database gives no answer in time.")
FORBIDDEN = Trouble(
    "forbidden",
    "The database's user may not read or write all of the portal's tables: make it "
    "their owner, or grant it what it lacks.",
)
DAMAGED = Trouble(
    "damaged",
    "The database is damaged: restore it from a backup, as docs/operators.md says.",
    passes=False,
)
MISSING = Trouble(
    "schema", "The database has not the tables and columns that this version needs.", passes=False
)

_SQLITE = {
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_PROTOCOL: LOCKED,
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_NOMEM: MEMORY,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_IOERR: UNREADABLE,
    sqlite3.SQLITE_CANTOPEN: UNREADABLE,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}
_POSTGRESQL = {
    "55P03": LOCKED,
    "55006": LOCKED,
    "57014": CANCELLED,
    "40001": COLLIDED,
    "40P01": COLLIDED,
    "53100": FULL,
    "53200": MEMORY,
    "53300": CONNECTIONS,
    "25006": READ_ONLY,
    "25P03": AWAY,
    "57P01": AWAY,
    "57P02": AWAY,
    "57P03": AWAY,
    "57P05": AWAY,
    "58030": UNREADABLE,
    "XX001": DAMAGED,
    "XX002": DAMAGED,
    "42501": FORBIDDEN,
    "42P01": MISSING,
    "42703": MISSING,
}
_POSTGRESQL_CLASSES = {"08": AWAY, "53": CONNECTIONS, "57": AWAY, "58": UNREADABLE}
_MISSING_IN_SQLITE = ("no such table", "no such column", "table ")
"""How SQLite's messages begin that name what is not there; the last is “table … has no column”."""


def trouble_of(error: SQLAlchemyError) -> Trouble | None:
    """What is wrong with the database; None for an error that is not the database's own state,
    such as a key that is there already."""
    if isinstance(error, PoolTimeout):
        return CONNECTIONS
    if not isinstance(error, DBAPIError):
        return None
    original = error.orig
    if isinstance(original, sqlite3.Error):
        return _of_sqlite(original)
    if isinstance(original, psycopg.Error):
        return _of_postgresql(original) or (AWAY if error.connection_invalidated else None)
    return AWAY if error.connection_invalidated else None


def is_temporary(error: SQLAlchemyError) -> bool:
    """Whether the database may take the same statement later: locked, full, restarting."""
    trouble = trouble_of(error)
    return trouble is not None and trouble.passes


def trouble_of_file(number: int) -> Trouble:
    """What is wrong when the system refuses a file beside the database with this errno."""
    if number == errno.ENOSPC:
        return FULL
    return READ_ONLY if number in (errno.EROFS, errno.EACCES, errno.EPERM) else UNREADABLE


def _of_sqlite(error: sqlite3.Error) -> Trouble | None:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code == sqlite3.SQLITE_ERROR and str(error).startswith(_MISSING_IN_SQLITE):
        return MISSING
    return _SQLITE.get(code)


def _of_postgresql(error: psycopg.Error) -> Trouble | None:
    state = error.sqlstate or ""
    found = _POSTGRESQL.get(state) or _POSTGRESQL_CLASSES.get(state[:2])
    if found is None and isinstance(error, psycopg.OperationalError):
        # Without a code: the server was not reached, or did not let us in.
        return AWAY
    return found


def reason(error: BaseException) -> str:
    """The driver's own words, one line, for the log: they hold no values (say_nothing_of_rows)."""
    original = getattr(error, "orig", None) or error
    return str(original).strip().partition("\n")[0]


def say_nothing_of_rows(error: BaseException) -> bool:
    """Take the values of rows out of the text of a driver's error, which goes into the log with its
    traceback: PostgreSQL names them in its details and contexts ("Failing row contains …"), and for
    values that do not fit (SQLSTATE class 22) in the message itself. Whether there was any."""
    if not isinstance(error, psycopg.Error) or not error.diag.message_primary:
        return False
    state = error.sqlstate or ""
    kept = type(error).__name__ if state.startswith("22") else error.diag.message_primary
    error.args = (f"{kept} (SQLSTATE {state})",)
    return True
