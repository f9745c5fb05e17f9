"""The event catalogue: each type's description, JSON Schema and a realistic example.

Built-in types are in types/*.json, one file a group; a merchant may add types of its own.
Data that breaks a type's schema is flagged, never refused: a store must not lose an event for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rapidfuzz import fuzz, process

from portal.audit.log import record
from portal.db.session import db, writing
from portal.errors import Conflict, FieldError, Invalid, NotFound, pointer
from portal.events import schemas
from portal.events.matching import pattern_matches
from portal.models import OwnEventType, Webhook
from portal.models.locks import lock_merchant
from portal.strict_json import Record, as_written, dump, loads, parse_record, text_of

MAX_NAME = 255
MAX_DESCRIPTION = 500
MAX_SCHEMA_BYTES = 64 * 1024
MAX_OWN_TYPES = 500
MAX_OWN_BYTES = 4 * 1024 * 1024
"""For the schemas and examples of all of a merchant's own types: one page shows all of them."""
OWN_GROUP = "Your own"
OWN_FIELDS = ("name", "description", "schema", "example")

_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


@dataclass(frozen=True)
class EventType:
    """A kind of event. `example_text` is a whole record, as the JSON text that it was written in;
    `previous` is what an update changed."""

    name: str
    description: str
    schema: dict[str, Any] | None
    example_text: str | None
    group: str
    own: bool = False
    previous: dict[str, Any] | None = None
    object_id: str = "1000"
    source_user_type: str = "storefront"
    fires_with: tuple[str, ...] = ()
    """Types that the same action fires too: a webhook for both hears of it twice."""

    @cached_property
    def example(self) -> Record | None:
        """The whole record, parsed when it is asked for."""
        return None if self.example_text is None else parse_record(self.example_text.encode())

    @property
    def object_type(self) -> str:
        """The record's kind: the part before the dot."""
        return self.name.partition(".")[0]


def valid_name(name: str) -> bool:
    """Whether a text can name a type: two or more parts of a–z, 0–9 and _, with dots between."""
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


@lru_cache(maxsize=1)
def built_in() -> dict[str, EventType]:
    """The portal's own types by name, in the order of the catalogue."""
    types = {}
    together = _together()
    folder = Path(__file__).parent / "types"
    for title in _GROUPS:
        group = loads((folder / f"{title}.json").read_text())
        for name, entry in group["types"].items():
            types[name] = EventType(
                name=name,
                description=entry["description"],
                schema=group["schema"],
                example_text=dump(group["record"] | entry.get("data", {})),
                previous=entry.get("previous"),
                group=group["title"],
                object_id=group["object_id"],
                source_user_type=entry.get("source_user_type", group["source_user_type"]),
                fires_with=tuple(sorted(together.get(name, ()))),
            )
    return types


def _together() -> dict[str, set[str]]:
    """Which types fire together, in both directions; the files name only one of them."""
    together: dict[str, set[str]] = {}
    folder = Path(__file__).parent / "types"
    for title in _GROUPS:
        for name, entry in json.loads((folder / f"{title}.json").read_text())["types"].items():
            for other in entry.get("fires_with", ()):
                together.setdefault(name, set()).add(other)
                together.setdefault(other, set()).add(name)
    return together


