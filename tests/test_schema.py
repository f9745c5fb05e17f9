"""Migrations make the tables that the models describe."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask

from portal import create_app
from portal.config import load_config
from portal.db import schema
from portal.db.session import db
from tests.conftest import on_both_databases


@pytest.fixture
def empty_app(environment: dict[str, str]) -> Flask:
    return create_app(load_config(environment, first_start=True))


@on_both_databases
def test_migrations_and_models_agree(empty_app: Flask):
    with empty_app.app_context():
        db.drop_all()
        with db.engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
        assert not schema.is_current()
        schema.upgrade()
        assert schema.is_current()
        with db.engine.connect() as connection:
            differences = compare_metadata(MigrationContext.configure(connection), db.metadata)
        assert differences == []
        with db.engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE alembic_version"))
        db.drop_all()
        db.engine.dispose()
