"""The query parameters of lists: the filters of portal.logs.filters, and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portal.api import reading
from portal.json_schema import NO_CONTROLS, text
from portal.logs import filters
from portal.models.delivery import STATES, TRIGGERS
from portal.models.webhook import METHODS

PAGING = ("limit", "cursor")

MEANINGS = {
    "type": "Event type such as order.created, or a group such as order.*.",
    "object_type": "Object type, such as order.",
    "object_id": "ID of the record.",
    "source_user_type": "Application that made the change, such as erp.",
    "source_user_id": "User in that application.",
    "correlation_id": "The action that the event belongs to.",
    "event_id": "Event ID.",
    "schema": "ok or flagged: whether data breaks its type's schema.",
    "test": "yes or no: whether it is a test event.",
    "text": "What the record data holds, in whatever case; looked for while that is kept.",
    "webhook_id": "Webhook ID.",
    "state": f"One of {', '.join(STATES)}.",
    "status": "Response status such as 200, a class such as 5xx, or none where no answer came.",
    "outcome": "ok or failed.",
    "error": "Error code, such as connect_timeout.",
    "request_id": "Request ID.",
    "trigger": f"One of {', '.join(TRIGGERS)}.",
    "method": f"One of {', '.join(METHODS)}.",
    "since": "From this moment on: Unix seconds, or ISO 8601 with a zone.",
    "until": "Up to this moment, the second it names included: as since.",
    "limit": f"Rows on a page, 1 to {reading.MAX_LIMIT}; {reading.DEFAULT_LIMIT} if not given.",
    "cursor": "next_cursor of the page before.",
}


def schema(name: str) -> dict[str, Any]:
    """A parameter as JSON Schema. What is empty counts as not given."""
    if name == "limit":
        return {
            "type": "integer",
            "minimum": 1,
            "maximum": reading.MAX_LIMIT,
            "default": reading.DEFAULT_LIMIT,
        }
    if name in filters.CHOICES:
        return {"type": "string", "enum": ["", *filters.CHOICES[name]]}
    if name in filters.PATTERNS:
        return {"type": "string", "pattern": f"^({filters.PATTERNS[name][0].pattern})?$"}
    if name in ("since", "until"):
        return {
            "anyOf": [
                {"type": "string", "pattern": "^([0-9]{1,11}(\\.[0-9]{1,9})?)?$"},
                {"type": "string", "format": "date-time"},
            ]
        }
    most = reading.MAX_PARAMETER if name == "cursor" else filters.MAX_TEXT
    return text(NO_CONTROLS, most=most)


@dataclass(frozen=True)
class ListQuery:
    """What a list request asks for; `values` by name, moments among them in Unix µs."""

    values: dict[str, str | int]
    cursor: str | None
    limit: int


def asked(names: tuple[str, ...]) -> ListQuery:
    """Read the filters `names`, `cursor` and `limit`. Raises Invalid naming the parameter."""
    given = reading.parameters(*names, *PAGING)
    limit = reading.take_limit(given)
    cursor = given.pop("cursor", None)
    since, until = reading.take_period(given)
    values: dict[str, str | int] = dict(given)
    if since is not None:
        values["since"] = since
    if until is not None:
        values["until"] = until
    return ListQuery(values, cursor, limit)
