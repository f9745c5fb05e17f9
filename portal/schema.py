"""The database's schema: brought up to date, and compared with what this version needs."""

from __future__ import annotations

import logging

import flask_migrate
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app

from portal.extensions import db


def is_current() -> bool:
    """Whether the database has the schema that this version needs."""
    directory = ScriptDirectory(current_app.extensions["migrate"].directory)
    with db.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() == (
            directory.get_current_head()
        )


def upgrade() -> None:
    """Migrate the database to this version's schema; does nothing when it is there."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if not is_current():
        flask_migrate.upgrade()
