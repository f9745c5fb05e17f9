"""The rows of an event, and of what it owes, for portal.db.bulk: a value for each column."""

from __future__ import annotations

from typing import Any

from portal.events.rules import NewEvent
from portal.ids import new_id

EVENT = (
    "merchant_id",
    "id",
    "type",
    "object_type",
    "object_id",
    "source_user_type",
    "source_user_id",
    "correlation_id",
    "occurred_at",
    "received_at",
    "fingerprint",
    "deliveries",
    "schema_error",
    "is_test",
)
EVENT_PAYLOAD = ("merchant_id", "event_id", "head", "data", "previous", "received_at")
DELIVERY = (
    "id",
    "merchant_id",
    "event_id",
    "webhook_id",
    "state",
    "attempts",
    "step",
    "is_retry",
    "trigger",
    "next_attempt_at",
    "created_at",
    "object_key",
)


def event_row(
    merchant_id: int,
    event_id: str,
    event: NewEvent,
    received_at: int,
    deliveries: int,
    *,
    fingerprint: str | None = None,
    is_test: bool = False,
) -> tuple[Any, ...]:
    """The EVENT of a checked event; `received_at` is in Unix µs, and the fingerprint is made unless
    it is given."""
    return (
        merchant_id,
        event_id,
        event.type,
        event.object_type,
        event.object_id,
        event.source_user_type,
        event.source_user_id,
        event.correlation_id,
        received_at if event.occurred_at is None else event.occurred_at,
        received_at,
        fingerprint or event.fingerprint(event_id),
        deliveries,
        event.schema_error,
        is_test,
    )


def payload_row(
    merchant_id: int, event_id: str, event: NewEvent, received_at: int
) -> tuple[Any, ...]:
    """The EVENT_PAYLOAD of a checked event: the bytes that targets receive."""
    head = event.head(event_id, received_at)
    return (merchant_id, event_id, head, event.data, event.previous, received_at)


def delivery_row(
    merchant_id: int,
    event_id: str,
    webhook_id: str,
    moment: int,
    due_at: int,
    *,
    object_key: str | None = None,
) -> tuple[Any, ...]:
    """The DELIVERY of an event that is owed to a webhook. It is first due at `due_at`; with an
    `object_key` it waits for earlier ones of the same record. `moment` is when the event came in.
    Both are in Unix µs."""
    return (
        new_id("dlv"),
        merchant_id,
        event_id,
        webhook_id,
        "pending",
        0,
        0,
        False,
        "scheduled",
        due_at,
        moment,
        object_key,
    )
