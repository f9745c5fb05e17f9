"""The webhook form between browser and stage: what was typed, and what that means.

A form keeps what was typed. A secret that was typed goes back to the page sealed, so that no
page holds its text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flask import current_app
from itsdangerous import BadSignature, URLSafeSerializer
from werkzeug.datastructures import MultiDict

from portal.characters import whole_number
from portal.errors import FieldError
from portal.ids import new_id
from portal.models import Merchant, Webhook
from portal.views.form_rows import Row
from portal.views.inputs import MAX_ROWS, input_of
from portal.webhooks.fields import (
    DEFAULTS,
    EVENTS,
    FIELDS,
    MAX_DESCRIPTION,
    REQUEST,
    TARGET,
    Field,
    columns,
)
from portal.webhooks.pair_rules import KINDS
from portal.webhooks.recipes import Recipe

_ADD = re.compile(f"add_({'|'.join(KINDS)})")
_REMOVE = re.compile(f"remove_({'|'.join(KINDS)})_([0-9]{{1,4}})")
_ALWAYS_OPEN = (TARGET, EVENTS)


@dataclass
class WebhookForm:
    """All that the form shows: by the names of the fields what was typed (`form["url"]`), and
    beside them what goes through the page."""

    typed: dict[str, Any]
    version: int | None = None
    token: str = ""
    recipe: str = ""
    event_search: str = ""
    parts: Mapping[str, list[Field]] = field(init=False)
    """The fields by the part of the form in which they stand."""

    def __post_init__(self) -> None:
        """Sort the fields into the parts of the form."""
        parts: dict[str, list[Field]] = {}
        for one in FIELDS.values():
            parts.setdefault(one.part, []).append(one)
        self.parts = parts

    def __getitem__(self, name: str) -> Any:
        """What was typed into a field."""
        return self.typed[name]

    def __setitem__(self, name: str, typed: Any) -> None:
        self.typed[name] = typed

    @property
    def filled_parts(self) -> set[str]:
        """Which folded parts of the form hold something."""
        return {
            one.part
            for name, one in FIELDS.items()
            if one.part not in _ALWAYS_OPEN
            and input_of(one).is_filled(self.typed[name], one.default)
        }

    @property
    def open_parts(self) -> set[str]:
        """Which parts are shown open: what is filled; of a recipe, what is still to be given."""
        if not self.recipe:
            return self.filled_parts
        rows = [row for kind in KINDS for row in self.typed[kind]]
        return {REQUEST} if any(row.name and not row.value for row in rows) else set()


def widget_of(one: Field) -> str:
    """What the page makes of a field (webhooks/_input.html)."""
    return input_of(one).widget


def hint_of(one: Field) -> str:
    """What the form says under a field."""
    if not one.setting:
        return one.hint
    value = getattr(current_app.config["PORTAL"], one.setting)
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return one.hint.replace("{default}", text)


def blank(merchant: Merchant) -> WebhookForm:
    """A new webhook's form. Its token makes a form that is sent twice one webhook."""
    return _filled(DEFAULTS, token=_new_token(merchant))


def from_recipe(merchant: Merchant, recipe: Recipe) -> WebhookForm:
    """A new webhook's form, filled by a recipe; the URL is for the merchant to give."""
    values = {**DEFAULTS, **recipe.fields}
    return _filled(values, token=_new_token(merchant), recipe=recipe.key)


def to_inspector(form: WebhookForm, url: str) -> WebhookForm:
    """The form with an inspector's URL; what was typed stays."""
    description = form["description"] or "Inspector"
    return replace(form, typed=form.typed | {"url": url, "description": description})


def copy_of(webhook: Webhook, merchant: Merchant) -> WebhookForm:
    """A new webhook's form, filled like a stored one. Secrets are not copied: their rows are
    there without a value, and the new webhook gets a signing secret of its own."""
    values = columns(webhook) | {
        name: one.default for name, one in FIELDS.items() if not one.is_copied
    }
    name = webhook.description or webhook.url
    values["description"] = f"Copy of {name}"[:MAX_DESCRIPTION]
    form = _filled(values, token=_new_token(merchant))
    return replace(
        form,
        typed={
            name: input_of(FIELDS[name]).without_secrets(typed)
            for name, typed in form.typed.items()
        },
    )


