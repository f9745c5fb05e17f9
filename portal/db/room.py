"""Whether there is room for more on the database's disk, where that is one of this machine."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from pathlib import Path

from portal.config import Config
from portal.database_errors import NEARLY_FULL
from portal.db import wal
from portal.errors import Unavailable
from portal.settings import surroundings

MB = 1_000_000
FULL = "The portal's disk is nearly full; nothing was stored. Try again when there is room."


def check(config: Config) -> None:
    """Refuse new events while less than PORTAL_DISK_FREE_MB is free: what is left is for the
    results of those that were taken, and for the clean-up. What is in the write-ahead log may need
    its room once more, when it is taken over into the database. It costs two calls of the system.
    Raises Unavailable. Of PostgreSQL's disk nothing is known here."""
    if not config.disk_free_mb or not config.database_url.startswith("sqlite:///"):
        return
    with contextlib.suppress(OSError):
        file = _file_of(config.database_url)
        found = os.statvfs(file.parent)
        free = found.f_bavail * found.f_frsize - wal.size_beside(file)
        if free < config.disk_free_mb * MB:
            raise Unavailable(FULL, NEARLY_FULL)


@lru_cache
def _file_of(database_url: str) -> Path:
    return surroundings.path_of(database_url)
