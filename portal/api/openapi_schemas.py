"""The API's objects as JSON Schema 2020-12, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from portal.models.delivery import STATES, TRIGGERS
from portal.models.recovery import ACTIONS, RECOVERY_STATES
from portal.models.webhook import METHODS
from portal.webhooks.setup import MAX_OVERLAP_HOURS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "integer"}
NUMBER_OR_NULL: Schema = {"type": ["integer", "null"]}
FLAG: Schema = {"type": "boolean"}
OBJECT_OR_NULL: Schema = {"type": ["object", "null"]}
SECONDS: Schema = {"type": "integer", "description": "Unix seconds, UTC."}
SECONDS_OR_NULL: Schema = {"type": ["integer", "null"], "description": "Unix seconds, UTC."}
MOMENT_GIVEN: Schema = {
    "type": ["number", "string"],
    "description": "Unix seconds, or ISO 8601 with a zone.",
}


def ref(name: str) -> Schema:
    """A reference to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def described(schema: Schema, text: str) -> Schema:
    """A schema with a description."""
    return schema | {"description": text}


def _object(properties: Schema, required: tuple[str, ...] | None = None) -> Schema:
    names = tuple(properties) if required is None else required
    return {"type": "object", "properties": properties} | (
        {"required": list(names)} if names else {}
    )


def _list_of(name: str) -> Schema:
    return _object({
        "data": {"type": "array", "items": ref(name)},
        "next_cursor": described(TEXT_OR_NULL, "null on the last page."),
    })


