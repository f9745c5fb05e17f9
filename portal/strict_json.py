"""JSON as RFC 8259 means it, and nothing that a database or a receiver chokes on.

What an event tells of a record keeps the text that it came as (`Record`), so that numbers, escapes
and the order of names reach every receiver as their sender wrote them.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import Any, Self

import orjson

from portal.errors import Malformed, TooLarge

MAX_DEPTH = 64
MAX_INTEGER_DIGITS = 300
MAX_VALUES, MAX_VALUES_OF_BATCH = 250_000, 1_500_000
"""Values in a body, and in one that only a batch may be as large as: each takes some hundred bytes
of memory, however few it has in the text, and they are read without a pause for other threads."""
_EXACT = 2**53
"""Up to here a double holds every integer (IEEE 754)."""

_CONTAINERS: tuple[type, ...] = (dict, list)
_UNSAFE_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
"""Only escapes can bring in a NUL or half of a surrogate pair: UTF-8 and JSON refuse them bare."""


class _Refused(ValueError):
    """A value that JSON allows and the portal does not; the message is for people."""


class Record(dict[str, Any]):
    """A JSON object, and the text that it came as."""

    __slots__ = ("text",)
    text: str


_WITH_RECORDS = (*_CONTAINERS, Record)


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
    text = _decoded(raw, MAX_VALUES)
    value = _strictly(_DECODER.decode, text)
    # Most bodies have few brackets and none of these escapes, and need no second look.
    if _brackets(text) > MAX_DEPTH and _is_deeper(value, MAX_DEPTH, _CONTAINERS):
        raise _too_deep()
    if _UNSAFE_ESCAPE.search(text):
        _check_texts(value)
    return value


def parse_record(raw: bytes) -> Any:
    """The same; an object is a Record."""
    value = parse(raw)
    if isinstance(value, dict):
        value = Record(value)
        value.text = raw.decode().strip(_SPACE)
    return value


def parse_events(raw: bytes, most: int = MAX_VALUES) -> Any:
    """The same for one event, or a batch `{"events": [ … ]}`, of `most` values: in each the objects
    `data` and `previous` are Records, and so may be other objects."""
    text = _decoded(raw, most)
    value = _strictly(_with_records, text)
    if "\\" in text and _UNSAFE_ESCAPE.search(text):
        _check_texts(value)
    return value


def _decoded(raw: bytes, most: int) -> str:
    if not raw or raw.isspace():
        raise Malformed("The body is empty; send a JSON object.")
    if raw.startswith(codecs.BOM_UTF8):
        # Senders must not add one (RFC 8259, 8.1).
        raise Malformed(
            "The body begins with a byte order mark (EF BB BF), which JSON must not; leave it out."
        )
    if values_of(raw, most) > most:
        raise TooLarge(
            f"The body may hold at most {most:,} values here: texts, numbers, objects, lists and "
            "the like. Send less of the record, or fewer events at once."
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8 (byte {error.start}); send UTF-8.") from None


def _strictly(decode: Callable[[str], Any], text: str) -> Any:
    try:
        return decode(text)
    except _Refused as error:
        raise Malformed(f"{error}.") from None
    except json.JSONDecodeError as error:
        raise Malformed(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise _too_deep() from None


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


# ── Events, whose records keep their text ──────────────────────────────────────────────────


def _with_records(text: str) -> Any:
    """The value of a text: each object in it is scanned and cut out first, with its own text, and
    what is around them then, with NaN where each of them was. No sender can send a NaN."""
    records: list[Record] = []
    around = []
    place = 0
    rest = ""
    try:
        while (member := _OBJECT.search(text, place)) is not None:
            start = member.end()
            around.append(text[place:start])
            record, place = _record_at(text, start)
            records.append(record)
        around.append(text[place:])
        rest = "NaN".join(around).strip(_SPACE)
        _cut_out.records = iter(records)
        value, place = _scan_around(rest, 0)
    except (StopIteration, json.JSONDecodeError):
        place = -1
    if place != len(rest):
        # To be told where it breaks.
        return _DECODER.decode(text)
    # Most have few brackets; and of a batch, which has many, no event is inside of another.
    deepest = max((_brackets(record.text) for record in records), default=0)
    if (
        _brackets(rest) + deepest > MAX_DEPTH
        and _is_deeper(value, MAX_DEPTH - deepest, _CONTAINERS)
        and _is_deeper(value, MAX_DEPTH, _WITH_RECORDS)
    ):
        raise _too_deep()
    return value


def _record_at(text: str, start: int) -> tuple[Record, int]:
    """The object that begins there, and where it ends."""
    try:
        value, end = _scan_quickly(text, start)
        written = text[start:end]
        is_whole = written.count('"') == orjson.dumps(value).count(b'"') and _QUOTE not in written
    except (ValueError, TypeError):
        is_whole = False
    if not is_whole:
        # To be told what is wrong, if anything is.
        value, end = _scan(text, start)
        written = text[start:end]
    record = Record(value)
    record.text = written
    return record, end


_QUOTE = r"\u0022"
_SPACE = " \t\n\r"
_WS = f"[{_SPACE}]*+"
_OBJECT = re.compile(rf'"(?<=[0-9A-Za-z]"){_WS}:{_WS}(?=\{{)')
"""The end of a name such as `data`, and an object after it. Where a text begins, or has a quote in
it, no letter or digit is before the quote."""


# ── How many values ────────────────────────────────────────────────────────────────────────


def values_of(raw: bytes, most: int) -> int:
    """About how many values JSON text has, at least: as many as commas and opening brackets outside
    of texts. Not more than `most` where a look tells that there are no more."""
    # Each takes two bytes, with the sign that parts it from the next one.
    few = len(raw) // 2
    if few > most:
        few = sum(map(raw.count, _PARTING))
    return few if few <= most else _values_outside_of_texts(raw)


def _values_outside_of_texts(raw: bytes) -> int:
    # Backslashes stand in texts alone, in pairs or before what they spell.
    signs = raw.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _OTHERS)
    count, is_text = 0, 0
    for start in range(0, len(signs), _PIECE):
        # Piece by piece, so that it takes little memory, and others' threads get their turn.
        parts = signs[start : start + _PIECE].split(b'"')
        count += sum(map(len, parts[is_text::2]))
        is_text = (is_text + len(parts) - 1) % 2
    return count


_PARTING = (b",", b"[", b"{")
_OTHERS = bytes(set(range(256)) - set(b',[{"'))
_PIECE = 64 * 1024


# ── What is refused ────────────────────────────────────────────────────────────────────────


def _brackets(text: str) -> int:
    return text.count("[") + text.count("{")


def _is_deeper(value: Any, levels: int, kinds: tuple[type, ...]) -> bool:
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


def _too_deep() -> Malformed:
    return Malformed(f"The body is nested deeper than {MAX_DEPTH} levels.")


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
    if len(text) > MAX_INTEGER_DIGITS and len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise _Refused(f"A number has more than {MAX_INTEGER_DIGITS} digits; send it as text")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Refused(f"The number {text[:40]} is beyond a double; send it as text")
    return number


def _constant(text: str) -> Any:
    raise _Refused(f"{text} is not a JSON number; send null or text")


def _record(name: str) -> Any:
    if name != "NaN" or (record := next(_cut_out.records, None)) is None:
        return _constant(name)
    return record


_cut_out = threading.local()
"""The records that this thread has cut out of a text, in its order."""


def _decoder(constant: Callable[[str], Any], **others: Any) -> Any:
    return json.JSONDecoder(parse_float=_number, parse_constant=constant, **others)


_Scan = Callable[[str, int], tuple[Any, int]]
_DECODER = _decoder(_constant, object_pairs_hook=_object, parse_int=_integer)
_scan: _Scan = _DECODER.scan_once
_scan_quickly: _Scan = _decoder(_constant).scan_once
"""Without a call for each object and integer, which takes half of the time. Of a doubled key the
last is left: so some of the text's quotes are missing in what is written of the value, where none
is spelled _QUOTE. An integer of over 64 bits is not written at all, and `_scan` looks at it."""
_scan_around: _Scan = _decoder(_record, object_pairs_hook=_object, parse_int=_integer).scan_once
