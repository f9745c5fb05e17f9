"""Who has asked lately, in any of the web processes of this machine: they share its processors, its
disk and its database, so who is alone in one process is not alone."""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from pathlib import Path

LATELY_SECONDS = 1.0
"""Who has asked within this time is there."""
_RECORD = struct.Struct("<qdqd")


class Company:
    """The last who asked, and the last other one before: two of them are all that matters. In a
    file that the processes share; where it cannot be had each knows its own. They may lose a word
    to each other, and the next request says it again."""

    def __init__(self, path: Path):
        self._memory = _shared(path) or mmap.mmap(-1, _RECORD.size)

    def asked(self, owner: str, clock: float) -> None:
        """Somebody asks at `clock` (the system's monotonic clock)."""
        who = zlib.crc32(owner.encode())
        last, at, other, other_at = _RECORD.unpack_from(self._memory)
        if last != who:
            other, other_at = last, at
        _RECORD.pack_into(self._memory, 0, who, clock, other, other_at)

    def has_others(self, owner: str, clock: float) -> bool:
        """Whether anybody else has asked lately."""
        last, at, _, other_at = _RECORD.unpack_from(self._memory)
        then = at if last != zlib.crc32(owner.encode()) else other_at
        # What was left from before the machine started may lie ahead.
        return 0 <= clock - then < LATELY_SECONDS


def _shared(path: Path) -> mmap.mmap | None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(file, _RECORD.size)
            return mmap.mmap(file, _RECORD.size)
        finally:
            os.close(file)
    except OSError:
        return None
