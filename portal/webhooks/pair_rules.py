"""The rules for a webhook's query parameters and headers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from portal import json_schema
from portal.characters import NOT_IN_LINE
from portal.composing.compose import MAX_HEADERS, MAX_URL, TOKEN, UNSENDABLE
from portal.errors import FieldError, pointer
from portal.models.webhook import MASK, Pair

MAX_PAIRS = 50
MAX_NAME = 255
MAX_VALUE = 8 * 1024

MAX_TOGETHER = {"query_params": MAX_URL, "headers": MAX_HEADERS}
"""Bytes of all names and values together: more could never be sent."""

KINDS = {"query_params": "query parameter", "headers": "header"}

# The connection's own business (RFC 9110, 7.6.1), the sender's place in a chain of proxies, and
# what the portal signs with.
_FORBIDDEN = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "expect",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "forwarded",
    }
)
_FORBIDDEN_STARTS = ("proxy-", "x-forwarded-", "webhook-", "evox-")


def _schema(kind: str) -> json_schema.Schema:
    value = json_schema.text(json_schema.NO_NUL, most=MAX_VALUE)
    token = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
    return {
        "type": "object",
        "description": f"{kind.capitalize()} name → value. The value is text, Liquid with the "
        'event in it if you like; or {"value": …, "secret": true}, which is masked wherever it '
        "is shown.",
        "maxProperties": MAX_PAIRS,
        "propertyNames": json_schema.text(token if kind == "header" else json_schema.LINE, least=1),
        "additionalProperties": {
            "anyOf": [
                value,
                json_schema.closed({"value": value, "secret": json_schema.FLAG}, "value"),
            ]
        },
    }


SCHEMAS = {field: _schema(kind) for field, kind in KINDS.items()}


class Rows(list[dict[str, Any]]):
    """Pairs as a form sends them: `{"name", "value", "secret"}`; a name may occur twice."""


def refused_header(name: str) -> bool:
    """Whether a header's name is one that only the portal sets."""
    lower = name.lower()
    return lower in _FORBIDDEN or lower.startswith(_FORBIDDEN_STARTS)


def clean_pairs(
    field: str, value: Any, stored: Sequence[Pair], seal: Callable[[str], str]
) -> tuple[list[Pair], list[FieldError]]:
    """The pairs of `query_params` or `headers`, and what is wrong with them.

    `value` is an object as the API takes it, or Rows. New secret values are sealed; a mask keeps
    the value that is `stored` under the same name.
    """
    rows, errors = _rows(field, value)
    kind = KINDS[field]
    if len(rows) > MAX_PAIRS:
        message = f"There are {len(rows):,} {kind}s; at most {MAX_PAIRS} are possible."
        return [], [FieldError(pointer(field), message)]
    pairs: list[Pair] = []
    seen: set[str] = set()
    for name, content, secret in rows:
        problem = _name_problem(field, name) or _value_problem(field, name, content)
        same = _compared(field, name)
        if problem is None and same in seen:
            problem = f"The {kind} {name} stands twice; give it once."
        seen.add(same)
        if problem is None and content == MASK:
            token = _stored_token(field, name, stored)
            if secret and token is not None:
                pairs.append({"name": name, "value": token, "secret": True})
                continue
            problem = (
                f"Give the value of the {kind} {name} anew: dots stand for a secret value that is "
                "stored under the same name and stays secret."
            )
        if problem is not None:
            errors.append(FieldError(pointer(field, name[:MAX_NAME]), problem))
            continue
        kept = seal(content) if secret else content
        pairs.append({"name": name, "value": kept, "secret": secret})
    size = sum(len(f"{name}{content}".encode("utf-8", "replace")) for name, content, _ in rows)
    if size > MAX_TOGETHER[field] and not errors:
        errors.append(
            FieldError(
                pointer(field),
                (
                    f"The {kind}s have {size:,} bytes together; at most "
                    f"{MAX_TOGETHER[field]:,} are "
                    "possible. Shorten them."
                ),
            )
        )
    return pairs, errors


def _rows(field: str, value: Any) -> tuple[list[tuple[str, str, bool]], list[FieldError]]:
    if isinstance(value, Rows):
        return [(row["name"], row["value"], row["secret"]) for row in value], []
    if not isinstance(value, Mapping):
        message = (
            f'{field} is an object such as {{"name": "value"}} or '
            '{"name": {"value": "…", "secret": true}}.'
        )
        return [], [FieldError(pointer(field), message)]
    rows = []
    errors = []
    for name, content in value.items():
        secret: Any = False
        if isinstance(content, Mapping) and set(content) <= {"value", "secret"}:
            secret = content.get("secret", False)
            content = content.get("value")
        if isinstance(content, str) and isinstance(secret, bool):
            rows.append((name, content, secret))
        else:
            message = (
                f'The value of {name[:100]!r} is text, or {{"value": "…", "secret": true}}; '
                "send numbers in quotes."
            )
            errors.append(FieldError(pointer(field, name[:MAX_NAME]), message))
    return rows, errors[:MAX_PAIRS]


def _compared(field: str, name: str) -> str:
    return name.lower() if field == "headers" else name


def _name_problem(field: str, name: str) -> str | None:
    kind = KINDS[field]
    if not name:
        return f"Give the {kind} a name, or remove it."
    if len(name) > MAX_NAME:
        return f"A {kind}'s name has at most {MAX_NAME} characters."
    if field == "query_params":
        if NOT_IN_LINE.search(name):
            return "The query parameter's name holds a control character; leave it out."
        return None
    if not TOKEN.fullmatch(name):
        return (
            f"The header name {name[:80]!r} cannot be sent: use letters, digits and hyphens, "
            "without spaces or colons."
        )
    if refused_header(name):
        return f"The header {name} is set by the portal itself; choose another name."
    return None


def _value_problem(field: str, name: str, value: str) -> str | None:
    what = f"The value of the {KINDS[field]} {name}"
    if len(value.encode("utf-8", "replace")) > MAX_VALUE:
        return f"{what} is longer than {MAX_VALUE // 1024} KiB."
    if "\0" in value:
        return f"{what} holds a NUL character; leave it out."
    if MASK in value and value != MASK:
        return f"{what} holds the dots of a mask; replace it whole."
    if field == "headers":
        if UNSENDABLE.search(value):
            return f"{what} holds a line break or control character; leave it out."
        if value != value.strip():
            return f"{what} starts or ends with a space; remove it."
    return None


def _stored_token(field: str, name: str, stored: Sequence[Pair]) -> str | None:
    for pair in stored:
        if pair["secret"] and _compared(field, pair["name"]) == _compared(field, name):
            return pair["value"]
    return None
