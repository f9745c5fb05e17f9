"""The words of JSON Schema 2020-12 in which the API's document says what a value must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portal.characters import CONTROLS, DIRECTIONS, LINE_ENDS

Schema = dict[str, Any]

LINE = f"^[^{CONTROLS}{LINE_ENDS}{DIRECTIONS}]*$"
"""Text without line breaks, control characters, and marks that change its direction."""
NO_CONTROLS = f"^[^{CONTROLS}]*$"
NO_NUL = r"^[^\u0000]*$"
APPLICATION = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"
SOURCE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}(:.{1,255})?$"
HTTP_URL = r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s\\#@]+$"
FLAG: Schema = {"type": "boolean"}


def ref(name: str) -> Schema:
    """A reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def described(schema: Schema, text: str) -> Schema:
    """A schema with a description."""
    return schema | {"description": text}


def text(pattern: str = "", *, most: int = 255, least: int = 0) -> Schema:
    """Text of `least` to `most` characters."""
    schema: Schema = {"type": "string", "maxLength": most}
    return (
        schema | ({"minLength": least} if least else {}) | ({"pattern": pattern} if pattern else {})
    )


def whole(low: int, high: int) -> Schema:
    """A whole number."""
    return {"type": "integer", "minimum": low, "maximum": high}


def choice(options: Sequence[str]) -> Schema:
    """One of several words, of which the first is what counts where none is given."""
    return {"type": "string", "enum": list(options), "default": options[0]}


def array(items: Schema, most: int, least: int = 0) -> Schema:
    """A list of `least` to `most` items."""
    return {"type": "array", "items": items, "maxItems": most} | (
        {"minItems": least} if least else {}
    )


def closed(properties: Schema, *required: str) -> Schema:
    """An object of these properties alone."""
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def or_null(schema: Schema) -> Schema:
    """The same, or null."""
    return schema | {"type": [schema["type"], "null"]}
