"""How many values JSON text holds, counted without reading it: about as many, at least, as it has
commas and opening brackets outside of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

Done = Callable[[int], object]
"""Is told of each part of what takes long, how many bytes or characters it had."""


def nothing(_amount: int) -> None:
    """A Done of who goes on."""


def values_of(raw: bytes, most: int, done: Done = nothing) -> int:
    """About how many values JSON text has, at least. Not more than `most` where a look tells that
    there are no more."""
    # Each takes two bytes, with the sign that parts it from the next one.
    few = len(raw) // 2
    if few > most:
        few = sum(map(raw.count, _PARTING))
    if few <= most:
        return few
    count = 0
    for found in _counted(raw[start : start + PIECE] for start in range(0, len(raw), PIECE)):
        count += found
        done(PIECE)
    return count


def end_of_values(text: str, start: int, end: int, most: int) -> int:
    """A position in JSON text up to which there are more values than `most` from `start` on, but
    not many more; `end` where there are not so many."""
    if sum(text.count(sign.decode(), start, end) for sign in _PARTING) <= most:
        return end
    starts = range(start, end, PIECE)
    counts = _counted(text[at : min(at + PIECE, end)].encode() for at in starts)
    for at, count in zip(starts, counts, strict=True):
        most -= count
        if most < 0:
            return min(at + PIECE, end)
    return end


def _counted(pieces: Iterable[bytes]) -> Iterator[int]:
    """How many there are in each piece of a text. Piece by piece, so that it takes little memory,
    and others' threads get their turn."""
    is_text, kept = 0, b""
    for piece in pieces:
        whole = kept + piece
        # Backslashes stand in texts alone, in pairs or before what they spell.
        is_odd = (len(whole) - len(whole.rstrip(b"\\"))) % 2
        whole, kept = (whole[:-1], b"\\") if is_odd else (whole, b"")
        signs = whole.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _OTHERS)
        parts = signs.split(b'"')
        yield sum(map(len, parts[is_text::2]))
        is_text = (is_text + len(parts) - 1) % 2


_PARTING = (b",", b"[", b"{")
_OTHERS = bytes(set(range(256)) - set(b',[{"'))
PIECE = 64 * 1024
