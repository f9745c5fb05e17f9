"""Runs migrations inside the portal's application (Flask-Migrate)."""

from alembic import context
from flask import current_app

from portal import models  # noqa: F401 - fills the metadata
from portal.extensions import db, turn_to_write


def run() -> None:
    """Migrate on the application's own engine."""
    options = current_app.extensions["migrate"].configure_args
    with turn_to_write(db.engine, may_be_long=True) as how, db.engine.connect() as connection:
        connection.execution_options(**how)
        context.configure(connection=connection, target_metadata=db.metadata, **options)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


run()
