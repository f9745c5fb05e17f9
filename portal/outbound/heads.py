"""The head of an answer as its lines come: what is kept of it, and when it has no end."""

from __future__ import annotations

from functools import lru_cache

MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 * 1024
MAX_INTERIM = 100
"""Answers of the kind 1xx that may come before the one that counts."""
_STATUS = b"HTTP/"
_FEW, _SHORT = MAX_HEADERS + 3, MAX_HEADER_BYTES // (MAX_HEADERS + 4)
"""So many lines of so many bytes are not too large, whatever they are: of headers, the line of the
status, an empty one, and one after trailers."""
TOO_LARGE = (
    f"The answer has more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES // 1024} KiB of them, or "
    f"more than {MAX_INTERIM} interim answers came before it."
)

CUT = "The connection was closed amid the headers of the answer."
_LONG = 128
_BEGINS = "", ""


def _parsed(line: bytes) -> tuple[str, str] | None:
    """Name and value of a header; None for an empty line, _BEGINS where an answer begins."""
    if line.startswith(_STATUS):
        return _BEGINS
    try:
        name, colon, value = line.decode().partition(":")
    except UnicodeDecodeError:
        # One character a byte (RFC 9110, 5.5, knows no more of it).
        name, colon, value = line.decode("latin-1").partition(":")
    return (name.strip(), value.strip()) if colon or name.strip() else None


_known = lru_cache(maxsize=1_024)(_parsed)
"""A receiver says most of its lines with each answer."""


class Head:
    """The lines of an answer's head, and of its trailers."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        """Those of interim answers before it may be among them."""
        self._interim = self._dropped_bytes = 0
        self.is_too_large = False
        """Whether it was ended: each line costs work and memory."""

    def clear(self) -> None:
        """Be ready for the next answer."""
        self.lines.clear()
        self._interim = self._dropped_bytes = 0
        self.is_too_large = False

    @property
    def came(self) -> int:
        """How many bytes have come."""
        return self._dropped_bytes + sum(map(len, self.lines))

    def take(self, line: bytes) -> int | None:
        """Keep a line; 0 where no more may come, as libcurl is told so. It is called for each line
        of each answer, and looks closer where there are many, or long ones."""
        lines = self.lines
        lines.append(line)
        if len(lines) > _FEW or len(line) > _SHORT:
            return self._look_closer()
        return None

    def _look_closer(self) -> int | None:
        # 100 and 103 answers come before the one that counts.
        lines = self.lines
        starts = [index for index, line in enumerate(lines) if index and line.startswith(_STATUS)]
        if starts:
            self._interim += len(starts)
            self._dropped_bytes += sum(map(len, lines[: starts[-1]]))
            del lines[: starts[-1]]
        self.is_too_large = (
            len(lines) > _FEW
            or self._interim > MAX_INTERIM
            or sum(map(len, lines)) > MAX_HEADER_BYTES
        )
        return 0 if self.is_too_large else None

    @property
    def is_cut(self) -> bool:
        """Whether it has begun and its end has not come. libcurl takes what is closed there for an
        answer (RFC 9112, 8: what it says cannot be known)."""
        for line in reversed(self.lines):
            if not line.strip():
                return False
            if line.startswith(_STATUS):
                break
        return bool(self.lines)

    def headers(self) -> list[tuple[str, str]]:
        """The headers of the answer that counts; none where they are too many, which is known
        (`is_too_large`) from now on."""
        headers: list[tuple[str, str]] = []
        answers = 0
        for line in self.lines:
            one = _known(line) if len(line) < _LONG else _parsed(line)
            if one is _BEGINS:
                headers.clear()
                answers += 1
            elif one is not None:
                headers.append(one)
        if len(headers) > MAX_HEADERS or self._interim + answers > MAX_INTERIM + 1:
            self.is_too_large = True
        return [] if self.is_too_large else headers
