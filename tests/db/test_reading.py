"""How a worker reads that does so often: in no transaction of PostgreSQL's, as others have."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.db.session import db, reading, writing
from portal.models import Merchant

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def _transactions(session: Any) -> int:
    """In how many transactions three statements ran: now() is the moment at which one began."""
    return len({session.scalar(sa.text("SELECT now()")) for _ in range(3)})


def test_each_statement_of_a_worker_that_reads_is_alone(app: Flask):
    with reading(each_alone=True) as session:
        assert _transactions(session) == 3


@pytest.mark.parametrize("way", [reading, writing])
def test_what_comes_after_it_is_one_transaction(
    app: Flask, way: Callable[[], AbstractContextManager[Any]]
):
    with reading(each_alone=True) as session:
        session.scalar(sa.text("SELECT 1"))
    with way() as session:
        assert _transactions(session) == 1
    assert _transactions(db.session) == 1
    db.session.rollback()


def test_a_worker_that_reads_sees_what_is_committed_meanwhile(app: Flask):
    count = sa.select(sa.func.count()).select_from(Merchant)
    with reading(each_alone=True) as session:
        assert session.scalar(count) == 0
        with db.engine.begin() as other:
            other.execute(sa.insert(Merchant).values(slug="acme", name="Acme", active=True))
        assert session.scalar(count) == 1
