"""A webhook is a table with a row for each field. From the rows come the rules, the form, the API's
document and answers, what recipes fill in and copies take over, and what the audit log shows.

A new field of an existing kind needs its row, its column (portal.models.webhook, a migration), the
code that acts on it, and its line in the documents. A new kind needs a class in
portal.webhooks.kinds and an input in the form (portal.views.inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portal.json_schema import Schema, described
from portal.models.webhook import METHODS, Webhook
from portal.webhooks.kinds import (
    Authentication,
    Choice,
    Delays,
    Flag,
    Kind,
    Pairs,
    Sources,
    Template,
    Text,
    Triggers,
    Url,
    Whole,
)

MAX_DESCRIPTION = 500
TARGET, EVENTS, REQUEST, AUTH = "target", "events", "request", "auth"
BODY, SOURCES, ADVANCED = "body", "sources", "advanced"
"""Parts of the form."""


@dataclass(frozen=True)
class Field:
    """One field of a webhook."""

    name: str
    kind: Kind
    default: Any
    part: str
    """Of the form."""
    label: str
    hint: str = ""
    """The hint under it in the form; {default} stands for the value of its `setting`."""
    about: str = ""
    """Its description in the API's document."""
    setting: str = ""
    """The setting that applies while the field is empty."""
    is_required: bool = False
    is_copied: bool = True
    """Whether a copy of a webhook takes it over, or begins with the default."""
    has_own_display: bool = False
    """Whether the webhook's page shows it in a way of its own, and not as label and value."""

    @property
    def schema(self) -> Schema:
        """The JSON Schema of what the API takes and shows."""
        return described(self.kind.schema, self.about) if self.about else self.kind.schema


_ALL = (
    Field(
        "description",
        Text("description", MAX_DESCRIPTION),
        "",
        TARGET,
        "Description",
        hint="What it is for, such as “Orders to the ERP”. Shown in place of the URL.",
        has_own_display=True,
    ),
    Field(
        "url",
        Url(),
        "",
        TARGET,
        "URL",
        about="http:// or https://.",
        is_required=True,
        has_own_display=True,
    ),
    Field("method", Choice("method", METHODS), "POST", REQUEST, "Method", has_own_display=True),
    Field(
        "query_params", Pairs("query_params"), [], REQUEST, "Query parameters", has_own_display=True
    ),
    Field("headers", Pairs("headers"), [], REQUEST, "Headers", has_own_display=True),
    Field("auth", Authentication(), None, AUTH, "Authentication", has_own_display=True),
    Field(
        "events",
        Triggers(100),
        [],
        EVENTS,
        "Events",
        about="Exact types, order.*, or *.",
        is_required=True,
        has_own_display=True,
    ),
    Field(
        "include_object_record",
        Flag(),
        True,
        BODY,
        "Include object record",
        hint="Adds data, the record after the change, and previous, what changed in it. Without it "
        "the receiver gets IDs alone and asks for the record.",
        about="Whether data and previous go along.",
        has_own_display=True,
    ),
    Field(
        "only_sources",
        Sources(50),
        [],
        SOURCES,
        "Only changes by",
        about="source_user_type, or type:user_id; only these are sent.",
        has_own_display=True,
    ),
    Field(
        "except_sources",
        Sources(50),
        [],
        SOURCES,
        "All but changes by",
        about="source_user_type, or type:user_id; these are not sent.",
        has_own_display=True,
    ),
    Field(
        "body_template",
        Template("body template", 64 * 1024),
        None,
        BODY,
        "Body template",
        hint='Liquid that makes the body in the receiver’s own shape, such as {"text": {{ '
        "event.data.number | json }}}. Values: event.type, event.object_id, event.data.… Leave it "
        "empty to send the event itself.",
        about="Liquid that makes the body; null for the event.",
        has_own_display=True,
    ),
    Field(
        "timeout_seconds",
        Whole(60, "seconds", "The timeout"),
        None,
        ADVANCED,
        "Timeout in seconds",
        hint="1 to 60, for the whole attempt. Empty: {default}.",
        about="Deadline of an attempt; null: the portal's.",
        setting="timeout_seconds",
        has_own_display=True,
    ),
    Field(
        "max_in_flight",
        Whole(500, "requests at once"),
        None,
        ADVANCED,
        "Requests at once",
        hint="1 to 500. Empty: {default}.",
        about="Requests at once; null: the portal's.",
        setting="max_in_flight",
        has_own_display=True,
    ),
    Field(
        "rate_per_second",
        Whole(10_000, "requests a second"),
        None,
        ADVANCED,
        "Requests a second",
        hint="For a receiver that counts. Empty: as many as there are.",
        about="Requests started in a second; null: no limit.",
        has_own_display=True,
    ),
    Field(
        "ordered",
        Flag(),
        False,
        ADVANCED,
        "One at a time for each record",
        hint="The events of one record arrive in their order; one that fails holds the later ones "
        "of its record, and nothing else.",
        about="Whether the events of one record are sent one after another.",
        has_own_display=True,
    ),
    Field(
        "sign_ed25519",
        Flag(),
        False,
        ADVANCED,
        "Sign with Ed25519 too",
        hint="For receivers that check with a public key (v1a of Standard Webhooks), so that what "
        "they hold cannot sign. The key is shown on the webhook’s page.",
        about="Whether requests also carry a v1a signature (Ed25519).",
        has_own_display=True,
    ),
    Field(
        "retry_schedule",
        Delays("retry schedule", 20, 7 * 86_400),
        None,
        ADVANCED,
        "Retry schedule",
        hint="Seconds before each attempt, each after the one before, up to 20. Empty: {default}.",
        about="Delay before each attempt in seconds; null for the portal's.",
        setting="retry_schedule",
        has_own_display=True,
    ),
    Field(
        "enabled",
        Flag(),
        True,
        ADVANCED,
        "Enabled",
        hint="While it is disabled nothing is sent, test events aside: what it is owed is held, "
        "and what comes meanwhile is not sent to it later.",
        about="false holds what it is owed; what comes meanwhile is not sent to it, then or later.",
        is_copied=False,
        has_own_display=True,
    ),
)
FIELDS: Mapping[str, Field] = {field.name: field for field in _ALL}
"""By name, in the order of the form."""
DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in _ALL}


def columns(webhook: Webhook) -> dict[str, Any]:
    """A stored webhook's fields by name."""
    return {name: getattr(webhook, name) for name in FIELDS}


def shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Stored values of fields as the API shows them: secrets masked."""
    return {name: FIELDS[name].kind.shown(value) for name, value in values.items()}
