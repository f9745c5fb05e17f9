"""Whole portals, as for faults."""

from tests.faults.conftest import database, directory, world

__all__ = ["database", "directory", "world"]