def token_id(merchant: Merchant, token: str) -> str | None:
    """The ID that a form's token reserved for this merchant; None for a token that is not ours."""
    try:
        merchant_id, webhook_id = _tokens().loads(token)
    except (BadSignature, ValueError, TypeError):
        return None
    return webhook_id if merchant_id == merchant.id else None


def stored(webhook: Webhook) -> WebhookForm:
    """The form of a stored webhook; secret values are masked."""
    return _filled(columns(webhook), version=webhook.version)


def read(form: MultiDict[str, str], merchant: Merchant) -> WebhookForm:
    """What the browser sent, as the form shows it again."""
    return WebhookForm(
        {name: input_of(one).read(name, form, merchant) for name, one in FIELDS.items()},
        version=whole_number(form.get("version", "")),
        token=form.get("token", ""),
        recipe=form.get("recipe", "")[:100],
        event_search=form.get("event_search", "")[:100],
    )


def masked(form: WebhookForm) -> WebhookForm:
    """The same for a page: every secret masked."""
    return replace(
        form,
        typed={name: input_of(FIELDS[name]).masked(typed) for name, typed in form.typed.items()},
    )


def change_rows(form: WebhookForm, action: str) -> str | None:
    """Add or remove a row as a button asked; the field whose rows changed, None for another
    action."""
    if found := _ADD.fullmatch(action):
        rows = form[found[1]]
        if len(rows) < MAX_ROWS:
            rows.append(Row(is_new=True))
    elif found := _REMOVE.fullmatch(action):
        rows = form[found[1]]
        del rows[int(found[2]) : int(found[2]) + 1]
    return found[1] if found else None


def fields(form: WebhookForm, merchant: Merchant) -> dict[str, Any]:
    """What was typed as the API would be sent it, for portal.webhooks."""
    return {
        name: input_of(FIELDS[name]).meant(typed, merchant) for name, typed in form.typed.items()
    }


def differences(stored: WebhookForm, typed: WebhookForm) -> list[tuple[str, str, str]]:
    """Label, stored and typed text of each field in which two forms differ; secrets masked."""
    before, after = masked(stored), masked(typed)
    texts = (
        (one.label, input_of(one).words(before[name]), input_of(one).words(after[name]))
        for name, one in FIELDS.items()
    )
    return [(label, old, new) for label, old, new in texts if old != new]


def facts(webhook: Webhook) -> list[tuple[str, str]]:
    """Label and words of the fields that the webhook's page shows as just these, where they are not
    the default."""
    return [
        (one.label, input_of(one).words(input_of(one).filled(value)))
        for name, value in columns(webhook).items()
        if not (one := FIELDS[name]).has_own_display and value != one.default
    ]


def by_input(errors: list[FieldError]) -> dict[str, list[str]]:
    """Messages by the input that they stand beside: `url`, `headers`, `headers/X-Auth`."""
    grouped: dict[str, list[str]] = {}
    for error in errors:
        grouped.setdefault("/".join(error.parts), []).append(error.message)
    return grouped


def parts_of(errors: dict[str, list[str]]) -> set[str]:
    """The folded parts of the form in which something is wrong (`by_input`)."""
    wrong = {FIELDS[name].part for key in errors if (name := key.partition("/")[0]) in FIELDS}
    return wrong.difference(_ALWAYS_OPEN)


def _filled(values: Mapping[str, Any], **rest: Any) -> WebhookForm:
    return WebhookForm(
        {name: input_of(one).filled(values[name]) for name, one in FIELDS.items()}, **rest
    )


def _new_token(merchant: Merchant) -> str:
    token = _tokens().dumps([merchant.id, new_id("wh")])
    return token if isinstance(token, str) else token.decode()


def _tokens() -> URLSafeSerializer:
    return URLSafeSerializer(current_app.config["SECRET_KEY"], salt="webhook form")
