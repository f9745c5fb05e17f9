"""JSON Schemas of merchants' own event types (JSON Schema 2020-12), bounded by what they cost: a
check keeps a thread and a processor until it ends, and nothing can stop it."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from jsonschema_rs import Draft202012Validator, ValidationError

from portal.errors import pointer
from portal.json_values import values_of
from portal.strict_json import dump, text_of

_REFUSED_KEYWORDS: dict[str, type] = {
    "pattern": str,
    "patternProperties": dict,
    "$ref": str,
    "$dynamicRef": str,
    "$recursiveRef": str,
    "uniqueItems": bool,
}
"""Not allowed in merchants' schemas: a pattern can take for ever to match, a reference can lead
anywhere again and again (three from a schema to itself took two minutes for nine levels of data),
and comparing all items with each other takes the square of their number."""
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")
_MAX_UNEVALUATED = 4
"""How deep these may be nested: each level looks at everything below it three more times. (Eighteen
levels, in 781 bytes, took ten seconds.)"""
_MAX_SCHEMA_WORK = 30_000_000
"""Length of a merchant's schema times length of the data: it bounds the time of a check to some
50 ms."""
_EXACT, _LONG_EXACT = 150, 2_000
"""Characters of a schema as which each number counts that those in the data are divided by or held
against: that is exact with fractions, and numbers with large exponents have hundreds of digits
then. (Twelve kilobytes with multipleOf took four seconds, one with enum six.)"""
_ORDINARY = (1e-9, 1e15)
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_LONG_NUMBER = re.compile(r"[\[:,\s]-?[\d.]*(?:\d[eE]|\d{20})")
_READING = 300
"""How many characters of data it counts as to read a schema before its first check; as many again
for each level of unevaluated… in it."""
_MAX_KEPT = 1024 * 1024
"""Characters of the schemas that are kept parsed, each counted once more for each level of
unevaluated…: parsed, they take a hundred times the memory of their text."""
_NOT_CHECKED = "/: not checked, because schema and data together are too large."
_MOST_TOLD = 50_000
"""For how many values the place of an error is looked for, some 15 ms: the library copies all of
them, and once more for each thing that alternatives ask for. (900 KB took a quarter of a second;
840 bytes with 500 alternatives a tenth.)"""
_NOT_TOLD = "/: does not fit; where is not told, because schema and data together are too large."
_ALTERNATIVES = ("anyOf", "oneOf")


@dataclass
class Work:
    """How much checking a request may still ask for, in characters of schemas times characters of
    data: a thousand events at the highest cost would keep everybody else waiting."""

    left: int = 10 * _MAX_SCHEMA_WORK
    left_to_tell: int = 20 * _MOST_TOLD
    """The same in values, for finding out where data breaks a schema."""

    def may_do(self, amount: int) -> bool:
        """Spend this much; False when it is too much, for one check or for the request."""
        if amount > min(self.left, _MAX_SCHEMA_WORK):
            return False
        self.left -= amount
        return True

    def may_read(self, schema: str) -> bool:
        """The same, to read a schema."""
        looks = min(sum(map(schema.count, _UNEVALUATED)), _MAX_UNEVALUATED)
        amount = len(schema) * _READING * (1 + looks)
        if amount > self.left:
            return False
        self.left -= amount
        return True

    def may_tell(self, values: int) -> bool:
        """The same, to find where data of this many values breaks a schema."""
        if values > min(self.left_to_tell, _MOST_TOLD):
            return False
        self.left_to_tell -= values
        return True


@dataclass(frozen=True)
class Checker:
    """A schema that is ready to check data."""

    validator: Draft202012Validator
    copies: int
    """How often all of the data may be copied to find where it breaks the schema."""

    @classmethod
    def of(cls, schema: dict[str, Any]) -> Checker:
        """The checker of a schema that is allowed."""
        return cls(Draft202012Validator(schema, offline=True), 1 + _asked_by_alternatives(schema))

    def first_error(self, data: dict[str, Any], work: Work) -> str | None:
        """The first error, as a JSON Pointer and a sentence; None when the data fits."""
        # Finding an error costs more than seeing that there is none, and finding all far more.
        if self.validator.is_valid(data):
            return None
        if not work.may_tell(self.copies * values_of(text_of(data).encode(), 0)):
            return _NOT_TOLD
        try:
            self.validator.validate(data)
        except ValidationError as error:
            where = pointer(*error.instance_path) or "/"
            return f"{where[:200]}: {error.message[:300]}"
        return None


@dataclass(frozen=True)
class _Own:
    """A merchant's schema, parsed. `checker` is None for one that takes too long, stored before
    such schemas were refused."""

    checker: Checker | None
    length: int
    depth: int
    numbers: int
    """How many are compared exactly."""
    is_long: bool
    """Whether one of these is very large or small."""

    @classmethod
    def of(cls, text: str) -> _Own:
        schema = json.loads(text)
        is_refused = _refusal(schema) is not None
        checker = None if is_refused else Checker.of(schema)
        numbers, (least, most) = _exact_numbers(schema), _ORDINARY
        is_long = not all(number == 0 or least <= abs(number) <= most for number in numbers)
        return cls(checker, len(text), _unevaluated_depth(schema), len(numbers), is_long)

    @property
    def size(self) -> int:
        """Its share of the schemas that are kept."""
        return self.length * (1 + self.depth)

    def cost(self, data: str) -> int:
        """The cost of checking a JSON text."""
        least = (self.length + _EXACT * self.numbers) * len(data)
        if not self.numbers or least > _MAX_SCHEMA_WORK:
            return least
        if self.is_long or _LONG_NUMBER.search(data):
            return (self.length + _LONG_EXACT * self.numbers) * len(data)
        return least


_kept: LRUCache[str, _Own] = LRUCache(_MAX_KEPT, getsizeof=lambda own: own.size)
"""The same for whoever asks, and so of this process."""
_kept_lock = threading.Lock()
_reading = threading.Lock()
"""One schema is parsed at a time: meanwhile it takes several times the memory it needs later."""


def _own(text: str, work: Work) -> _Own | None:
    """A merchant's schema, parsed; None if parsing it is too much for this request."""
    known = _known(text)
    if known is None and work.may_read(text):
        with _reading:
            # Another thread may have parsed it meanwhile.
            known = _known(text) or _Own.of(text)
            if known.size <= _MAX_KEPT:
                with _kept_lock:
                    _kept[text] = known
    return known


