"""Who has asked lately, or had something delivered, in any process of this machine: they share its
processors, its disk and its database, so who is alone in one process is not alone."""

from __future__ import annotations

import math
import mmap
import os
import struct
import zlib
from pathlib import Path

LATELY_SECONDS = 1.0
"""Who has asked within this time is there."""
BEGUN_SECONDS = 0.008
"""For so long who needs much stands back for what has begun for somebody who needs little."""
_NAME = "web-company"
STRANGERS = "strangers"
"""All together of whom nothing is known: only those whose it is known are others to them."""
_RECORD, _MOMENT = struct.Struct("<qdqd"), struct.Struct("<d")
_ASKED, _BEGUN = 0, _RECORD.size + _MOMENT.size
_SIZE = 2 * _BEGUN


class Company:
    """The last who asked, and the last other one before, and when the last one did who is no
    stranger; and the same of who needs little. These are all that matters. In a file that the
    processes share; where it cannot be had each knows its own. They may lose a word to each other,
    and the next request says it again."""

    def __init__(self, directory: Path):
        self._memory = _shared(directory / _NAME) or mmap.mmap(-1, _SIZE)

    def asked(self, owner: str, clock: float, *, is_stranger: bool = False) -> None:
        """Somebody asks at `clock` (the system's monotonic clock)."""
        self._note(_ASKED, owner, clock, is_stranger)

    def begins(self, owner: str, clock: float, *, is_stranger: bool = False) -> None:
        """Something begins for somebody who needs little."""
        self._note(_BEGUN, owner, clock, is_stranger)

    def has_others(self, owner: str, clock: float) -> bool:
        """Whether anybody else has asked lately than one, or than all STRANGERS."""
        # What was left from before the machine started may lie ahead.
        return 0 <= clock - self._others(_ASKED, owner) < LATELY_SECONDS

    def are_several(self, clock: float) -> bool:
        """Whether more than one have asked lately."""
        last: float = _RECORD.unpack_from(self._memory, _ASKED)[-1]
        return 0 <= clock - last < LATELY_SECONDS

    def is_awaited(self, owner: str | None, clock: float) -> bool:
        """Whether something has just begun for anybody else who needs little than one, or than all
        STRANGERS, or (None) for anybody."""
        return 0 <= clock - self._others(_BEGUN, owner) < BEGUN_SECONDS

    def quiet_seconds(self, owner: str, clock: float) -> float:
        """For how long nothing has begun for anybody else who needs little, as is_awaited."""
        seconds = clock - self._others(_BEGUN, owner)
        return seconds if seconds >= 0 else math.inf

    def _note(self, offset: int, owner: str, clock: float, is_stranger: bool) -> None:
        who = _name(owner)
        last, at, other, other_at = _RECORD.unpack_from(self._memory, offset)
        if last != who:
            other, other_at = last, at
        _RECORD.pack_into(self._memory, offset, who, clock, other, other_at)
        if not is_stranger:
            _MOMENT.pack_into(self._memory, offset + _RECORD.size, clock)

    def _others(self, offset: int, owner: str | None) -> float:
        if owner == STRANGERS:
            known_at: float = _MOMENT.unpack_from(self._memory, offset + _RECORD.size)[0]
            return known_at
        last, at, _, other_at = _RECORD.unpack_from(self._memory, offset)
        then: float = other_at if owner is not None and last == _name(owner) else at
        return then


def _name(owner: str) -> int:
    return zlib.crc32(owner.encode())


def _shared(path: Path) -> mmap.mmap | None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(file, _SIZE)
            return mmap.mmap(file, _SIZE)
        finally:
            os.close(file)
    except OSError:
        return None
