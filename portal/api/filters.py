"""The query parameters of each list: one table that views read by and OpenAPI shows."""

from __future__ import annotations

from dataclasses import dataclass

from portal.api import reading
from portal.models.delivery import STATES
from portal.models.webhook import METHODS

PERIOD = ("since", "until")
PAGING = ("limit", "cursor")
EVENTS = (
    "type", "object_type", "object_id", "source_user_type", "source_user_id", "correlation_id",
    *PERIOD,
)
DELIVERIES = ("event_id", "webhook_id", "state", *PERIOD)
ATTEMPTS = ("event_id", "webhook_id", "status", "method", *PERIOD)

MEANINGS = {
    "type": "Event type, such as order.created.",
    "object_type": "Object type, such as order.",
    "object_id": "ID of the record.",
    "source_user_type": "Application that made the change, such as erp.",
    "source_user_id": "User in that application.",
    "correlation_id": "The action that the event belongs to.",
    "event_id": "Event ID.",
    "webhook_id": "Webhook ID.",
    "state": f"One of {', '.join(STATES)}.",
    "status": "Response status such as 200, a class such as 5xx, or none where no answer came.",
    "method": f"One of {', '.join(METHODS)}.",
    "since": "From this moment on: Unix seconds, or ISO 8601 with a zone.",
    "until": "Up to this moment, the second it names included: as since.",
    "limit": f"Rows on a page, 1 to {reading.MAX_LIMIT}; {reading.DEFAULT_LIMIT} if not given.",
    "cursor": "next_cursor of the page before.",
}


@dataclass(frozen=True)
class Asked:
    """What a list request asks for; `values` by name, moments among them in Unix µs."""

    values: dict[str, str | int]
    cursor: str | None
    limit: int


def asked(names: tuple[str, ...]) -> Asked:
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
    return Asked(values, cursor, limit)
