"""The head of an answer as its lines come: what is kept of it, and when it has no end."""

from __future__ import annotations

MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 * 1024
MAX_INTERIM = 100
"""Answers of the kind 1xx that may come before the one that counts."""
TOO_LARGE = (
    f"The answer has more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES // 1024} KiB of them, or "
    f"more than {MAX_INTERIM} interim answers came before it."
)

CUT = "The connection was closed amid the headers of the answer."


class Head:
    """The lines of an answer's head, and of its trailers."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._bytes = self._interim = 0
        self.is_too_large = False
        """Whether it was ended: each line costs work and memory."""

        self._is_whole = False

    def clear(self) -> None:
        """Be ready for the next answer."""
        self.lines.clear()
        self._bytes = self._interim = 0
        self.is_too_large = self._is_whole = False

    def take(self, line: bytes) -> bool:
        """Keep a line; whether more may come."""
        if line.startswith(b"HTTP/"):
            # 100 and 103 answers come before the one that counts.
            self._interim += bool(self.lines)
            self.lines.clear()
            self._bytes = 0
            self._is_whole = False
        self.lines.append(line)
        self._is_whole |= not line.strip()
        self._bytes += len(line)
        if (
            self._bytes > MAX_HEADER_BYTES or self._interim > MAX_INTERIM
            # The line of the status, an empty one, and one after trailers are none.
            or len(self.lines) > MAX_HEADERS + 3
        ):
            self.is_too_large = True
        return not self.is_too_large

    @property
    def is_cut(self) -> bool:
        """Whether it has begun and its end has not come. libcurl takes what is closed there for an
        answer (RFC 9112, 8: what it says cannot be known)."""
        return bool(self.lines) and not self._is_whole

    def headers(self) -> list[tuple[str, str]]:
        """The headers of the answer that counts."""
        headers: list[tuple[str, str]] = []
        for line in self.lines:
            if line.startswith(b"HTTP/"):
                continue
            name, colon, value = _text(line).partition(":")
            if colon or name.strip():
                headers.append((name.strip(), value.strip()))
        return headers


def _text(line: bytes) -> str:
    """A header's line: UTF-8 where it is that, and one character a byte where it is not (RFC 9110,
    5.5, knows no more of it)."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")
