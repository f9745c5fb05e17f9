"""Whole portals for faults, on either database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.world import World


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where everything of a portal is stored, short enough for sockets and open to the user that
    PostgreSQL runs as; deleted with the test."""
    directory = Path(tempfile.mkdtemp(prefix="portal-faults-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """What stores: "sqlite", or what `on_both_databases` asks for."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def world(directory: Path, database: str) -> Iterator[Callable[..., World]]:
    """`world(SETTING="value")`: a running portal; all of it ends with the test."""
    worlds: list[World] = []

    def make(*parts: str, **settings: str) -> World:
        made = World(directory, database, **settings)
        worlds.append(made)
        made.start(*parts)
        return made

    yield make
    for made in worlds:
        made.close()
