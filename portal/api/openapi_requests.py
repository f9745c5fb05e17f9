"""What the API takes, as JSON Schema 2020-12, for the OpenAPI document.

As sharp as JSON Schema can say it; what it cannot say (whether a type is in the catalogue, a URL
can be reached, a template is Liquid) is 422 too.
"""

from __future__ import annotations

from typing import Any

from portal.events import catalogue
from portal.events import rules as event_rules
from portal.models.webhook import MASK, METHODS
from portal.webhooks import auth_rules, pair_rules, rules, url_rules
from portal.webhooks.rotation import MAX_OVERLAP_HOURS

Schema = dict[str, Any]

ID = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,254}$"
_TYPE_NAME = r"^[a-z0-9_]+(\.[a-z0-9_]+)+$"
_APPLICATION = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"
_SOURCE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}(:.{1,255})?$"
_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$"
"""Text without line breaks, control characters, and marks that change its direction."""
_USER = _LINE.replace("[^", "[^:")
_SCOPE = r"^([!#-\[\]-~]+( [!#-\[\]-~]+)*)?$"
_NO_NUL = r"^[^\u0000]*$"
_SECONDS = r"^[0-9]{1,11}(\.[0-9]{1,9})?$"
_LAST_SECOND = 253_402_300_799
_URL = r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s\\#@]+$"

FLAG: Schema = {"type": "boolean"}
RECORD: Schema = {"type": ["object", "null"], "propertyNames": {"pattern": _NO_NUL}}
MOMENT: Schema = {
    "description": "Unix seconds, or ISO 8601 with a zone.",
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": _LAST_SECOND},
        {"type": "string", "pattern": _SECONDS},
        {"type": "string", "format": "date-time"},
    ],
    "examples": [1_763_930_000, "2025-11-23T20:33:20Z"],
}


