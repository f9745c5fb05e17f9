"""Events in JSON, whose records keep the text that they came as.

Each record is cut out of the text and read by itself, and then what is around them. So what is read
in one go, while no other thread of the process has its turn, is a record at most.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from typing import Any

import orjson

from portal.errors import FieldError, Invalid, TooLarge
from portal.json_values import Done, end_of_values, nothing, values_of
from portal.strict_json import (
    CONTAINERS,
    KINDS,
    MAX_DEPTH,
    MAX_VALUES,
    SPACE,
    Record,
    Scan,
    brackets,
    check_escapes,
    decoded,
    is_deeper,
    quick_scanner,
    refuse_constant,
    scanner,
    strictly,
    too_deep,
)

MAX_VALUES_OF_BATCH = 1_500_000
"""Values in a body that only a batch may be as large as; no record in it has more than
MAX_VALUES."""
_WITH_RECORDS = (*CONTAINERS, Record)


def parse_events(raw: bytes, most: int = MAX_VALUES, done: Done = nothing) -> Any:
    """As strict_json.parse, for one event, or a batch `{"events": [ … ]}`, of `most` values: in
    each the objects `data` and `previous` are Records, and so may be other objects. Raises Invalid,
    too, where one has more than MAX_VALUES. `done` is told of each part that was read."""
    text, count = decoded(raw, most, done)
    value = strictly(lambda text: _with_records(text, done, is_many=count > MAX_VALUES), text)
    check_escapes(text, value, done)
    return value


def _with_records(text: str, done: Done, *, is_many: bool) -> Any:
    """The value of a text: each object in it is scanned and cut out first, with its own text, and
    what is around them then, with NaN where each of them was. No sender can send a NaN."""
    records: list[Record] = []
    around: list[str] = []
    position = 0
    read = _short_record_at if is_many else _record_at
    while (start := _next_object(text, position, done)) is not None:
        around.append(text[position:start])
        try:
            record, position = read(text, start)
        except _TooMany:
            raise _too_many_after("NaN".join(around)) from None
        records.append(record)
        done(len(record.text))
    around.append(text[position:])
    rest = "NaN".join(around)
    if is_many and values_of(rest.encode(), MAX_VALUES, done) > MAX_VALUES:
        raise TooLarge(
            f"The body may hold at most {MAX_VALUES:,} values beside its records: {KINDS}."
        )
    value = _around(text, rest, around, records)
    # Most have few brackets; and of a batch, which has many, no event is inside of another.
    deepest = max((brackets(record.text) for record in records), default=0)
    if (
        brackets(rest) + deepest > MAX_DEPTH
        and is_deeper(value, MAX_DEPTH - deepest, CONTAINERS)
        and is_deeper(value, MAX_DEPTH, _WITH_RECORDS)
    ):
        raise too_deep()
    return value


def _next_object(text: str, position: int, done: Done) -> int | None:
    """Where the next object begins that has a name; None where there is none."""
    while True:
        # What may stand between a name and its object is looked at in one go.
        between = _BETWEEN.match(text, position + LOOK)
        end = between.end() + 1 if between else len(text)
        found = _OBJECT.search(text, position, end)
        if found is not None:
            return found.end()
        if end >= len(text):
            return None
        # The end of a name may be the last that was looked at.
        position = end - 2
        done(LOOK)


def _record_at(text: str, start: int) -> tuple[Record, int]:
    """The object that begins there, and where it ends."""
    try:
        value, end = _scan_quickly(text, start)
        written = text[start:end]
        is_whole = written.count('"') == orjson.dumps(value).count(b'"') and _QUOTE not in written
    except StopIteration as error:
        raise json.JSONDecodeError("Expecting value", text, error.value) from None
    except json.JSONDecodeError:
        raise
    except (ValueError, TypeError):
        is_whole = False
    if not is_whole:
        # To be told what is wrong, if anything is.
        value, end = _scan(text, start)
        written = text[start:end]
    record = Record(value)
    record.text = written
    return record, end


def _short_record_at(text: str, start: int) -> tuple[Record, int]:
    """The same of one that has no more than MAX_VALUES. Raises _TooMany."""
    for most in LENGTHS:
        end = min(start + most, len(text))
        if most > 2 * MAX_VALUES:
            end = end_of_values(text, start, end, MAX_VALUES)
        try:
            record, length = _record_at(text[start:end], 0)
        except json.JSONDecodeError as error:
            is_cut = error.pos >= len(error.doc) - _TOKEN or error.msg.startswith("Unterminated")
            if end == len(text) or not is_cut:
                raise json.JSONDecodeError(error.msg, text, start + error.pos) from None
        else:
            return record, start + length
    raise _TooMany


class _TooMany(Exception):
    """A record has more than MAX_VALUES."""


def _too_many_after(beginning: str) -> Invalid | TooLarge:
    """What refuses the record that comes after the beginning of a body."""
    told = f"A record may hold at most {MAX_VALUES:,} values: {KINDS}. Send less of it."
    item = _LIST.match(beginning)
    if item is None:
        return TooLarge(told)
    # Which event it is of is known by those that are whole before it.
    number = -1
    with contextlib.suppress(StopIteration, json.JSONDecodeError):
        while item is not None:
            number += 1
            item = _NEXT.match(beginning, _scan_anything(beginning, item.end())[1])
    return Invalid([FieldError(f"/events/{number}", told)])


def _around(text: str, rest: str, parts: list[str], records: list[Record]) -> Any:
    """The value of what is around records, the parts of a text, with the records in it."""
    _cut_out.records = iter(records)
    try:
        value, position = _scan_around(rest, len(rest) - len(rest.lstrip(SPACE)))
        if not rest[position:].strip(SPACE):
            return value
        told = "Extra data"
    except StopIteration as error:
        told, position = "Expecting value", error.value
    except json.JSONDecodeError as error:
        told, position = error.msg, error.pos
    # Where that is in the text that came.
    looked_at = passed = 0
    for part, record in zip(parts, records, strict=False):
        looked_at += len(part)
        if position <= looked_at:
            break
        looked_at += len("NaN")
        passed += len(record.text) - len("NaN")
    raise json.JSONDecodeError(told, text, position + passed)


def _record(name: str) -> Any:
    if name != "NaN" or (record := next(_cut_out.records, None)) is None:
        return refuse_constant(name)
    return record


_cut_out = threading.local()
"""The records that this thread has cut out of a text, in its order."""
_scan = scanner()
_scan_quickly = quick_scanner()
"""Where a key is doubled some of the text's quotes are missing in what is written of the value,
where none is spelled _QUOTE. An integer of over 64 bits is not written at all, and `_scan` looks at
it."""
_scan_around = scanner(_record)
_scan_anything: Scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_QUOTE = r"\u0022"
_WS = f"[{SPACE}]*+"
_OBJECT = re.compile(rf'"(?<=[0-9A-Za-z]"){_WS}:{_WS}(?=\{{)')
"""The end of a name such as `data`, and an object after it. Where a text begins, or has a quote in
it, no letter or digit is before the quote."""
_BETWEEN = re.compile(f"[{SPACE}:]*+")
LOOK = 1024 * 1024
"""Characters that are looked through in one go for the next one."""
LENGTHS = 16 * 1024, 2 * MAX_VALUES, 4 * 1024 * 1024
"""Characters of a record that are read at first, and more where it is not at its end: those that
have no more than MAX_VALUES in any case; and those that no event may have (events.rules)."""
_TOKEN = 12
"""As near to the end of what was cut off lies the position at which it breaks, but for texts."""
_LIST = re.compile(rf'{_WS}\{{{_WS}"events"{_WS}:{_WS}\[{_WS}')
_NEXT = re.compile(rf"{_WS},{_WS}")
