"""SQLite's write-ahead log, which is never to grow for as long as people read.

What is committed stands in it until a checkpoint has taken it over into the database, and it begins
again when all of it was taken over in a moment in which nobody reads. Where reads overlap there is
no such moment: so a log that has become long is emptied here, in the turn to write.
"""

from __future__ import annotations

import logging
from pathlib import Path

from portal.db.session import LOCK_WAIT_MS, LOG_BYTES, db, one_statement, turn_to_write
from portal.journal.seldom import Seldom

LONG_BYTES = 2 * LOG_BYTES
"""A log that is longer is emptied."""
WAIT_MS = 500
"""How long readers are waited for, while nobody writes: none of the portal's keeps a snapshot for
long."""

_log = logging.getLogger(__name__)
_seldom = Seldom(_log, 60)


def size_beside(database: Path) -> int:
    """How long the log of a database file is, in bytes."""
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size
    except OSError:
        return 0


def size() -> int | None:
    """How long the database's log is, in bytes; None on PostgreSQL."""
    file = db.engine.url.database
    return size_beside(Path(file)) if db.engine.dialect.name == "sqlite" and file else None


def shorten() -> bool:
    """Empty a log that is long; whether it is short now. Says in the portal's log where it cannot
    be emptied. Raises Unavailable where the turn to write does not come."""
    length = size()
    if length is None or length <= LONG_BYTES:
        return True
    # Most of it without a turn, while others write.
    _checkpoint("PASSIVE")
    with turn_to_write():
        is_emptied = _checkpoint("TRUNCATE")
    if not is_emptied:
        _seldom.warn(
            "wal",
            f"The database's log ({db.engine.url.database}-wal) has {length / 1e6:,.0f} MB and "
            "cannot be emptied: something reads the database without a pause. End other programs "
            "that have it open.",
        )
    return is_emptied


def _checkpoint(kind: str) -> bool:
    with one_statement() as connection:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={WAIT_MS}")
        try:
            is_busy = connection.exec_driver_sql(f"PRAGMA wal_checkpoint({kind})").scalar_one()
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={LOCK_WAIT_MS}")
    return not is_busy
