"""How values are written where Liquid makes text of them. Pure.

Nothing is written for nil, `true` and `false` for booleans, as Liquid does everywhere. Objects and
lists, which it leaves to the language it is written in, are JSON here: a receiver reads it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from liquid import Undefined

from portal.composing.arithmetic import MAX_DIGITS, digits
from portal.strict_json import Number, dump


def printed(value: Any) -> str:
    """A value as text. Raises ValueError for a number that has none, such as infinity."""
    if isinstance(value, str):
        return value
    if _is_nil(value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return _plain(value)
    if isinstance(value, float):
        return _plain(Decimal(float.__repr__(value)))
    if isinstance(value, range):
        return f"{value.start}..{value.stop - 1}"
    if isinstance(value, dict | list | tuple):
        return as_json(value)
    return str(value)


def as_json(value: Any) -> str:
    """A value as JSON; what does not exist is null, and numbers of the record are as written."""
    return dump(value, _jsonable)


def as_text(value: Any) -> Any:
    """What a filter of text is given: texts, whole numbers and what does not exist as they are, all
    else as it is printed."""
    if isinstance(value, str | Undefined) or type(value) is int:
        return value
    return printed(value)


def _is_nil(value: Any) -> bool:
    # python-liquid has several: None, Undefined, and what its filter `map` finds missing. All of
    # them equal None.
    return value is None or bool(value == None)  # noqa: E711


def _plain(number: Decimal) -> str:
    """A number without an exponent, which not every reader of text takes. Of the record's own it
    is kept where there would be too many digits without it."""
    if not number.is_finite():
        raise ValueError("a number is beyond what can be written")
    if isinstance(number, Number) and (
        "e" not in number.written.lower() or digits(number) > MAX_DIGITS
    ):
        return number.written
    return format(number, "f")


def _jsonable(value: Any) -> Any:
    if _is_nil(value):
        return None
    return list(value) if isinstance(value, range) else str(value)
