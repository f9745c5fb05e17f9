"""The rows of an event, and of what it owes."""

from __future__ import annotations

from typing import Any

from portal.events.rules import NewEvent
from portal.ids import new_id


def event_row(
    merchant_id: int,
    event_id: str,
    event: NewEvent,
    received_at: int,
    deliveries: int,
    *,
    fingerprint: str | None = None,
    is_test: bool = False,
) -> dict[str, Any]:
    """The `event` row of a checked event; `received_at` is in Unix µs, and the fingerprint is made
    unless it is given."""
    return {
        "merchant_id": merchant_id,
        "id": event_id,
        "type": event.type,
        "object_type": event.object_type,
        "object_id": event.object_id,
        "source_user_type": event.source_user_type,
        "source_user_id": event.source_user_id,
        "correlation_id": event.correlation_id,
        "occurred_at": received_at if event.occurred_at is None else event.occurred_at,
        "received_at": received_at,
        "fingerprint": fingerprint or event.fingerprint(event_id),
        "deliveries": deliveries,
        "schema_error": event.schema_error,
        "is_test": is_test,
    }


def payload_row(
    merchant_id: int, event_id: str, event: NewEvent, received_at: int
) -> dict[str, Any]:
    """The `event_payload` row of a checked event: the bytes that targets receive."""
    return {
        "merchant_id": merchant_id,
        "event_id": event_id,
        "head": event.head(event_id, received_at),
        "data": event.data,
        "previous": event.previous,
        "received_at": received_at,
    }


def delivery_row(
    merchant_id: int,
    event_id: str,
    webhook_id: str,
    moment: int,
    due_at: int,
    *,
    object_key: str | None = None,
) -> dict[str, Any]:
    """The `delivery` row of an event that is owed to a webhook. It is first due at `due_at`; with
    an `object_key` it waits for earlier ones of the same record. `moment` is when the event came
    in. Both are in Unix µs."""
    return {
        "id": new_id("dlv"),
        "merchant_id": merchant_id,
        "event_id": event_id,
        "webhook_id": webhook_id,
        "state": "pending",
        "attempts": 0,
        "step": 0,
        "is_retry": False,
        "trigger": "scheduled",
        "next_attempt_at": due_at,
        "created_at": moment,
        "object_key": object_key,
    }
