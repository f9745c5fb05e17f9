"""Whole portals for faults, on either database."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.faults.world import World


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[Callable[..., World]]:
    """`world(SETTING="value")`: a running portal; all of it ends with the test."""
    worlds: list[World] = []
    name = f"faults_{uuid.uuid4().hex}"
    if database.startswith("postgresql"):
        # A database of its own: other tests have their tables in the one that is given.
        _administer(database, f"CREATE DATABASE {name}")
        own = database.replace("/postgres?", f"/{name}?")
        assert own != database
    else:
        own = database

    def make(*parts: str, **settings: str) -> World:
        made = World(tmp_path, own, **settings)
        worlds.append(made)
        made.start(*parts)
        return made

    yield make
    for made in worlds:
        made.close()
    if database.startswith("postgresql"):
        _administer(database, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(database: str, statement: str) -> None:
    engine = sa.create_engine(
        database.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()