_TEXTS: Schema = {"type": "array", "items": TEXT}
_PAIRS: Schema = {
    "type": "object",
    "description": "Name → value. The value is text, Liquid with the event in it if you like; "
    'or {"value": …, "secret": true}, which is masked wherever it is shown.',
    "additionalProperties": {"anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"value": TEXT, "secret": FLAG},
            "required": ["value"],
        },
    ]},
}
_EVENT_FIELDS: Schema = {
    "type": described(TEXT, "Event type of the catalogue, such as order.created."),
    "object_type": described(TEXT_OR_NULL, "Default: the part of type before the dot."),
    "object_id": {"type": ["string", "integer", "null"]},
    "source_user_type": described(TEXT_OR_NULL, "Application that made the change."),
    "source_user_id": {"type": ["string", "integer", "null"]},
    "occurred_at": {"type": ["number", "string", "null"], "description": "Default: now."},
    "correlation_id": described(TEXT_OR_NULL, "What events of one action share."),
    "id": described(TEXT_OR_NULL, "Yours, to make sending again harmless."),
    "data": described(OBJECT_OR_NULL, "The object record after the change."),
    "previous": described(OBJECT_OR_NULL, "What changed, as it was."),
}
_WEBHOOK_FIELDS: Schema = {
    "description": TEXT,
    "url": described(TEXT, "http:// or https://, at most 2,048 characters."),
    "method": {"type": "string", "enum": list(METHODS), "default": "POST"},
    "query_params": _PAIRS,
    "headers": _PAIRS,
    "events": described(_TEXTS, "Exact types, order.*, or *."),
    "include_object_record": FLAG,
    "only_sources": described(_TEXTS, "source_user_type, or type:user_id; only these are sent."),
    "except_sources": described(_TEXTS, "source_user_type, or type:user_id; these are not sent."),
    "body_template": described(TEXT_OR_NULL, "Liquid that makes the body; null for the event."),
    "retry_schedule": {
        "type": ["array", "null"], "items": NUMBER,
        "description": "Delay before each attempt in seconds; null for the portal's.",
    },
    "timeout_seconds": described(NUMBER_OR_NULL, "Deadline of an attempt; null: the portal's."),
    "max_in_flight": described(NUMBER_OR_NULL, "Requests at once; null: the portal's."),
    "rate_per_second": described(NUMBER_OR_NULL, "Requests started in a second; null: no limit."),
    "ordered": described(FLAG, "Whether the events of one record are sent one after another."),
    "enabled": FLAG,
}
_EVENT: Schema = {
    "id": TEXT, "type": TEXT, "object_type": TEXT, "object_id": TEXT_OR_NULL,
    "source_user_type": TEXT_OR_NULL, "source_user_id": TEXT_OR_NULL,
    "correlation_id": TEXT_OR_NULL, "occurred_at": SECONDS, "received_at": SECONDS,
    "deliveries": described(NUMBER, "How many it owed when it came in."),
    "schema_error": described(TEXT_OR_NULL, "Where data breaks its type's schema."),
    "is_test": FLAG,
}
_WEBHOOK: Schema = {
    "id": TEXT, **_WEBHOOK_FIELDS,
    "state": {"type": "string", "enum": ["enabled", "failing", "held", "disabled", "deleted"]},
    "disabled_at": SECONDS_OR_NULL, "disabled_reason": TEXT_OR_NULL,
    "failing_since": SECONDS_OR_NULL,
    "version": described(NUMBER, "Rises with each edit."),
    "created_at": SECONDS, "updated_at": SECONDS,
}
_SECRET = described(TEXT, "Signing secret: whsec_ and base64 of 32 bytes. Not shown again.")
_ATTEMPT: Schema = {
    "request_id": TEXT, "attempted_at": SECONDS, "event_id": TEXT, "webhook_id": TEXT,
    "delivery_id": TEXT, "number": described(NUMBER, "1 for the first of its delivery."),
    "trigger": {"type": "string", "enum": list(TRIGGERS)},
    "status": described(NUMBER_OR_NULL, "Of the response; null where no answer came."),
    "error": described(TEXT_OR_NULL, "A code such as connect_timeout; null where an answer came."),
    "error_detail": TEXT_OR_NULL,
    "duration_ms": NUMBER,
    "timing": _object({
        "dns_ms": NUMBER_OR_NULL, "connect_ms": NUMBER_OR_NULL, "tls_ms": NUMBER_OR_NULL,
        "wait_ms": NUMBER_OR_NULL, "download_ms": NUMBER_OR_NULL,
    }),
    "uri": described(TEXT, "As requested; secret parameters are masked."),
    "method": {"type": "string", "enum": list(METHODS)},
}
_MESSAGE: Schema = {
    "type": ["object", "null"],
    "description": "null once the payload log has expired.",
    "properties": {
        "headers": {
            "type": ["object", "null"], "additionalProperties": TEXT,
            "description": "A name that came several times has its values joined by commas.",
        },
        "body": described(TEXT_OR_NULL, "The very bytes; base64 where they are not UTF-8."),
        "body_encoding": {"const": "base64"},
    },
    "required": ["headers", "body"],
}
_RESPONSE: Schema = _MESSAGE | {
    "properties": _MESSAGE["properties"] | {
        "truncated": described(FLAG, "Whether more came than is kept (64 KiB)."),
    },
    "required": ["headers", "body", "truncated"],
}

