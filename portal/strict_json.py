"""JSON as RFC 8259 means it, and nothing that a database or a receiver chokes on."""

from __future__ import annotations

import json
import math
import re
from json.encoder import encode_basestring
from typing import Any

import orjson

from portal.errors import Malformed

MAX_DEPTH = 64
MAX_INTEGER_DIGITS = 300

_CONTAINERS = (dict, list)
_UNSAFE_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
"""Only escapes can bring in a NUL or half of a surrogate pair: UTF-8 and JSON refuse them bare."""


class _Refused(ValueError):
    """A value that JSON allows and the portal does not; the message is for people."""


def parse(raw: bytes) -> Any:
    """The value in `raw` (UTF-8).

    Raises Malformed for what is not JSON, for doubled keys, NaN and numbers beyond a double,
    NUL characters and lone surrogates (a receiver or PostgreSQL could not take them), and for
    nesting deeper than MAX_DEPTH.
    """
    if not raw.strip():
        raise Malformed("The body is empty; send a JSON object.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8 (byte {error.start}); send UTF-8.") from None
    try:
        value = _DECODER.decode(text)
    except _Refused as error:
        raise Malformed(f"{error}.") from None
    except json.JSONDecodeError as error:
        raise Malformed(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise Malformed(f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    # Most bodies have few brackets and none of these escapes, and need no second look.
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    if _UNSAFE_ESCAPE.search(text):
        _check_texts(value)
    return value


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def dump(value: Any) -> str:
    """Compact JSON text with non-ASCII characters as they are."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # It knows no number beyond 64 bits; the encoder that does takes fifteen times as long.
        return _ENCODER.encode(value)


def text(value: str | None) -> str:
    """The JSON text of a text or null, as `dump` writes it."""
    return "null" if value is None else encode_basestring(value)


def whole(value: Any) -> int | None:
    """A number without a fraction as an int, None for everything else: JSON has one kind of
    number, and to JSON Schema 18.0 is an integer as 18 is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == int(value) else None


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item)
            if type(child) in _CONTAINERS
        ]
        if not level:
            return
    raise Malformed(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _check_texts(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise Malformed("The body holds a NUL character (\\u0000); leave it out.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed(
            "The body holds half of a surrogate pair (\\ud800–\\udfff); send the whole character."
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"The key {key[:100]!r} appears twice in one object; send it once")
            seen.add(key)
    return value


def _integer(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise _Refused(f"A number has more than {MAX_INTEGER_DIGITS} digits; send it as text")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Refused(f"The number {text[:40]} is beyond a double; send it as text")
    return number


def _constant(text: str) -> Any:
    raise _Refused(f"{text} is not a JSON number; send null or text")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)
