"""Whole portals for faults, on either database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.faults.world import World


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[Callable[..., World]]:
    """`world(SETTING="value")`: a running portal; all of it ends with the test."""
    worlds: list[World] = []

    def make(*parts: str, **settings: str) -> World:
        made = World(tmp_path, database, **settings)
        worlds.append(made)
        made.start(*parts)
        return made

    yield make
    for made in worlds:
        made.close()
    if database.startswith("postgresql"):
        engine = sa.create_engine(database.replace("postgresql://", "postgresql+psycopg://", 1))
        with engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
        engine.dispose()