SCHEMAS: dict[str, Schema] = {
    "NewEvent": _object(_EVENT_FIELDS, ("type",)) | {"additionalProperties": False},
    "NewEvents": _object({
        "events": {"type": "array", "items": ref("NewEvent"), "minItems": 1, "maxItems": 1_000},
    }) | {"additionalProperties": False},
    "Accepted": _object({"id": TEXT, "deliveries": NUMBER}),
    "AcceptedEvents": _object({"data": {"type": "array", "items": ref("Accepted")}}),
    "Event": _object(_EVENT),
    "EventWithRecord": _object(_EVENT | {
        "data": OBJECT_OR_NULL, "previous": OBJECT_OR_NULL,
        "payload_expires_at": described(SECONDS, "From then on data and previous are null."),
    }),
    "Events": _list_of("Event"),
    "RelatedEvent": _object(_EVENT | {
        "relation": {
            "type": "array", "items": {"enum": ["same_object", "same_action"]},
            "description": "What it shares: the record, the correlation_id, or both.",
        },
    }),
    "RelatedEvents": _list_of("RelatedEvent"),
    "NewEventType": _object({
        "name": described(TEXT, "Dotted, lower-case, two or more parts: loyalty.points_added."),
        "description": TEXT,
        "schema": described(OBJECT_OR_NULL, "JSON Schema 2020-12 of data."),
        "example": described(OBJECT_OR_NULL, "A realistic record: what data holds."),
    }, ("name",)),
    "EventType": _object({
        "name": TEXT, "description": TEXT, "group": TEXT,
        "own": described(FLAG, "Whether the merchant added it."),
        "schema": OBJECT_OR_NULL, "example": OBJECT_OR_NULL,
    }),
    "EventTypes": _list_of("EventType"),
    "NewWebhook": _object(_WEBHOOK_FIELDS | {
        "secret": described(TEXT, "Signing secret of your own: whsec_ and base64 of 24–64 bytes."),
    }, ("url", "events")),
    "WebhookChange": _object(_WEBHOOK_FIELDS | {
        "version": described(NUMBER, "If given and no longer current: 409."),
    }, ()),
    "Webhook": _object(_WEBHOOK),
    "WebhookWithSecret": _object(_WEBHOOK | {"secret": _SECRET}),
    "Webhooks": _list_of("Webhook"),
    "Rotation": _object({
        "overlap_hours": {
            "type": "integer", "minimum": 0, "maximum": MAX_OVERLAP_HOURS, "default": 24,
        },
    }, ()),
    "Test": _object({"type": TEXT}),
    "Disabling": _object({"reason": TEXT}, ()),
    "Recovering": _object({"since": MOMENT_GIVEN}),
    "Discarding": _object({"since": MOMENT_GIVEN}, ()),
    "Recovered": _object({
        "deliveries": described(NUMBER, "How many it takes, counted up to 1,000."),
        "exact": described(FLAG, "Whether that is all; if not, the recovery's total will say."),
        "recovery_id": TEXT,
    }),
    "Recovery": _object({
        "id": TEXT,
        "action": {"type": "string", "enum": list(ACTIONS)},
        "webhook_id": described(TEXT_OR_NULL, "null: every webhook."),
        "states": {"type": "array", "items": {"enum": ["failed", "held"]}},
        "type": TEXT_OR_NULL, "error": TEXT_OR_NULL, "status": TEXT_OR_NULL,
        "since": SECONDS_OR_NULL,
        "state": {"type": "string", "enum": list(RECOVERY_STATES)},
        "total": described(NUMBER_OR_NULL, "null while it is being counted."),
        "done": described(NUMBER, "How many were taken so far."),
        "created_at": SECONDS, "finished_at": SECONDS_OR_NULL,
    }),
    "Delivery": _object({
        "id": TEXT, "event_id": TEXT, "webhook_id": TEXT,
        "state": {"type": "string", "enum": list(STATES)},
        "reason": described(TEXT_OR_NULL, "Why it ended or waits."),
        "attempts": NUMBER, "next_attempt_at": SECONDS_OR_NULL, "created_at": SECONDS,
        "finished_at": SECONDS_OR_NULL,
    }),
    "Deliveries": _list_of("Delivery"),
    "Attempt": _object(_ATTEMPT),
    "AttemptWithPayload": _object(_ATTEMPT | {
        "request": _MESSAGE, "response": _RESPONSE, "payload_expires_at": SECONDS,
    }),
    "Attempts": _list_of("Attempt"),
    "Problem": _object({
        "type": TEXT, "title": TEXT, "status": NUMBER, "detail": TEXT,
        "errors": {
            "type": "array",
            "items": _object({
                "pointer": described(TEXT, "JSON Pointer to the field, such as /events/3/type."),
                "detail": TEXT,
            }),
        },
    }, ("type", "title", "status", "detail")),
}
