"""What the API answers, as JSON Schema 2020-12, and all schemas of the OpenAPI document."""

from __future__ import annotations

from portal.api.openapi_requests import REQUESTS, WEBHOOK_FIELDS
from portal.json_schema import FLAG, Schema, described, ref
from portal.models.delivery import STATES, TRIGGERS
from portal.models.recovery import ACTIONS, RECOVERY_STATES
from portal.models.webhook import METHODS

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "integer"}
NUMBER_OR_NULL: Schema = {"type": ["integer", "null"]}
OBJECT_OR_NULL: Schema = {"type": ["object", "null"]}
SECONDS: Schema = {"type": "integer", "description": "Unix seconds, UTC."}
SECONDS_OR_NULL: Schema = {"type": ["integer", "null"], "description": "Unix seconds, UTC."}


def _object(properties: Schema, required: tuple[str, ...] | None = None) -> Schema:
    names = tuple(properties) if required is None else required
    return {"type": "object", "properties": properties} | (
        {"required": list(names)} if names else {}
    )


def _list_of(name: str) -> Schema:
    return _object(
        {
            "data": {"type": "array", "items": ref(name)},
            "next_cursor": described(TEXT_OR_NULL, "null on the last page."),
        }
    )


_EVENT: Schema = {
    "id": TEXT,
    "type": TEXT,
    "sequence": described(
        {"type": "integer"},
        "The order in which the portal took the merchant's events, not that in which things "
        "happened: one that was sent after another was answered has the greater number.",
    ),
    "object_type": TEXT,
    "object_id": TEXT_OR_NULL,
    "source_user_type": TEXT_OR_NULL,
    "source_user_id": TEXT_OR_NULL,
    "correlation_id": TEXT_OR_NULL,
    "occurred_at": SECONDS,
    "received_at": SECONDS,
    "deliveries": described(NUMBER, "How many it owed when it came in."),
    "schema_error": described(TEXT_OR_NULL, "Where data breaks its type's schema."),
    "is_test": FLAG,
}
_WEBHOOK: Schema = {
    "id": TEXT,
    **WEBHOOK_FIELDS,
    "public_key": described(TEXT_OR_NULL, "whpk_…, which verifies v1a; null where there is none."),
    "old_secrets_until": described(
        {"type": "array", "items": {"type": "integer"}},
        "When each replaced secret that still signs ends, the last one first; Unix seconds.",
    ),
    "state": {"type": "string", "enum": ["enabled", "failing", "held", "disabled", "deleted"]},
    "disabled_at": SECONDS_OR_NULL,
    "disabled_reason": TEXT_OR_NULL,
    "failing_since": SECONDS_OR_NULL,
    "unreadable": described(
        {"type": "array", "items": TEXT},
        "Which of its secrets none of the portal's secret keys opens; it is held until each is "
        "given anew. Empty as a rule.",
    ),
    "version": described(NUMBER, "Rises with each edit."),
    "created_at": SECONDS,
    "updated_at": SECONDS,
}
_SECRET = described(TEXT, "Signing secret: whsec_ and base64 of 32 bytes. Not shown again.")
_ATTEMPT: Schema = {
    "request_id": TEXT,
    "attempted_at": SECONDS,
    "event_id": TEXT,
    "webhook_id": TEXT,
    "delivery_id": TEXT,
    "number": described(NUMBER, "1 for the first of its delivery."),
    "trigger": {"type": "string", "enum": list(TRIGGERS)},
    "status": described(NUMBER_OR_NULL, "Of the response; null where no answer came."),
    "error": described(TEXT_OR_NULL, "A code such as connect_timeout; null where an answer came."),
    "error_detail": TEXT_OR_NULL,
    "duration_ms": NUMBER,
    "timing": _object(
        {
            "dns_ms": NUMBER_OR_NULL,
            "connect_ms": NUMBER_OR_NULL,
            "tls_ms": NUMBER_OR_NULL,
            "send_ms": NUMBER_OR_NULL,
            "wait_ms": NUMBER_OR_NULL,
            "download_ms": NUMBER_OR_NULL,
        }
    ),
    "uri": described(TEXT, "As requested; secret parameters are masked."),
    "method": {"type": "string", "enum": list(METHODS)},
    "sends": described(
        NUMBER_OR_NULL,
        "How often the request was sent: 2 where the connection died without an answer, and a new "
        "one was tried at once; null where it was not counted yet.",
    ),
}
_MESSAGE: Schema = {
    "type": ["object", "null"],
    "description": "null once the payload log has expired, and where the storage of the store "
    "was full at the time.",
    "properties": {
        "headers": {
            "type": ["object", "null"],
            "additionalProperties": TEXT,
            "description": "A name that came several times has its values joined by commas.",
        },
        "body": described(TEXT_OR_NULL, "The very bytes; base64 where they are not UTF-8."),
        "body_encoding": {"const": "base64"},
    },
    "required": ["headers", "body"],
}
_RESPONSE: Schema = _MESSAGE | {
    "properties": _MESSAGE["properties"]
    | {
        "truncated": described(FLAG, "Whether more came than is kept (64 KiB)."),
        "body_text": described(
            TEXT_OR_NULL,
            "Beside base64: the body unpacked (gzip, deflate; at most 64 KiB of it) and decoded as "
            "its headers say, with a mark for each broken byte; null where it is no text.",
        ),
    },
    "required": ["headers", "body", "truncated"],
}

