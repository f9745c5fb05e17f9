"""JSON as RFC 8259 means it, and nothing that a database or a receiver chokes on.

What an event tells of a record keeps the text that it came as (`Record`), so that numbers, escapes
and the order of names reach every receiver as their sender wrote them.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import Any, Self

import orjson

from portal.errors import Malformed, TooLarge
from portal.json_values import Done, nothing, values_of

MAX_DEPTH = 64
MAX_INTEGER_DIGITS = 300
MAX_VALUES = 250_000
"""Values in a body: each takes some hundred bytes of memory, however few it has in the text, and
they are read without a pause for other threads."""
_EXACT = 2**53
"""Up to here a double holds every integer (IEEE 754)."""
SPACE = " \t\n\r"
KINDS = "texts, numbers, objects, lists and the like"
CONTAINERS: tuple[type, ...] = (dict, list)
_UNSAFE_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
"""Only escapes can bring in a NUL or half of a surrogate pair: UTF-8 and JSON refuse them bare."""


class _Refused(ValueError):
    """A value that JSON allows and the portal does not; the message is for people."""


class Record(dict[str, Any]):
    """A JSON object, and the text that it came as."""

    __slots__ = ("text",)
    text: str


class Number(Decimal):
    """A number that is no integer, and how it was written: 99.50 stays 99.50."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, written: str) -> Self:
        try:
            number = super().__new__(cls, written)
        except InvalidOperation:
            # An exponent of more than eighteen digits, which is nothing: `parse` takes no number
            # beyond a double.
            number = super().__new__(cls)
        number.written = written
        return number

    def __str__(self) -> str:
        return self.written

    __repr__ = __str__


def parse(raw: bytes) -> Any:
    """The value in `raw` (UTF-8).

    Raises Malformed for what is not JSON, for doubled keys, NaN and numbers beyond a double,
    NUL characters and lone surrogates (a receiver or PostgreSQL could not take them), and for
    nesting deeper than MAX_DEPTH; TooLarge for more than MAX_VALUES.
    """
    text, _ = decoded(raw, MAX_VALUES)
    value = strictly(_DECODER.decode, text)
    # Most bodies have few brackets and none of these escapes, and need no second look.
    if brackets(text) > MAX_DEPTH and is_deeper(value, MAX_DEPTH, CONTAINERS):
        raise too_deep()
    check_escapes(text, value)
    return value


def parse_record(raw: bytes) -> Any:
    """The same; an object is a Record."""
    value = parse(raw)
    if isinstance(value, dict):
        value = Record(value)
        value.text = raw.decode().strip(SPACE)
    return value


def decoded(raw: bytes, most: int, done: Done = nothing) -> tuple[str, int]:
    """Its text, and about how many values it has: not more than MAX_VALUES where there are no
    more."""
    if not raw or raw.isspace():
        raise Malformed("The body is empty; send a JSON object.")
    if raw.startswith(codecs.BOM_UTF8):
        # Senders must not add one (RFC 8259, 8.1).
        raise Malformed(
            "The body begins with a byte order mark (EF BB BF), which JSON must not; leave it out."
        )
    count = values_of(raw, MAX_VALUES, done)
    if count > most:
        raise TooLarge(
            f"The body may hold at most {most:,} values here: {KINDS}. Send less of the record, "
            "or fewer events at once."
        )
    try:
        return raw.decode("utf-8"), count
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8 (byte {error.start}); send UTF-8.") from None