def fires_together(patterns: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of built-in types that one action fires together and that these triggers (exact,
    `order.*`, `*`) both cover, so that the webhook hears of the action twice. Each pair once,
    sorted.
    """
    patterns = list(patterns)
    covered = {
        name for name in built_in() if any(pattern_matches(pattern, name) for pattern in patterns)
    }
    return sorted(
        (name, other)
        for name in covered
        for other in built_in()[name].fires_with
        if name < other and other in covered
    )


_GROUPS = (
    "order",
    "customer",
    "user",
    "product",
    "category",
    "inventory",
    "cart",
    "payment",
    "refund",
    "shipment",
    "quote",
    "subscription",
    "marketing",
)


def _own(row: OwnEventType) -> EventType:
    return EventType(row.name, row.description, row.schema, row.example, OWN_GROUP, own=True)


def known_types(merchant_id: int) -> dict[str, EventType]:
    """All types that a merchant can use: built-in ones, then its own."""
    rows = db.session.scalars(
        sa.select(OwnEventType)
        .where(OwnEventType.merchant_id == merchant_id)
        .order_by(OwnEventType.name)
    )
    return built_in() | {row.name: _own(row) for row in rows}


def known_names(merchant_id: int) -> list[str]:
    """The names of all types that a merchant can use, in the order of `known_types`."""
    own = db.session.scalars(
        sa.select(OwnEventType.name)
        .where(OwnEventType.merchant_id == merchant_id)
        .order_by(OwnEventType.name)
    )
    return list(dict.fromkeys([*built_in(), *own]))


def find(merchant_id: int, name: str) -> EventType | None:
    """The type of that name, built-in or the merchant's own."""
    found = built_in().get(name)
    if found is None:
        row = db.session.get(OwnEventType, (merchant_id, name))
        return _own(row) if row is not None else None
    return found


def nearest(merchant_id: int, name: str) -> list[str]:
    """Up to three known names that look like a name."""
    names = known_names(merchant_id)
    found = process.extract(name, names, scorer=fuzz.ratio, limit=3, score_cutoff=60)
    return [match for match, _, _ in found]


def groups(merchant_id: int, search: str = "") -> dict[str, list[EventType]]:
    """A merchant's types by the title of their group; with a search, those whose name or
    description contains it, in any case."""
    grouped: dict[str, list[EventType]] = {}
    for event_type in known_types(merchant_id).values():
        if search.lower() in event_type.name or search.lower() in event_type.description.lower():
            grouped.setdefault(event_type.group, []).append(event_type)
    return grouped


def example_event(event_type: EventType, object_id: str | None = None) -> dict[str, Any]:
    """A whole event of the type, in the shape that a store sends.

    With an `object_id` it is about that object: wherever the record names its own (its `id`, a
    `number` such as SO-1042), it names that one.
    """
    example: dict[str, Any] | None = event_type.example
    if object_id is None:
        object_id = event_type.object_id
    elif example is not None:
        renamed = _renamed(loads(text_of(example)), event_type.object_id, object_id)
        example = parse_record(dump(renamed).encode())
    event: dict[str, Any] = {
        "type": event_type.name,
        "object_type": event_type.object_type,
        "object_id": object_id,
        "source_user_type": event_type.source_user_type,
        "source_user_id": "1000",
        "occurred_at": 1_763_930_000,
        "correlation_id": "checkout-77",
        "data": example if example is not None else {"id": object_id},
    }
    if event_type.previous is not None:
        event["previous"] = event_type.previous
    return event


def example_text(event_type: EventType) -> str:
    """The same as JSON text, with the record as it was written."""
    event = example_event(event_type)
    return dump(event | {"data": as_written(event["data"])})


def _renamed(record: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The record with another object's ID: in `id`, and in texts that are the old ID or end with it
    after `-` or `/`."""
    named = re.compile(rf"(^|[-/]){re.escape(old)}$")
    renamed = {
        name: named.sub(lambda found: found[1] + new, value) if isinstance(value, str) else value
        for name, value in record.items()
    }
    if isinstance(record.get("id"), str):
        renamed["id"] = new
    return renamed


@lru_cache(maxsize=512)
def _built_in_checker(name: str) -> schemas.Checker:
    return schemas.Checker.of(built_in()[name].schema or {})


def schema_error(
    event_type: EventType, data: dict[str, Any] | None, work: schemas.Work | None = None
) -> str | None:
    """Where `data` breaks the type's schema, as a JSON Pointer and a sentence; None when it fits,
    or when there is no data or no schema. `work` is what the request may still spend on checks."""
    if data is None or event_type.schema is None:
        return None
    work = work or schemas.Work()
    if event_type.own:
        return schemas.error_by_own(event_type.schema, data, work)
    return _built_in_checker(event_type.name).first_error(data, work)


def add_type(merchant_id: int, fields: dict[str, Any], actor: str) -> EventType:
    """Add a type of the merchant's own: `name`, and optionally `description`, `schema` (JSON Schema
    2020-12) and `example`, which keeps its text if it is a Record.

    Raises Invalid naming each wrong field, Conflict when the name is taken.
    """
    clean = _clean(fields)
    with writing() as session:
        lock_merchant(session, merchant_id)
        name = clean["name"]
        if find(merchant_id, name) is not None:
            message = f"The event type {name} exists already; choose another name."
            raise Conflict(message, [FieldError("/name", message)])
        count, size = session.execute(
            sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_size_of_own()), 0))
            .select_from(OwnEventType)
            .where(OwnEventType.merchant_id == merchant_id)
        ).one()
        if count >= MAX_OWN_TYPES:
            raise Conflict(f"A merchant has at most {MAX_OWN_TYPES} types of its own; delete one.")
        if size + len(json.dumps(clean["schema"])) + len(clean["example"] or "") > MAX_OWN_BYTES:
            raise Conflict(
                "The schemas and examples of a merchant's own types have at most "
                f"{MAX_OWN_BYTES // 1024**2} MiB together; shorten this one, or delete another."
            )
        row = OwnEventType(merchant_id=merchant_id, **clean)
        session.add(row)
        record(session, actor, "event_type.added", name, merchant_id)
        return _own(row)


def _size_of_own() -> sa.ColumnElement[int]:
    """Characters of a type's schema and example."""
    return sum(
        (
            sa.func.coalesce(sa.func.length(sa.cast(column, sa.Text)), 0)
            for column in (OwnEventType.schema, OwnEventType.example)
        ),
        sa.literal(0),
    )


def delete_type(merchant_id: int, name: str, actor: str) -> None:
    """Delete a type of the merchant's own; its logged events stay.

    Raises NotFound, or Conflict while a webhook is triggered by it.
    """
    with writing() as session:
        row = session.get(OwnEventType, (merchant_id, name))
        if row is None:
            raise NotFound("There is no such event type of your own.")
        for webhook in session.scalars(
            sa.select(Webhook).where(
                Webhook.merchant_id == merchant_id, Webhook.deleted_at.is_(None)
            )
        ):
            if name in webhook.events:
                raise Conflict(
                    f"The webhook {webhook.description or webhook.url} is triggered by {name}; "
                    "take it out there first."
                )
        session.delete(row)
        record(session, actor, "event_type.deleted", name, merchant_id)


def _clean(fields: dict[str, Any]) -> dict[str, Any]:
    errors = [
        FieldError(pointer(field[:100]), f"An event type has no field {field[:100]!r}.")
        for field in fields
        if field not in OWN_FIELDS
    ]

    def wrong(field: str, message: str) -> None:
        errors.append(FieldError(f"/{field}", message))

    name = fields.get("name")
    if not isinstance(name, str) or not valid_name(name):
        wrong(
            "name",
            "name is text such as loyalty.points_earned: two or more parts of a–z, 0–9 and _, "
            f"separated by dots, at most {MAX_NAME} characters.",
        )
    description = fields.get("description")
    if description is None:
        description = ""
    if not isinstance(description, str) or len(description) > MAX_DESCRIPTION:
        wrong("description", f"description is text of at most {MAX_DESCRIPTION} characters.")
    elif "\0" in description:
        wrong("description", "description holds a NUL character; leave it out.")
    schema, example = fields.get("schema"), fields.get("example")
    for field, value in (("schema", schema), ("example", example)):
        if value is not None and not isinstance(value, dict):
            wrong(field, f"{field} is a JSON object, or left out.")
        elif value is not None and len(text_of(value).encode()) > MAX_SCHEMA_BYTES:
            wrong(field, f"{field} is at most {MAX_SCHEMA_BYTES // 1024} KiB of JSON.")
    if isinstance(schema, dict) and not errors:
        message = schemas.problem(schema)
        if message:
            wrong("schema", message)
    if errors:
        raise Invalid(errors)
    text = None if example is None else text_of(example)
    return {"name": name, "description": description, "schema": schema, "example": text}
