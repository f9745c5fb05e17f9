"""Files that somebody names in a setting, read without waiting for what is none."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read(path: Path) -> tuple[bytes, os.stat_result]:
    """What a file holds, and what the system says of it; nothing of /dev/null. Raises OSError, also
    for a pipe or a device: to open one may wait for ever for who is to write into it."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(number, "rb") as file:
        found = os.fstat(number)
        is_null = stat.S_ISCHR(found.st_mode) and found.st_rdev == Path(os.devnull).stat().st_rdev
        if not (stat.S_ISREG(found.st_mode) or is_null):
            raise OSError(errno.EINVAL, "it is a pipe, a device or a socket, and no file")
        return file.read(), found
