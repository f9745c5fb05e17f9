"""What the API takes, as JSON Schema 2020-12, for the OpenAPI document.

As sharp as JSON Schema can say it; what it cannot say (whether a type is in the catalogue, a URL
can be reached, a template is Liquid) is 422 too.
"""

from __future__ import annotations

from portal.events import catalogue
from portal.events import rules as event_rules
from portal.json_schema import (
    APPLICATION,
    LINE,
    NO_NUL,
    Schema,
    array,
    closed,
    described,
    or_null,
    ref,
    text,
    whole,
)
from portal.webhooks.fields import FIELDS
from portal.webhooks.rotation import MAX_OVERLAP_HOURS
from portal.webhooks.rules import MAX_REASON

ID = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,254}$"
_TYPE_NAME = r"^[a-z0-9_]+(\.[a-z0-9_]+)+$"
_SECONDS = r"^[0-9]{1,11}(\.[0-9]{1,9})?$"
_LAST_SECOND = 253_402_300_799

RECORD: Schema = {"type": ["object", "null"], "propertyNames": {"pattern": NO_NUL}}
MOMENT: Schema = {
    "description": "Unix seconds, or ISO 8601 with a zone.",
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": _LAST_SECOND},
        {"type": "string", "pattern": _SECONDS},
        {"type": "string", "format": "date-time"},
    ],
    "examples": [1_763_930_000, "2025-11-23T20:33:20Z"],
}
_NUMBER_OR_TEXT: Schema = {"anyOf": [text(LINE, least=1), {"type": "integer"}, {"type": "null"}]}
_EVENT_FIELDS: Schema = {
    "type": ref("TypeName"),
    "object_type": described(
        or_null(text(APPLICATION)), "Default: the part of type before the dot."
    ),
    "object_id": described(_NUMBER_OR_TEXT, "ID of the record."),
    "source_user_type": described(or_null(text(APPLICATION)), "Application that made the change."),
    "source_user_id": described(_NUMBER_OR_TEXT, "User in that application."),
    "occurred_at": {
        "description": "Unix seconds, or ISO 8601 with a zone; at most a day ahead. Default: now.",
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": _LAST_SECOND},
            {"type": "string", "format": "date-time"},
            {"type": "null"},
        ],
    },
    "correlation_id": described(or_null(text(LINE, least=1)), "What events of one action share."),
    "id": described(or_null(text(ID)), "Yours, to make sending again harmless."),
    "data": described(RECORD, "The object record after the change."),
    "previous": described(RECORD, "What changed, as it was."),
}
WEBHOOK_FIELDS: Schema = {name: field.schema for name, field in FIELDS.items()}
_BUILT_IN = list(catalogue.built_in())
_GROUPS = sorted({f"{name.partition('.')[0]}.*" for name in _BUILT_IN})
_EVENT_EXAMPLE = {
    "type": "order.created",
    "object_id": "1000",
    "source_user_type": "storefront",
    "id": "order-1000-created",
    "data": {"total": "99.50"},
}

REQUESTS: dict[str, Schema] = {
    "TypeName": {
        "description": "A type of the catalogue: built in, or the merchant's own.",
        "anyOf": [{"enum": _BUILT_IN}, text(_TYPE_NAME, most=event_rules.MAX_TEXT)],
    },
    "Trigger": {
        "description": "An event type, a group such as order.*, or * for all.",
        "anyOf": [
            {"enum": ["*", *_GROUPS, *_BUILT_IN]},
            text(r"^[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?$"),
        ],
    },
    "NewEvent": closed(_EVENT_FIELDS, "type") | {"examples": [_EVENT_EXAMPLE]},
    "NewEvents": closed({"events": array(ref("NewEvent"), event_rules.MAX_BATCH, 1)}, "events")
    | {"examples": [{"events": [_EVENT_EXAMPLE]}]},
    "NewEventType": closed(
        {
            "name": described(
                text(_TYPE_NAME, most=catalogue.MAX_NAME),
                "Two or more parts of a–z, 0–9 and _: loyalty.points_added.",
            ),
            "description": or_null(text(NO_NUL, most=catalogue.MAX_DESCRIPTION)),
            "schema": described(RECORD, "JSON Schema 2020-12 of data."),
            "example": described(RECORD, "A realistic record: what data holds."),
        },
        "name",
    ),
    "NewWebhook": closed(
        WEBHOOK_FIELDS
        | {
            "secret": described(
                or_null(text(r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}$")),
                "Signing secret of your own: whsec_ and base64 of 24–64 bytes.",
            )
        },
        "url",
        "events",
    )
    | {"examples": [{"url": "https://erp.example.com/hook", "events": ["order.*"]}]},
    "WebhookChange": closed(
        WEBHOOK_FIELDS
        | {
            "version": described(
                {"type": ["integer", "null"]}, "If given and no longer current: 409."
            )
        }
    )
    | {"examples": [{"description": "Orders to the ERP"}]},
    "Rotation": closed({"overlap_hours": whole(0, MAX_OVERLAP_HOURS) | {"default": 24}}),
    "Test": closed({"type": ref("TypeName")}, "type") | {"examples": [{"type": "order.created"}]},
    "Disabling": closed({"reason": or_null(text(NO_NUL, most=MAX_REASON))}),
    "Recovering": closed({"since": MOMENT}, "since"),
    "Discarding": closed({"since": MOMENT}),
}
