"""Liquid's arithmetic in decimals: 99.50 plus 1 is 100.50, and no long number loses a digit. Pure.

Shopify's Liquid is the model: other text counts as 0, whole numbers divide into whole numbers, and
halves are rounded away from zero. Only that it makes a double of each result; these stay decimals.
What is computed with is bounded, since a few characters with an exponent are a number of millions
of digits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from liquid.builtin.filters.array import map_
from liquid.exceptions import FilterArgumentError
from liquid.filter import sequence_filter
from liquid.undefined import is_undefined

from portal.strict_json import Number

MAX_DIGITS = 400
"""Of a number that is computed with, written without an exponent: JSON's largest one has 309."""
QUOTIENT_DIGITS = 28
"""Of a quotient that would go on for ever; more where its numbers have more together."""

_EXACT = Context(prec=4 * MAX_DIGITS, rounding=ROUND_HALF_UP)
"""Room for each digit of a sum, a product and a remainder."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_NO_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


def digits(number: int | Decimal) -> int:
    """How many digits it takes to write a number without an exponent; of long whole numbers about
    as many."""
    if isinstance(number, int):
        return number.bit_length() * 3 // 10 + 1
    if isinstance(number, Number) and len(number.written) > MAX_DIGITS:
        # Nobody need take a text of a megabyte apart.
        return len(number.written)
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int), "infinity is no number of JSON"
    return max(number.adjusted(), 0) + 1 + max(-exponent, 0)


def to_number(value: Any) -> int | Decimal:
    """A value as Liquid computes with it: a text that is a number counts as one, what is none is 0.

    Raises FilterArgumentError for a number of more than MAX_DIGITS, and for none at all.
    """
    number: int | Decimal = 0
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and math.isfinite(value):
        number = Decimal(repr(value))
    elif isinstance(value, str) and _NUMBER.fullmatch(text := value.strip()):
        if len(text) > MAX_DIGITS:
            raise _too_long()
        number = int(text) if text.lstrip("+-").isdecimal() else Decimal(text)
    elif isinstance(value, str) and _NO_NUMBER.fullmatch(value.strip()):
        raise FilterArgumentError(f"{value.strip()} cannot be computed with", token=None)
    if digits(number) > MAX_DIGITS:
        raise _too_long()
    return number


def _too_long() -> FilterArgumentError:
    return FilterArgumentError(
        f"a number of more than {MAX_DIGITS} digits cannot be computed with", token=None
    )


def plus(value: Any, other: Any) -> int | Decimal:
    """The sum."""
    return _sum((to_number(value), to_number(other)))


def minus(value: Any, other: Any) -> int | Decimal:
    """The difference."""
    number, less = to_number(value), to_number(other)
    if isinstance(number, int) and isinstance(less, int):
        return number - less
    return _unsigned(_EXACT.subtract(number, less))


def times(value: Any, other: Any) -> int | Decimal:
    """The product."""
    number, factor = to_number(value), to_number(other)
    if isinstance(number, int) and isinstance(factor, int):
        return number * factor
    return _unsigned(_EXACT.multiply(number, factor))


def divided_by(value: Any, other: Any) -> int | Decimal:
    """The quotient; of whole numbers the next whole one below it."""
    number, divisor = to_number(value), _divisor("divided_by", other)
    if isinstance(number, int) and isinstance(divisor, int):
        return number // divisor
    precision = max(QUOTIENT_DIGITS, digits(number) + digits(divisor))
    quotient = Context(prec=precision, rounding=ROUND_HALF_UP).divide(number, divisor)
    return _unsigned(quotient)


def modulo(value: Any, other: Any) -> int | Decimal:
    """The remainder, which has the divisor's sign."""
    number, divisor = to_number(value), _divisor("modulo", other)
    if isinstance(number, int) and isinstance(divisor, int):
        return number % divisor
    rest = _EXACT.remainder(number, divisor)
    if rest and (rest < 0) != (divisor < 0):
        return _EXACT.add(rest, divisor)
    return _unsigned(rest)


def _divisor(name: str, value: Any) -> int | Decimal:
    divisor = to_number(value)
    if not divisor:
        raise FilterArgumentError(f"{name}: can't divide by {divisor}", token=None)
    return divisor


def absolute(value: Any) -> int | Decimal:
    """The number without its sign."""
    number = to_number(value)
    return abs(number) if isinstance(number, int) else number.copy_abs()


def ceil(value: Any) -> int:
    """The next whole number above."""
    return math.ceil(to_number(value))


def floor(value: Any) -> int:
    """The next whole number below."""
    return math.floor(to_number(value))


def at_least(value: Any, other: Any) -> int | Decimal:
    """The larger of two."""
    return max(to_number(value), to_number(other))


def at_most(value: Any, other: Any) -> int | Decimal:
    """The smaller of two."""
    return min(to_number(value), to_number(other))


def rounded(value: Any, places: Any = 0) -> int | Decimal:
    """The number with at most so many decimal places; a whole one without any. With -2 it is
    rounded to hundreds."""
    number, kept = to_number(value), int(to_number(places))
    if kept <= 0:
        if -kept > MAX_DIGITS:
            return 0
        return int(Decimal(number).quantize(_one_at(-kept), context=_EXACT))
    if isinstance(number, int) or digits(number) - max(number.adjusted(), 0) - 1 <= kept:
        return number
    return _unsigned(number.quantize(_one_at(-kept), context=_EXACT))


def _unsigned(result: Decimal) -> Decimal:
    """A result as people read it: a zero has no sign, and 0.00 times -1 is 0.00."""
    return result or result.copy_abs()


def _one_at(exponent: int) -> Decimal:
    return Decimal((0, (1,), exponent))


@sequence_filter
def total(items: Any, key: Any = None) -> int | Decimal:
    """The sum of the items, or of what they have under a name. Raises FilterArgumentError for
    words, since whoever adds them up looks at the wrong field."""
    if key is not None and not is_undefined(key):
        items = map_(items, key)
    for item in items:
        if isinstance(item, str) and not _NUMBER.fullmatch(item.strip()):
            raise FilterArgumentError(f"sum: {item[:40]!r} is no number", token=None)
    return _sum(map(to_number, items))


def _sum(numbers: Iterable[int | Decimal]) -> int | Decimal:
    result: int | Decimal = 0
    for number in numbers:
        if isinstance(result, int) and isinstance(number, int):
            result += number
        else:
            result = _EXACT.add(result, number)
    return result


FILTERS: dict[str, Callable[..., int | Decimal]] = {
    "abs": absolute,
    "at_least": at_least,
    "at_most": at_most,
    "ceil": ceil,
    "divided_by": divided_by,
    "floor": floor,
    "minus": minus,
    "modulo": modulo,
    "plus": plus,
    "round": rounded,
    "sum": total,
    "times": times,
}
