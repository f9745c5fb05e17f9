"""What a start finds around it that is no setting of its own: the time zone, an empty database, a
directory that others may have made."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from pathlib import Path

from portal import installed

NOT_YET = f"A new portal is made by {installed.START}, or by {installed.COMMAND} migrate."
_SHOWN = 200
_SQLITE = b"SQLite format 3\0"
_TEMPORARY = Path("/tmp")
_EMPTY_SECONDS = 1.0
"""How long a database may be an empty file: another start may be making it at this moment."""
_ZONES = ("/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/share/zoneinfo", "/etc/zoneinfo")
_ZONE_RULE = re.compile(r"(<[A-Za-z0-9+-]{3,}>|[A-Za-z]{3,})[+-]?[0-9]{1,3}([:,A-Za-z<].*)?")
"""A zone that names no file, such as CET-1CEST,M3.5.0,M10.5.0/3 (POSIX)."""


class SettingError(Exception):
    """A setting cannot be used; the message is a sentence for the operator."""


def path_of(url: str) -> Path:
    """The file of an SQLite address."""
    return Path(url.removeprefix("sqlite:///").partition("?")[0])


def embedded_redis_socket(data_dir: Path) -> Path:
    """Where the server that bin/run starts listens; the same for every process of a data_dir.

    A Unix socket path holds at most 107 bytes, so a deep directory gets one elsewhere.
    """
    path = data_dir / "valkey.sock"
    if len(os.fsencode(path)) <= 100:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return _TEMPORARY / f"webhook-portal-{os.getuid()}" / f"{digest}.sock"


def refuse_others(directory: Path) -> None:
    """Refuse a directory for that socket unless it is this user's alone: anybody may make one
    there, and could have a server of their own stand in it. Raises SettingError."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not is_own or stat.S_IMODE(found.st_mode) & 0o077:
        raise SettingError(
            f"{directory} is not a directory that is this user's alone (mode 0700). The queue's "
            "socket would be there, since PORTAL_DATA_DIR is a long path: delete it, give a "
            "shorter PORTAL_DATA_DIR, or name a server of your own by PORTAL_REDIS_URL."
        )


def check_zone(name: str, directory: str) -> None:
    """The system's clock takes a zone that it does not know for UTC, without a word. Raises
    SettingError."""
    name = name.removeprefix(":")
    if name in ("", "UTC", "GMT") or _ZONE_RULE.fullmatch(name):
        return
    if not any(Path(one, name).is_file() for one in ([directory] if directory else _ZONES)):
        raise SettingError(
            f"TZ={name[:_SHOWN]!r} is no time zone that this machine knows: give one such as "
            "Europe/Berlin, install tzdata, or leave TZ out."
        )


def refuse_lost(url: str) -> None:
    """Refuse an empty file where there is a key: a first start has written into its database before
    it keeps the key, so it is what was left of another one. Raises SettingError."""
    path, end = path_of(url), time.monotonic() + _EMPTY_SECONDS
    while url.startswith("sqlite:") and path.is_file() and not path.stat().st_size:
        if time.monotonic() >= end:
            raise SettingError(
                f"The database {path} is an empty file, and the secret key is there: what it held "
                "is lost. Put it back from your backup; to begin anew with nothing, delete the "
                "file and start again."
            )
        time.sleep(_EMPTY_SECONDS / 20)


def check_database(url: str, first_start: bool) -> None:
    """That the file of an SQLite database is one, and that this user may use it; on a `first_start`
    it need not be there yet. Raises SettingError."""
    path = path_of(url)
    if not url.startswith("sqlite:") or (first_start and not path.exists()):
        return
    try:
        with path.open("r+b") as file:
            start = file.read(len(_SQLITE))
    except FileNotFoundError:
        raise SettingError(
            f"There is no database at {path}. {NOT_YET} If it is elsewhere, name it by "
            "PORTAL_DATABASE_URL, or its directory by PORTAL_DATA_DIR."
        ) from None
    except OSError as error:
        raise SettingError(
            f"The database {path} cannot be used ({error.strerror}): let this user read and write "
            "it, or change PORTAL_DATABASE_URL."
        ) from None
    if start not in (b"", _SQLITE):
        raise SettingError(
            f"{path} is not an SQLite database: change PORTAL_DATABASE_URL, or put the database "
            "back from your backup."
        )