def strictly(decode: Callable[[str], Any], text: str) -> Any:
    """What `decode` gives of a text. Raises Malformed for what it raises."""
    try:
        return decode(text)
    except _Refused as error:
        raise Malformed(f"{error}.") from None
    except json.JSONDecodeError as error:
        raise Malformed(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise too_deep() from None


def loads(text: str) -> Any:
    """The value of JSON text that `parse` has taken before; its fractions are Numbers."""
    return json.loads(text, parse_float=Number)


def dump(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Compact JSON text: non-ASCII characters as they are, Numbers as they were written, other
    decimals without an exponent. `default` makes JSON's values of others."""

    def known(one: Any) -> Any:
        if isinstance(one, Number):
            return orjson.Fragment(one.written)
        if isinstance(one, Decimal):
            return orjson.Fragment(format(one, "f"))
        if default is None:
            raise TypeError(f"{type(one).__name__} is not JSON")
        return default(one)

    try:
        return orjson.dumps(value, known).decode()
    except orjson.JSONEncodeError:
        # It knows no number beyond 64 bits, unless it is text already.
        return orjson.dumps(_wide(value), known).decode()


def text_of(record: Mapping[str, Any]) -> str:
    """The text of an object: as it came, or as `dump` writes it."""
    return record.text if isinstance(record, Record) else dump(record)


def as_written(record: Mapping[str, Any]) -> orjson.Fragment:
    """An object for `dump`, which writes it as it came."""
    return orjson.Fragment(text_of(record))


def _wide(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _wide(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_wide(one) for one in value]
    if type(value) is int and value.bit_length() > 63:
        return orjson.Fragment(str(value))
    return value


def text(value: str | None) -> str:
    """The JSON text of a text or null, as `dump` writes it."""
    return "null" if value is None else encode_basestring(value)


def whole(value: Any) -> int | None:
    """A number without a fraction as an int, None for everything else: JSON has one kind of
    number, and to JSON Schema 18.0 is an integer as 18 is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and abs(value) > _EXACT:
        return None
    return int(value) if value == int(value) else None


# ── What is refused ────────────────────────────────────────────────────────────────────────


def brackets(text: str) -> int:
    """In how many levels a text is nested at most."""
    return text.count("[") + text.count("{")


def is_deeper(value: Any, levels: int, kinds: tuple[type, ...]) -> bool:
    """Whether containers of these kinds are nested in more levels than these."""
    level = [value]
    for _ in range(levels):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if type(child) in kinds
        ]
        if not level:
            return False
    return True


def too_deep() -> Malformed:
    """What refuses a body that is."""
    return Malformed(f"The body is nested deeper than {MAX_DEPTH} levels.")


def check_escapes(text: str, value: Any, done: Done = nothing) -> None:
    """Refuse half of a surrogate pair, and NUL, where the texts in a value have them. Raises
    Malformed."""
    if "\\" not in text or not _UNSAFE_ESCAPE.search(text):
        return
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())
            done(len(item))
        elif isinstance(item, list):
            pending.extend(item)
            done(len(item))


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
    if len(text) > MAX_INTEGER_DIGITS and len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise _Refused(f"A number has more than {MAX_INTEGER_DIGITS} digits; send it as text")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Refused(f"The number {text[:40]} is beyond a double; send it as text")
    return number


def refuse_constant(text: str) -> Any:
    """NaN, Infinity and -Infinity are no JSON (json.JSONDecoder takes them)."""
    raise _Refused(f"{text} is not a JSON number; send null or text")


Scan = Callable[[str, int], tuple[Any, int]]
"""Gives the value that begins at a position of a text, and where it ends. Raises what `strictly`
words, and StopIteration where none begins."""


def scanner(constant: Callable[[str], Any] = refuse_constant) -> Scan:
    """What `parse` reads with; `constant` gives the value of NaN and the like."""
    return _decoder(constant, object_pairs_hook=_object, parse_int=_integer).scan_once  # type: ignore[no-any-return]


def quick_scanner() -> Scan:
    """Without a call for each object and integer, which takes half of the time: of a doubled key
    the last is left, and an integer may have any number of digits."""
    return _decoder(refuse_constant).scan_once  # type: ignore[no-any-return]


def _decoder(constant: Callable[[str], Any], **others: Any) -> Any:
    return json.JSONDecoder(parse_float=_number, parse_constant=constant, **others)


_DECODER = _decoder(refuse_constant, object_pairs_hook=_object, parse_int=_integer)
