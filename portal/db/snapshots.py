"""A copy of an SQLite database beside it, made before its schema is changed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from portal import installed
from portal.clock import iso, now

KEPT = 3
SPARE_BYTES = 64 * 1024 * 1024
"""Room that must be left beside the copy: the migration needs some, too."""


class NoRoom(Exception):
    """There is no room for a copy; the message is a sentence."""


def take(path: Path, schema: str) -> Path:
    """Copy the database at `path`, whose schema is called so, in one consistent state, for its
    owner alone; where the copy is. Older ones but KEPT are deleted.

    Raises NoRoom, and sqlite3.Error or OSError when it cannot be made.
    """
    size = sum(
        one.stat().st_size for one in (path, path.with_name(f"{path.name}-wal")) if one.exists()
    )
    free = shutil.disk_usage(path.parent).free
    if free < size + SPARE_BYTES:
        raise NoRoom(
            f"There is no room for a copy of {path} before its schema is changed: it needs "
            f"{_mb(size + SPARE_BYTES)}, and {_mb(free)} are free. Make room; or copy it elsewhere "
            f"yourself and run: {installed.COMMAND} migrate --no-copy"
        )
    moment = iso(now()).replace(":", "").replace("-", "")
    copy = path.with_name(f"{path.name}.before-{schema}-{moment}")
    draft = copy.with_name(f"{copy.name}.part")
    try:
        # One of its own, whatever somebody has put there.
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(draft)) as target,
        ):
            source.backup(target)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(copy)
    finally:
        draft.unlink(missing_ok=True)
    for old in sorted(path.parent.glob(f"{path.name}.before-*"), key=_age)[:-KEPT]:
        old.unlink(missing_ok=True)
    return copy


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
