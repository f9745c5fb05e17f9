"""Migrations make the tables that the models describe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask

from portal import create_app
from portal.audit import chain
from portal.audit.log import record
from portal.config import load_config
from portal.db import schema
from portal.db.session import db, table, writing
from portal.models import Merchant
from tests.conftest import on_both_databases

DATABASES = Path(__file__).parents[1] / "databases"


@pytest.fixture
def empty_app(environment: dict[str, str]) -> Flask:
    return create_app(load_config(environment, first_start=True))


@pytest.fixture
def nothing_in_it(empty_app: Flask) -> Iterator[None]:
    """Inside the application's context, a database without tables."""
    with empty_app.app_context():
        _drop_all()
        yield
        _drop_all()


def _drop_all() -> None:
    with db.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
    db.drop_all()
    db.engine.dispose()


def _differences() -> list[object]:
    with db.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), db.metadata)
    return list(found)


@on_both_databases
@pytest.mark.usefixtures("nothing_in_it")
def test_migrations_and_models_agree():
    assert not schema.is_current()
    schema.upgrade()
    assert schema.is_current()
    assert _differences() == []


@on_both_databases
@pytest.mark.usefixtures("nothing_in_it")
def test_a_database_that_took_all_steps_before_they_were_put_together_is_upgraded():
    """As the steps 0001 to 0032 had made it, with a merchant in it."""
    made = (DATABASES / f"{db.engine.dialect.name}-0032.sql").read_text(encoding="utf-8")
    with db.engine.begin() as connection:
        for statement in filter(str.strip, made.split(";\n")):
            connection.execute(sa.text(statement))
        connection.execute(
            sa.insert(table(Merchant)).values(
                id=7, slug="acme", name="Acme", active=True, created_at=1, storage_told=0
            )
        )
    schema.refuse_newer()
    schema.upgrade(with_copy=False)
    assert schema.is_current()
    assert _differences() == []
    assert db.session.get_one(Merchant, 7).name == "Acme"
    with writing() as session:
        record(session, "cli", "merchant.created", "7", 7)
    assert chain.verify().entries == 1
    db.session.remove()


@on_both_databases
@pytest.mark.usefixtures("nothing_in_it")
def test_the_steps_put_together_make_what_they_made_one_by_one():
    schema.upgrade(with_copy=False)
    with db.engine.connect() as connection:
        rows = {
            name: connection.execute(sa.select(sa.table(name, sa.column("id")))).all()
            for name in ("audit_head", "merchant")
        }
    assert [len(found) for found in rows.values()] == [1, 0], "where the chain begins"