def _known(text: str) -> _Own | None:
    with _kept_lock:
        return _kept.get(text)


def error_by_own(schema: dict[str, Any], data: dict[str, Any], work: Work) -> str | None:
    """Where `data` breaks a merchant's schema, or why it was not checked; None when it fits."""
    written = text_of(data)
    own = _own(dump(schema), work)
    if own is None or own.checker is None or not work.may_do(own.cost(written)):
        return _NOT_CHECKED
    return own.checker.first_error(data, work)


def problem(schema: dict[str, Any]) -> str | None:
    """Why a merchant cannot use a schema, as a sentence; None when it can."""
    if (refusal := _refusal(schema)) is not None:
        return refusal
    try:
        Draft202012Validator(schema, offline=True)
    except ValidationError as error:
        return f"schema is not a JSON Schema: {error.message[:200]}."
    except ValueError:
        return "schema is nested too deep."
    return None


def _refusal(schema: dict[str, Any]) -> str | None:
    """What in a schema could make a check take too long, as a sentence; None if nothing."""
    pending: list[Any] = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            for keyword, kind in _REFUSED_KEYWORDS.items():
                # A property may have such a name; then its value is a schema.
                if isinstance(value.get(keyword), kind):
                    return f"schema uses {keyword}, which is not allowed here; leave it out."
            if value is not schema and isinstance(value.get("$schema"), str):
                # It would be read by the rules of another version, with that one's references.
                return "schema has a $schema inside, which is not allowed here; leave it out."
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    if _unevaluated_depth(schema) > _MAX_UNEVALUATED:
        return (
            f"schema has {' or '.join(_UNEVALUATED)} more than {_MAX_UNEVALUATED} deep in each "
            "other; leave the inner ones out."
        )
    return None


def _exact_numbers(schema: Any) -> list[float]:
    """What numbers are to be multiples of; bounds of theirs that are fractions; and those in what
    values are to be, or to be one of."""
    found: list[float] = []
    pending = [(schema, False)]
    while pending:
        value, is_value = pending.pop()
        if isinstance(value, dict):
            bounds = (value.get(bound) for bound in _BOUNDS)
            found += [bound for bound in bounds if isinstance(bound, float)]
            pending += [
                (inner, is_value or keyword in ("const", "enum", "multipleOf"))
                for keyword, inner in value.items()
            ]
        elif isinstance(value, list):
            pending += [(inner, is_value) for inner in value]
        elif is_value and type(value) in (int, float):
            found.append(value)
    return found


def _unevaluated_depth(schema: Any) -> int:
    """How deep the unevaluated… keywords are nested."""
    deepest, pending = 0, [(schema, 0)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, dict):
            depth += any(keyword in value for keyword in _UNEVALUATED)
            pending.extend((inner, depth) for inner in value.values())
        elif isinstance(value, list):
            pending.extend((inner, depth) for inner in value)
        deepest = max(deepest, depth)
    return deepest


def _asked_by_alternatives(schema: Any) -> int:
    """How many keywords and alternatives there are in a schema's lists of alternatives."""
    count, pending = 0, [(schema, False)]
    while pending:
        value, is_inside = pending.pop()
        if isinstance(value, dict):
            count += is_inside * len(value)
            pending.extend(
                (inner, is_inside or keyword in _ALTERNATIVES) for keyword, inner in value.items()
            )
        elif isinstance(value, list):
            count += is_inside * len(value)
            pending.extend((inner, is_inside) for inner in value)
    return count
