"""A JSON Schema as rows of a table for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

MAX_ROWS = 200
MAX_DEPTH = 6


@dataclass(frozen=True)
class Property:
    """A property: its path such as `lines[].sku`, its type in words, and what it means."""

    path: str
    type: str
    description: str
    required: bool


def properties(schema: dict[str, Any] | None) -> list[Property]:
    """The properties of an object's schema and of the objects within it, in their order: at most
    MAX_ROWS, down to MAX_DEPTH. Whatever is not a plain list of properties is left out."""
    return list(islice(_walk(schema, "", 0), MAX_ROWS))


def _walk(schema: Any, prefix: str, depth: int) -> Iterator[Property]:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return
    known = schema.get("properties")
    required = schema.get("required")
    for name, inner in known.items() if isinstance(known, dict) else ():
        path = f"{prefix}{name}"
        details = inner if isinstance(inner, dict) else {}
        yield Property(
            path,
            _type(details),
            str(details.get("description", "")),
            isinstance(required, list) and name in required,
        )
        yield from _walk(details, f"{path}.", depth + 1)
        yield from _walk(details.get("items"), f"{path}[].", depth + 1)


def _type(details: dict[str, Any]) -> str:
    kinds = details.get("type", "any")
    text = " or ".join(map(str, kinds)) if isinstance(kinds, list) else str(kinds)
    items = details.get("items")
    if text == "array" and isinstance(items, dict):
        text = f"array of {items.get('type', 'any')}"
    if isinstance(details.get("format"), str):
        text += f", {details['format']}"
    if isinstance(details.get("enum"), list):
        text += ": " + ", ".join(str(one) for one in details["enum"][:12])
    return text
