"""The database's schema: brought up to date, and compared with what this version needs."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app

from portal import installed
from portal.config import SettingError
from portal.database_errors import Trouble
from portal.db import snapshots
from portal.db.session import db, turn_to_write

EMPTY = Trouble(
    "schema-empty",
    f"The database has no tables yet; run: {installed.COMMAND} migrate",
    passes=False,
)
OLDER = Trouble(
    "schema-older",
    f"The database is not migrated to this version yet; run: {installed.COMMAND} migrate",
    passes=False,
)
AHEAD = Trouble(
    "schema-newer",
    "The database was migrated by a newer version of the portal: start that one, "
    "or put back the copy of the database from before.",
    passes=False,
)

NEWER = (
    "This database is newer than this version of the portal (its schema is {found}, and this "
    "version knows up to {head}). Start the version that it belongs to, or put back the copy of "
    "the database from before the upgrade."
)
UNRELEASED = (
    "This database was made before the first release (its schema is {found}), and this version "
    "upgrades from {first} on: start the last version that still knows it, then this one."
)
FORMER = frozenset({"0032", "0033", "0034"})
"""Steps of before the first release: the last one finds out which of them a database has taken."""
PATIENCE_SECONDS = 1_800
"""How long a start waits for another one that migrates the same database."""
_LOCK = 0x706F7274616C
"""The number of that lock, on PostgreSQL: of this database, and of nothing else in it."""

logging.getLogger("alembic").setLevel(logging.WARNING)


def is_current() -> bool:
    """Whether the database has the schema that this version needs."""
    return _found() == _directory().get_current_head()


def trouble() -> Trouble | None:
    """What is wrong with the database's schema. Raises SQLAlchemy's errors when it cannot be
    read."""
    return trouble_of(_found())


def trouble_of(revision: str | None) -> Trouble | None:
    """What is wrong with a schema of this revision."""
    head, known = _revisions(current_app.extensions["migrate"].directory)
    if revision is None:
        return EMPTY
    if revision == head:
        return None
    return OLDER if revision in known | FORMER or revision < min(known) else AHEAD


@lru_cache
def _revisions(directory: str) -> tuple[str | None, frozenset[str]]:
    # Every /readyz asks.
    scripts = ScriptDirectory(directory)
    return scripts.get_current_head(), frozenset(
        script.revision for script in scripts.walk_revisions()
    )


def refuse_newer() -> None:
    """Raises SettingError when the schema is one of a newer version of the portal, or older than
    all that can be upgraded, and for a database that cannot hold every text."""
    _refuse_narrow()
    found = _found()
    if found is None:
        return
    head, known = _revisions(current_app.extensions["migrate"].directory)
    if found in known | FORMER:
        return
    first = min(known)
    if found < first:
        raise SettingError(UNRELEASED.format(found=found, first=first))
    raise SettingError(NEWER.format(found=found, head=head))


def _refuse_narrow() -> None:
    if db.engine.dialect.name != "postgresql":
        return
    with db.engine.connect() as connection:
        encoding = str(connection.scalar(sa.text("SHOW server_encoding")))
    if encoding != "UTF8":
        raise SettingError(
            f"The database keeps text as {encoding}, which not every text fits: make one with "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in "
            "PORTAL_DATABASE_URL."
        )


def upgrade(tell: Callable[[str], None] = lambda _: None, *, with_copy: bool = True) -> None:
    """Migrate the database to this version's schema; does nothing when it is there.

    An SQLite database that holds something is copied first (portal.db.snapshots); what was done is
    told in a line. A step that fails changes nothing: all of them are one transaction. Raises
    SettingError.
    """
    refuse_newer()
    if is_current():
        return
    with one_at_a_time() as connection:
        # Another start may have migrated it meanwhile.
        found = _revision(connection)
        if found == _directory().get_current_head():
            return
        if found is not None and with_copy:
            _copy(found, tell)
        if found in FORMER:
            first = {"first": _directory().get_base()}
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :first"), first)
        config = current_app.extensions["migrate"].migrate.get_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def one_at_a_time() -> Iterator[sa.Connection]:
    """A transaction in which the schema may be read and changed: whoever else wants that waits
    until it has ended. It is committed. Raises Unavailable."""
    with (
        turn_to_write(PATIENCE_SECONDS, may_be_long=True) as how,
        db.engine.connect().execution_options(**how) as connection,
        connection.begin(),
    ):
        if connection.dialect.name == "postgresql":
            # Steps may take long, and so may others' steps.
            for name in ("lock", "statement", "idle_in_transaction_session"):
                patience = f"SET LOCAL {name}_timeout = {PATIENCE_SECONDS * 1_000}"
                connection.execute(sa.text(patience))
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield connection


def _copy(found: str, tell: Callable[[str], None]) -> None:
    if db.engine.dialect.name != "sqlite":
        tell("The schema is brought up to date; a dump before that is yours to make (pg_dump).")
        return
    path = Path(db.engine.url.database or "")
    try:
        copy = snapshots.take(path, found)
    except snapshots.NoRoom as error:
        raise SettingError(str(error)) from None
    except (OSError, sqlite3.Error) as error:
        raise SettingError(
            f"The database {path} cannot be copied before its schema is changed ({error}): look at "
            f"that file and its directory, or run: {installed.COMMAND} migrate --no-copy"
        ) from None
    tell(f"The schema is brought up to date; the database from before is {copy}.")


def _found() -> str | None:
    with db.engine.connect() as connection:
        return _revision(connection)


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _directory() -> ScriptDirectory:
    return ScriptDirectory(current_app.extensions["migrate"].directory)
