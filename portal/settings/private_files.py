"""What the portal has in its data directory, and everybody on the machine may open, is closed at
the start: an earlier version made its files so, or a copy was put back so.

A group that was given on purpose stays. Where the world may not, the group's part of a mode is on
purpose; where it may, that part came by the same umask, unless the group is another than this
user's, or a list (acl(5)) names who may.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

from portal.settings import secret_key

_NAMES = frozenset(
    {
        "secret_key",
        "portal.lock",
        "web-company",
        "valkey.sock",
        "redis",
        # What earlier versions' Redis left.
        "appendonlydir",
        "dump.rdb",
    }
)
"""What the portal keeps in its directory beside a database."""
_GROUP, _WORLD = stat.S_IRWXG, stat.S_IRWXO
_log = logging.getLogger(__name__)


def close(data_dir: Path, database: Path | None) -> None:
    """Close to the world what is this user's: the portal's files in its data directory, with the
    SQLite database (None: there is none) where that lies there too, and the directory itself. One
    line in the log names them.

    A database elsewhere is left alone, and so is a directory in which somebody else keeps
    something, or from which a group has been given a file.
    """
    databases = {data_dir / "portal.db"}
    if database is not None and database.parent == data_dir:
        databases.add(database)
    try:
        inside = sorted(data_dir.iterdir())
    except OSError:
        return
    files = [path for path in inside if path.name in _NAMES or secret_key.is_draft(path)]
    closed = [path for path in files if _close(path)]
    for one in sorted(databases):
        closed += [one] if _close(one) else []
        # Who may use the database may use what lies beside it.
        is_shared = bool(_mode(one) & _GROUP)
        beside = [path for path in inside if path.name.startswith(one.name) and path != one]
        closed += [path for path in beside if _close(path, is_shared)]
        files += [one, *beside]
    if set(inside) <= set(files) and not any(_mode(path) & _GROUP for path in files):
        closed += [data_dir] if _close(data_dir, kind=stat.S_ISDIR) else []
    if _is_anybodys(data_dir):
        _log.warning(
            "Everybody on this machine may put files into %s, the secret key and the database in "
            "place of the portal's among them: run chmod o-w %s, or give the portal a directory of "
            "its own.",
            data_dir,
            data_dir,
        )
    if closed:
        names = [str(path.relative_to(data_dir.parent)) for path in closed]
        _log.warning(
            "Everybody on this machine could open these in %s; they are closed now: %s.",
            data_dir.parent,
            ", ".join(names),
        )


def _close(path: Path, is_shared: bool = False, kind: Callable[[int], bool] = stat.S_ISREG) -> bool:
    """Take from one of this user's files what the world may do with it, and its group too unless it
    `is_shared` or was given to that group; whether it is changed."""
    mode = _mode(path, kind)
    if not mode & _WORLD:
        return False
    keeps_group = is_shared or _was_given(path)
    try:
        path.chmod(mode & ~_WORLD if keeps_group else mode & ~(_WORLD | _GROUP))
    except OSError as error:
        _log.warning(
            "Everybody on this machine can open %s, which cannot be closed (%s).",
            path,
            error.strerror,
        )
        return False
    return True


def _is_anybodys(directory: Path) -> bool:
    try:
        return bool(directory.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False


def _mode(path: Path, kind: Callable[[int], bool] = stat.S_ISREG) -> int:
    """The permissions of what is of this kind and this user's; 0 for all else, links too."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    is_ours = found.st_uid == os.geteuid() and kind(found.st_mode)
    return stat.S_IMODE(found.st_mode) if is_ours else 0


def _was_given(path: Path) -> bool:
    """Whether somebody gave it to another group, or to users by a list."""
    try:
        return path.stat().st_gid != os.getegid() or (
            "system.posix_acl_access" in os.listxattr(path)
        )
    except OSError:
        return False
