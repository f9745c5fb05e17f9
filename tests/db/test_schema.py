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
from portal.db.session import db, writing
from portal.models import CleanUp, ClockSeen, Mail, Merchant, NoticeChoice, Recovery
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


WITH_KINDS = [
    "ALTER TABLE mail ADD COLUMN kind VARCHAR(40)",
    "CREATE INDEX ix_mail_merchant ON mail (merchant_id, kind)",
]
FORMER = {
    "0031": ["ALTER TABLE merchant DROP COLUMN storage_told"],
    "0032": [],
    "0033": WITH_KINDS,
    "0034": [
        *WITH_KINDS,
        "CREATE TABLE clock_seen (boot VARCHAR(40) NOT NULL, ahead BIGINT NOT NULL, "
        "seen_at BIGINT NOT NULL, doubted_ahead BIGINT, doubted_from BIGINT, "
        "CONSTRAINT pk_clock_seen PRIMARY KEY (boot))",
        "INSERT INTO clock_seen (boot, ahead, seen_at) VALUES ('a', 1, 2)",
    ],
}
"""The steps of before the first release that are upgraded from, and what makes each of a database
that stood at 0032."""


def _make_former(revision: str) -> None:
    """A database as it stood at a step of before the first release, with rows in it."""
    made = (DATABASES / f"{db.engine.dialect.name}-0032.sql").read_text(encoding="utf-8")
    rows = (DATABASES / "rows.sql").read_text(encoding="utf-8")
    with db.engine.begin() as connection:
        for statement in (
            *filter(str.strip, made.split(";\n")),
            *filter(str.strip, rows.split(";\n")),
            *FORMER[revision],
            f"UPDATE alembic_version SET version_num = '{revision}'",
        ):
            connection.execute(sa.text(statement))


@on_both_databases
@pytest.mark.parametrize("revision", FORMER)
@pytest.mark.usefixtures("nothing_in_it")
def test_a_database_of_before_the_first_release_is_upgraded_with_what_is_in_it(revision: str):
    _make_former(revision)
    assert schema.trouble() == schema.OLDER
    schema.refuse_newer()
    schema.upgrade(with_copy=False)
    assert schema.is_current()
    assert _differences() == []

    merchant = db.session.get_one(Merchant, 7)
    assert (merchant.name, merchant.storage_told) == ("Acme", 0)
    mail = db.session.get_one(Mail, 1)
    assert (mail.to_email, mail.kind) == ("ann@acme.example", None)
    assert db.session.get_one(CleanUp, 1).cursor == [["event", 7], [5, "evt_1"]]
    recovery = db.session.get_one(Recovery, "rcv_1")
    assert (recovery.done, recovery.cursor) == (250, {"webhook": "wh_1", "part": 0})
    seen = db.session.execute(sa.select(ClockSeen.boot, ClockSeen.ahead, ClockSeen.seen_at)).all()
    assert seen == ([("a", 1, 2)] if revision == "0034" else [])
    choices = {one.user_id: one.kinds for one in db.session.scalars(sa.select(NoticeChoice))}
    had_a_say = revision != "0031"
    assert choices == {1: ["held"] if had_a_say else ["held", "storage"], 2: [], 3: ["held"]}

    with writing() as session:
        record(session, "cli", "merchant.created", "7", 7)
    assert chain.verify().entries == 1
    db.session.remove()


@on_both_databases
@pytest.mark.usefixtures("nothing_in_it")
def test_an_upgrade_that_fails_leaves_a_former_database_where_it_stood():
    _make_former("0034")
    with db.engine.begin() as connection:
        connection.execute(sa.text('ALTER TABLE recovery ADD COLUMN "cursor" INTEGER'))
    with pytest.raises(sa.exc.SQLAlchemyError):
        schema.upgrade(with_copy=False)
    with db.engine.connect() as connection:
        at = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        found = {one["name"] for one in sa.inspect(connection).get_columns("clean_up")}
    assert at == "0034"
    assert "place" in found


@on_both_databases
@pytest.mark.usefixtures("nothing_in_it")
def test_a_new_database_holds_the_beginning_of_the_audit_log_and_nothing_else():
    schema.upgrade(with_copy=False)
    with db.engine.connect() as connection:
        rows = {
            name: connection.execute(sa.select(sa.table(name, sa.column("id")))).all()
            for name in ("audit_head", "merchant")
        }
    assert [len(found) for found in rows.values()] == [1, 0], "where the chain begins"