SCHEMAS: dict[str, Schema] = REQUESTS | {
    "Accepted": _object({"id": TEXT, "deliveries": NUMBER}),
    "AcceptedEvents": _object({"data": {"type": "array", "items": ref("Accepted")}}),
    "Event": _object(_EVENT),
    "EventWithRecord": _object(
        _EVENT
        | {
            "data": OBJECT_OR_NULL,
            "previous": OBJECT_OR_NULL,
            "payload_expires_at": described(SECONDS, "From then on data and previous are null."),
        }
    ),
    "Events": _list_of("Event"),
    "RelatedEvent": _object(
        _EVENT
        | {
            "relation": {
                "type": "array",
                "items": {"enum": ["same_object", "same_action"]},
                "description": "What it shares: the record, the correlation_id, or both.",
            }
        }
    ),
    "RelatedEvents": _list_of("RelatedEvent"),
    "EventType": _object(
        {
            "name": TEXT,
            "description": TEXT,
            "group": TEXT,
            "own": described(FLAG, "Whether the merchant added it."),
            "schema": OBJECT_OR_NULL,
            "example": OBJECT_OR_NULL,
        }
    ),
    "EventTypes": _list_of("EventType"),
    "Webhook": _object(_WEBHOOK),
    "WebhookWithSecret": _object(_WEBHOOK | {"secret": _SECRET}),
    "Webhooks": _list_of("Webhook"),
    "Recovered": _object(
        {
            "deliveries": described(NUMBER, "How many it takes, counted up to 1,000."),
            "exact": described(FLAG, "Whether that is all; if not, the recovery's total will say."),
            "recovery_id": TEXT,
        }
    ),
    "Recovery": _object(
        {
            "id": TEXT,
            "action": {"type": "string", "enum": list(ACTIONS)},
            "webhook_id": described(TEXT_OR_NULL, "null: every webhook."),
            "states": {"type": "array", "items": {"enum": ["failed", "held"]}},
            "type": TEXT_OR_NULL,
            "error": TEXT_OR_NULL,
            "status": TEXT_OR_NULL,
            "since": SECONDS_OR_NULL,
            "state": {"type": "string", "enum": list(RECOVERY_STATES)},
            "total": described(NUMBER_OR_NULL, "null while it is being counted."),
            "done": described(NUMBER, "How many were taken so far."),
            "created_at": SECONDS,
            "finished_at": SECONDS_OR_NULL,
        }
    ),
    "Delivery": _object(
        {
            "id": TEXT,
            "event_id": TEXT,
            "webhook_id": TEXT,
            "state": {"type": "string", "enum": list(STATES)},
            "reason": described(TEXT_OR_NULL, "Why it ended or waits."),
            "attempts": NUMBER,
            "next_attempt_at": SECONDS_OR_NULL,
            "created_at": SECONDS,
            "finished_at": SECONDS_OR_NULL,
        }
    ),
    "Deliveries": _list_of("Delivery"),
    "Attempt": _object(_ATTEMPT),
    "AttemptWithPayload": _object(
        _ATTEMPT | {"request": _MESSAGE, "response": _RESPONSE, "payload_expires_at": SECONDS}
    ),
    "Attempts": _list_of("Attempt"),
    "Problem": _object(
        {
            "type": TEXT,
            "title": TEXT,
            "status": NUMBER,
            "detail": TEXT,
            "request_id": described(
                TEXT,
                "As in the header X-Request-Id; what the log says of the request names it. "
                "Not there when the status is 404.",
            ),
            "errors": {
                "type": "array",
                "items": _object(
                    {
                        "pointer": described(
                            TEXT, "JSON Pointer to the field, such as /events/3/type."
                        ),
                        "detail": TEXT,
                    }
                ),
            },
        },
        ("type", "title", "status", "detail"),
    ),
}
