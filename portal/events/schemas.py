"""JSON Schemas of merchants' own event types (JSON Schema 2020-12), bounded by what they cost: a
check holds the interpreter, so nothing else runs in the process meanwhile."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

from portal.strict_json import dump, text_of

_REFUSED_KEYWORDS: dict[str, type] = {
    "pattern": str, "patternProperties": dict, "$ref": str, "$dynamicRef": str, "uniqueItems": bool,
}
"""In merchants' schemas: patterns can take for ever to match, references can lead anywhere, and
comparing all items with each other takes the square of their number."""
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")
_MAX_UNEVALUATED = 4
"""How deep these may stand in each other: each level looks at everything below it three times more.
(Eighteen of them, 781 bytes, took ten seconds.)"""
_MAX_SCHEMA_WORK = 30_000_000
"""Length of a merchant's schema times length of the data: a bound for the time a check takes, some
50 ms, in which nothing else runs in the process."""
_NOT_CHECKED = "/: not checked, because schema and data together are too large."


@dataclass
class Work:
    """How much checking a request may still ask for, in characters of schemas times characters of
    data: a thousand events that each cost the most would keep everybody else waiting."""

    left: int = 10 * _MAX_SCHEMA_WORK

    def may_do(self, amount: int) -> bool:
        """Take so much of it; False when it is too much, for once or for all."""
        if amount > min(self.left, _MAX_SCHEMA_WORK):
            return False
        self.left -= amount
        return True


@lru_cache(maxsize=512)
def _own_validator(schema: str) -> Draft202012Validator | None:
    """None for one that takes too long, of before such were refused."""
    read = json.loads(schema)
    if _unevaluated_depth(read) > _MAX_UNEVALUATED:
        return None
    return Draft202012Validator(read, offline=True)


def error_by_own(schema: dict[str, Any], data: dict[str, Any], work: Work) -> str | None:
    """Where `data` breaks a merchant's schema, or that it was not checked; None when it fits."""
    text = dump(schema)
    validator = _own_validator(text) if work.may_do(len(text) * len(text_of(data))) else None
    return _NOT_CHECKED if validator is None else first_error(validator, data)


def first_error(validator: Draft202012Validator, data: dict[str, Any]) -> str | None:
    """What is wrong first, in a sentence with a JSON Pointer; None when nothing is."""
    # To say what is wrong costs more than to see that nothing is, and to say all of it far more.
    if validator.is_valid(data):
        return None
    try:
        validator.validate(data)
    except ValidationError as error:
        pointer = "".join(f"/{part}" for part in error.instance_path) or "/"
        return f"{pointer[:200]}: {error.message[:300]}"
    return None


def problem(schema: dict[str, Any]) -> str | None:
    """Why a merchant cannot use a schema, as a sentence; None when it can."""
    pending: list[Any] = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            for keyword, kind in _REFUSED_KEYWORDS.items():
                # A property may be called so; then its value is a schema.
                if isinstance(value.get(keyword), kind):
                    return f"schema uses {keyword}, which is not allowed here; leave it out."
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    if _unevaluated_depth(schema) > _MAX_UNEVALUATED:
        return (
            f"schema has {' or '.join(_UNEVALUATED)} more than {_MAX_UNEVALUATED} deep in each "
            "other; leave the inner ones out."
        )
    try:
        Draft202012Validator(schema, offline=True)
    except ValidationError as error:
        return f"schema is not a JSON Schema: {error.message[:200]}."
    except ValueError:
        return "schema is nested too deep."
    return None


def _unevaluated_depth(schema: Any) -> int:
    """How deep keywords that look at what is unevaluated stand in each other."""
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
