"""Bodies of requests and answers for people: as text, or as a dump of bytes. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

HEX_BYTES = 4_096
"""Bytes of a binary body that are shown."""

_HTML = re.compile(rb"\s*(<!--.*?-->\s*)?<(!doctype\s+html|html)[\s>]", re.I | re.S)
_UNREADABLE = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True)
class Readable:
    """A body for people: text and its language, or a dump of bytes (`is_binary`)."""

    text: str
    language: str
    is_binary: bool
    is_cut: bool = False


def readable(body: bytes) -> Readable:
    """A body as text where it is UTF-8 without control characters, otherwise as a hex dump of
    its first HEX_BYTES."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        # Cut off in the middle of a character it is text all the same.
        if error.end < len(body) or error.reason != "unexpected end of data":
            return _dump(body)
        text = body[: error.start].decode("utf-8")
    if _UNREADABLE.search(body):
        return _dump(body)
    return Readable(text, "json" if _is_json(text) else "text", is_binary=False)


def is_web_page(headers: Iterable[tuple[str, str]] | None, body: bytes | None) -> bool:
    """Whether an answer is an HTML page, such as one to sign in: a receiver of webhooks has
    nothing to show, so something else answered."""
    if not body:
        return False
    declared = any(
        name.lower() == "content-type" and value.lower().strip().startswith("text/html")
        for name, value in headers or []
    )
    return declared or _HTML.match(body) is not None


def _dump(body: bytes) -> Readable:
    lines = []
    for start in range(0, min(len(body), HEX_BYTES), 16):
        part = body[start : start + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {letters}")
    return Readable("\n".join(lines), "text", is_binary=True, is_cut=len(body) > HEX_BYTES)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True