def ref(name: str) -> Schema:
    """A reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def described(schema: Schema, text: str) -> Schema:
    """A schema with a description."""
    return schema | {"description": text}


def _taken(properties: Schema, *required: str) -> Schema:
    schema: Schema = {
        "type": "object", "properties": properties, "additionalProperties": False,
    }
    return schema | ({"required": list(required)} if required else {})


def _text(pattern: str = "", *, most: int = 255, least: int = 0) -> Schema:
    schema: Schema = {"type": "string", "maxLength": most}
    return schema | ({"minLength": least} if least else {}) | (
        {"pattern": pattern} if pattern else {}
    )


def _or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _whole(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _list(items: Schema, most: int, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "maxItems": most} | (
        {"minItems": least} if least else {}
    )


def _pairs(kind: str) -> Schema:
    value = _text(_NO_NUL, most=pair_rules.MAX_VALUE)
    name = _text(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" if kind == "header" else _LINE, least=1)
    return {
        "type": "object",
        "description": f"{kind.capitalize()} name → value. The value is text, Liquid with the "
        'event in it if you like; or {"value": …, "secret": true}, which is masked wherever it '
        "is shown.",
        "maxProperties": pair_rules.MAX_PAIRS,
        "propertyNames": name,
        "additionalProperties": {
            "anyOf": [value, _taken({"value": value, "secret": FLAG}, "value")],
        },
    }


_NUMBER_OR_TEXT: Schema = {
    "anyOf": [_text(_LINE, least=1), {"type": "integer"}, {"type": "null"}],
}
_EVENT_FIELDS: Schema = {
    "type": ref("TypeName"),
    "object_type": described(
        _or_null(_text(_APPLICATION)), "Default: the part of type before the dot."
    ),
    "object_id": described(_NUMBER_OR_TEXT, "ID of the record."),
    "source_user_type": described(
        _or_null(_text(_APPLICATION)), "Application that made the change."
    ),
    "source_user_id": described(_NUMBER_OR_TEXT, "User in that application."),
    "occurred_at": {
        "description": "Unix seconds, or ISO 8601 with a zone; at most a day ahead. Default: now.",
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": _LAST_SECOND},
            {"type": "string", "format": "date-time"},
            {"type": "null"},
        ],
    },
    "correlation_id": described(
        _or_null(_text(_LINE, least=1)), "What events of one action share."
    ),
    "id": described(_or_null(_text(ID)), "Yours, to make sending again harmless."),
    "data": described(RECORD, "The object record after the change."),
    "previous": described(RECORD, "What changed, as it was."),
}
_AUTH: Schema = {
    "description": "What requests authenticate with; null for nothing. The secret in it is "
    "masked wherever it is shown; a change without it keeps it, for the same type and server.",
    "anyOf": [
        {"type": "null"},
        _taken({
            "type": {"const": "basic"},
            "user": _text(_USER, most=auth_rules.MAX_USER, least=1),
            "password": _text(_LINE, most=auth_rules.MAX_PASSWORD, least=1),
        }, "type", "user"),
        _taken({
            "type": {"const": "bearer"},
            "token": _text(f"^([!-~]+|{MASK})$", most=auth_rules.MAX_TOKEN, least=1),
        }, "type"),
        _taken({
            "type": {"const": "oauth2"},
            "token_url": _text(_URL, most=url_rules.MAX_URL),
            "client_id": _text("^[ -~]+$", most=auth_rules.MAX_CLIENT_ID, least=1),
            "client_secret": _text(f"^([ -~]+|{MASK})$", most=auth_rules.MAX_TOKEN, least=1),
            "client_auth": {"type": "string", "enum": list(auth_rules.CLIENT_AUTH)},
            "scope": _text(_SCOPE, most=auth_rules.MAX_SCOPE),
            "audience": _text("^[!-~]*$", most=auth_rules.MAX_SCOPE),
        }, "type", "token_url", "client_id"),
        _taken({
            "type": {"const": "certificate"},
            "certificate": described({"type": "string", "maxLength": auth_rules.MAX_PEM}, "PEM."),
            "key": described(
                {"type": "string", "maxLength": auth_rules.MAX_PEM}, "PEM, without a passphrase."
            ),
        }, "type", "certificate"),
    ],
}
_SOURCES = _list(_text(_SOURCE, most=511), rules.MAX_SOURCES)
WEBHOOK_FIELDS: Schema = {
    "description": _text(_LINE, most=rules.MAX_DESCRIPTION),
    "url": described(_text(_URL, most=url_rules.MAX_URL), "http:// or https://."),
    "method": {"type": "string", "enum": list(METHODS), "default": "POST"},
    "query_params": _pairs("query parameter"),
    "headers": _pairs("header"),
    "auth": _AUTH,
    "events": described(
        _list(ref("Trigger"), rules.MAX_EVENTS, 1), "Exact types, order.*, or *."
    ),
    "include_object_record": described(FLAG, "Whether data and previous go along."),
    "only_sources": described(
        _SOURCES, "source_user_type, or type:user_id; only these are sent."
    ),
    "except_sources": described(
        _SOURCES, "source_user_type, or type:user_id; these are not sent."
    ),
    "body_template": described(
        _or_null(_text(_NO_NUL, most=rules.MAX_TEMPLATE)),
        "Liquid that makes the body; null for the event.",
    ),
    "retry_schedule": described(
        _or_null(_list(_whole(0, rules.MAX_DELAY), rules.MAX_ATTEMPTS, 1)),
        "Delay before each attempt in seconds; null for the portal's.",
    ),
    "timeout_seconds": described(
        _or_null(_whole(1, rules.MAX_TIMEOUT)), "Deadline of an attempt; null: the portal's."
    ),
    "max_in_flight": described(
        _or_null(_whole(1, rules.MAX_IN_FLIGHT)), "Requests at once; null: the portal's."
    ),
    "rate_per_second": described(
        _or_null(_whole(1, rules.MAX_RATE)), "Requests started in a second; null: no limit."
    ),
    "ordered": described(FLAG, "Whether the events of one record are sent one after another."),
    "sign_ed25519": described(FLAG, "Whether requests also carry a v1a signature (Ed25519)."),
    "enabled": described(
        FLAG, "false holds what it is owed; what comes meanwhile is not sent to it, then or later."
    ),
}
_BUILT_IN = list(catalogue.built_in())
_GROUPS = sorted({f"{name.partition('.')[0]}.*" for name in _BUILT_IN})
_EVENT_EXAMPLE = {
    "type": "order.created", "object_id": "1000", "source_user_type": "storefront",
    "id": "order-1000-created", "data": {"total": "99.50"},
}

REQUESTS: dict[str, Schema] = {
    "TypeName": {
        "description": "A type of the catalogue: built in, or the merchant's own.",
        "anyOf": [{"enum": _BUILT_IN}, _text(_TYPE_NAME, most=event_rules.MAX_TEXT)],
    },
    "Trigger": {
        "description": "An event type, a group such as order.*, or * for all.",
        "anyOf": [
            {"enum": ["*", *_GROUPS, *_BUILT_IN]},
            _text(r"^[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?$"),
        ],
    },
    "NewEvent": _taken(_EVENT_FIELDS, "type") | {"examples": [_EVENT_EXAMPLE]},
    "NewEvents": _taken(
        {"events": _list(ref("NewEvent"), event_rules.MAX_BATCH, 1)}, "events"
    ) | {"examples": [{"events": [_EVENT_EXAMPLE]}]},
    "NewEventType": _taken({
        "name": described(
            _text(_TYPE_NAME, most=catalogue.MAX_NAME),
            "Two or more parts of a–z, 0–9 and _: loyalty.points_added.",
        ),
        "description": _or_null(_text(_NO_NUL, most=catalogue.MAX_DESCRIPTION)),
        "schema": described(RECORD, "JSON Schema 2020-12 of data."),
        "example": described(RECORD, "A realistic record: what data holds."),
    }, "name"),
    "NewWebhook": _taken(WEBHOOK_FIELDS | {
        "secret": described(
            _or_null(_text(r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}$")),
            "Signing secret of your own: whsec_ and base64 of 24–64 bytes.",
        ),
    }, "url", "events") | {
        "examples": [{"url": "https://erp.example.com/hook", "events": ["order.*"]}],
    },
    "WebhookChange": _taken(WEBHOOK_FIELDS | {
        "version": described(
            {"type": ["integer", "null"]}, "If given and no longer current: 409."
        ),
    }) | {"examples": [{"description": "Orders to the ERP"}]},
    "Rotation": _taken({"overlap_hours": _whole(0, MAX_OVERLAP_HOURS) | {"default": 24}}),
    "Test": _taken({"type": ref("TypeName")}, "type") | {
        "examples": [{"type": "order.created"}],
    },
    "Disabling": _taken({"reason": _or_null(_text(_NO_NUL, most=rules.MAX_REASON))}),
    "Recovering": _taken({"since": MOMENT}, "since"),
    "Discarding": _taken({"since": MOMENT}),
}
