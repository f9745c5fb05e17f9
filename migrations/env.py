"""Runs migrations inside the portal's application: on the connection of portal.db.schema, which has
the lock already, or, for Flask-Migrate's commands, on one of their own."""

from alembic import context
from flask import current_app

from portal import models  # noqa: F401 - fills the metadata
from portal.db.schema import one_at_a_time
from portal.db.session import db


def run(connection) -> None:
    """Migrate on a connection whose transaction the caller ends."""
    options = current_app.extensions["migrate"].configure_args
    context.configure(connection=connection, target_metadata=db.metadata, **options)
    with context.begin_transaction():
        context.run_migrations()


if "connection" in context.config.attributes:
    run(context.config.attributes["connection"])
else:
    with one_at_a_time() as own:
        run(own)
