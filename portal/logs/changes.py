"""What changed between two states of a record, field by field. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
MAX_CHANGES = 100
"""How many changed fields are listed; `is_cut` says that there are more."""
MAX_COMPARED = 262_144
"""Characters of a record that is still compared; a page compares some twenty of them."""
MAX_SHOWN = 200
"""How many characters of a value are shown."""


@dataclass(frozen=True)
class Change:
    """One field that is not as it was: its path such as `items[0].price`, and its values as JSON
    text, None where the field was not there."""

    path: str
    kind: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Changes:
    """What is different. `announced` comes from the event's own `previous`; `unannounced` from
    comparing its record with the one before, without what `previous` already says."""

    announced: list[Change]
    unannounced: list[Change]
    is_cut: bool = False
    is_too_large: bool = False


class _Number(str):
    """A number as it was written: 99.50 stays 99.50, is not the text "99.50", and has not changed
    when it was 99.5."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and self._worth() == other._worth()

    def _worth(self) -> Decimal | float:
        try:
            return Decimal(self)
        except InvalidOperation:
            # An exponent of more than eighteen digits.
            return float(self)

    def __hash__(self) -> int:
        return hash((_Number, self._worth()))


_ABSENT = object()


def between(data: str | None, previous: str | None, data_before: str | None) -> Changes:
    """What an event changed, from the JSON texts of its `data` and `previous`, and of the `data`
    of the record's event before it; each None where there is none."""
    texts = [text for text in (data, previous, data_before) if text is not None]
    if sum(map(len, texts)) > MAX_COMPARED:
        return Changes([], [], is_too_large=True)
    now, was, before = (_parse(text) for text in (data, previous, data_before))
    announced: list[Change] = []
    unannounced: list[Change] = []
    if isinstance(was, dict):
        known = now if isinstance(now, dict) else {}
        announced = [
            change for name in was for change in _compare(name, was[name], known.get(name, _ABSENT))
        ]
    if isinstance(now, dict) and isinstance(before, dict):
        said = was if isinstance(was, dict) else {}
        unannounced = [
            change
            for name in {**before, **now}
            if name not in said
            for change in _compare(name, before.get(name, _ABSENT), now.get(name, _ABSENT))
        ]
    total = len(announced) + len(unannounced)
    announced = announced[:MAX_CHANGES]
    return Changes(
        announced, unannounced[: MAX_CHANGES - len(announced)], is_cut=total > MAX_CHANGES
    )


def _parse(text: str | None) -> Any:
    if text is None:
        return None
    return json.loads(text, parse_int=_Number, parse_float=_Number)


def _compare(path: str, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _compare(
                f"{path}.{name}", before.get(name, _ABSENT), after.get(name, _ABSENT)
            )
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            yield from _compare(f"{path}[{index}]", _at(before, index), _at(after, index))
    elif before is _ABSENT:
        yield Change(path, ADDED, None, _shown(after))
    elif after is _ABSENT:
        yield Change(path, REMOVED, _shown(before), None)
    elif type(before) is not type(after) or before != after:
        yield Change(path, CHANGED, _shown(before), _shown(after))


def _at(items: list[Any], index: int) -> Any:
    return items[index] if index < len(items) else _ABSENT


def _shown(value: Any) -> str:
    text = _written(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        inside = ", ".join(
            f"{json.dumps(name, ensure_ascii=False)}: {_written(one)}"
            for name, one in value.items()
        )
        return f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return json.dumps(value, ensure_ascii=False)
