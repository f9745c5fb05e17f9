"""How the API shows things: plain dicts, moments in whole Unix seconds, secrets masked."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from portal.clock import now, unix
from portal.diagnosis import bodies
from portal.events.catalogue import EventType
from portal.logs.stories import AttemptDetail
from portal.models import Attempt, Delivery, Event, EventPayload, Recovery, Webhook
from portal.webhooks import fields


def event(row: Event) -> dict[str, Any]:
    """An event's log entry, without its record data."""
    return {
        "id": row.id,
        "type": row.type,
        "sequence": row.received_at,
        "object_type": row.object_type,
        "object_id": row.object_id,
        "source_user_type": row.source_user_type,
        "source_user_id": row.source_user_id,
        "correlation_id": row.correlation_id,
        "occurred_at": unix(row.occurred_at),
        "received_at": unix(row.received_at),
        "deliveries": row.deliveries,
        "schema_error": row.schema_error,
        "is_test": row.is_test,
    }


def event_with_record(
    row: Event, payload: EventPayload | None, payload_expires_at: int
) -> dict[str, Any]:
    """An event with its record data; None once that has expired (`payload_expires_at`, Unix µs)."""
    return event(row) | {
        "data": _record(payload.data if payload else None),
        "previous": _record(payload.previous if payload else None),
        "payload_expires_at": unix(payload_expires_at),
    }


def _record(text: str | None) -> Any:
    return None if text is None else orjson.Fragment(text)


def event_type(found: EventType) -> dict[str, Any]:
    """An event type of the catalogue."""
    return {
        "name": found.name,
        "description": found.description,
        "group": found.group,
        "own": found.own,
        "schema": found.schema,
        "example": _record(found.example_text),
    }


def webhook(row: Webhook) -> dict[str, Any]:
    """A webhook; its signing secret is not among it."""
    return {
        "id": row.id,
        **fields.shown(fields.columns(row)),
        "public_key": row.public_key,
        "old_secrets_until": [unix(old["until"]) for old in row.old_secrets_at(now())],
        "state": row.state,
        "disabled_at": unix(row.disabled_at),
        "disabled_reason": row.disabled_reason,
        "failing_since": unix(row.failing_since),
        "unreadable": row.unreadable(now()),
        "version": row.version,
        "created_at": unix(row.created_at),
        "updated_at": unix(row.updated_at),
    }


def delivery(row: Delivery, target: Webhook | None) -> dict[str, Any]:
    """One event owed to one webhook, in the state that people see."""
    return {
        "id": row.id,
        "event_id": row.event_id,
        "webhook_id": row.webhook_id,
        "state": row.shown_state(target),
        "reason": row.reason,
        "attempts": row.attempts,
        "next_attempt_at": unix(row.next_attempt_at),
        "created_at": unix(row.created_at),
        "finished_at": unix(row.finished_at),
    }


def attempt(row: Attempt) -> dict[str, Any]:
    """An attempt's header log."""
    return {
        "request_id": row.id,
        "attempted_at": unix(row.attempted_at),
        "event_id": row.event_id,
        "webhook_id": row.webhook_id,
        "delivery_id": row.delivery_id,
        "number": row.number,
        "trigger": row.trigger,
        "status": row.status,
        "error": row.error,
        "error_detail": row.error_detail,
        "duration_ms": milliseconds(row.duration_us),
        "timing": {
            "dns_ms": milliseconds(row.dns_us),
            "connect_ms": milliseconds(row.connect_us),
            "tls_ms": milliseconds(row.tls_us),
            "send_ms": milliseconds(row.send_us),
            "wait_ms": milliseconds(row.wait_us),
            "download_ms": milliseconds(row.download_us),
        },
        "uri": row.uri,
        "method": row.method,
        "sends": row.sends,
    }


def milliseconds(microseconds: int | None) -> int | None:
    """µs as whole ms, rounded; None stays None."""
    return None if microseconds is None else (microseconds + 500) // 1_000


def attempt_detail(detail: AttemptDetail) -> dict[str, Any]:
    """An attempt with its payload log; request and response are None once it has expired."""
    request = response = None
    if not detail.is_expired:
        request = {"headers": headers(detail.request_headers)} | body(detail.request_body)
        response = {"headers": headers(detail.response_headers)} | body(detail.response_body)
        response["truncated"] = detail.is_truncated
        if "body_encoding" in response and detail.response_body:
            shown = bodies.readable(detail.response_body, detail.response_headers)
            response["body_text"] = None if shown.is_binary else shown.text
    return attempt(detail.attempt) | {
        "request": request,
        "response": response,
        "payload_expires_at": unix(detail.payload_expires_at),
    }


def headers(pairs: list[tuple[str, str]] | None) -> dict[str, str] | None:
    """Logged headers as an object; a name that came several times has its values joined by
    commas (RFC 9110, 5.3)."""
    shown: dict[str, str] = {}
    names: dict[str, str] = {}
    if pairs is None:
        return None
    for name, value in pairs:
        known = names.setdefault(name.lower(), name)
        shown[known] = f"{shown[known]}, {value}" if known in shown else value
    return shown


def body(raw: bytes | None) -> dict[str, Any]:
    """A logged body: text where it is UTF-8, otherwise base64, and which of the two."""
    if raw is None:
        return {"body": None}
    try:
        return {"body": raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(raw).decode("ascii"), "body_encoding": "base64"}


def recovery(row: Recovery) -> dict[str, Any]:
    """A recovery and how far it is."""
    return {
        "id": row.id,
        "action": row.action,
        "webhook_id": row.webhook_id,
        "states": row.states,
        **{name: row.filters.get(name) for name in ("type", "error", "status")},
        "since": unix(row.since),
        "state": row.state,
        "total": row.total,
        "done": row.done,
        "created_at": unix(row.created_at),
        "finished_at": unix(row.finished_at),
    }
