"""The webhook form between browser and stage: what was typed, and what that means.

A form keeps what was typed. A secret that was typed goes back to the page sealed, so that no
page holds its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from flask import current_app
from itsdangerous import BadSignature, URLSafeSerializer
from werkzeug.datastructures import MultiDict

from portal.errors import FieldError
from portal.ids import new_id
from portal.models import Merchant, Webhook
from portal.models.webhook import MASK
from portal.views import auth_form
from portal.views.auth_form import AuthTyped
from portal.views.form_rows import Row
from portal.webhooks.pair_rules import KINDS, Rows
from portal.webhooks.recipes import Recipe
from portal.webhooks.rules import MAX_DESCRIPTION

MAX_ROWS = 200
"""Rows that are read and shown again; the rules allow fewer."""
_CELL = re.compile(r"(query_params|headers)-([0-9]{1,4})-(name|value|secret|sealed)")
_REMOVE = re.compile(r"remove_(query_params|headers)_([0-9]{1,4})")
_TEXTS = (
    "description", "url", "method", "only_sources", "except_sources", "body_template",
    "retry_schedule", "timeout_seconds", "max_in_flight", "rate_per_second",
)
LABELS = {
    "description": "Description", "url": "URL", "method": "Method",
    "query_params": "Query parameters", "headers": "Headers", "auth": "Authentication",
    "events": "Events",
    "include_object_record": "Include object record", "only_sources": "Only from sources",
    "except_sources": "Except from sources", "body_template": "Body template",
    "retry_schedule": "Retry schedule", "timeout_seconds": "Timeout",
    "max_in_flight": "Requests at once", "rate_per_second": "Requests a second",
    "ordered": "One at a time for each record", "sign_ed25519": "Sign with Ed25519 too",
    "enabled": "Enabled",
}


@dataclass
class Typed:
    """All that the form shows, as text."""

    description: str = ""
    url: str = ""
    method: str = "POST"
    query_params: list[Row] = field(default_factory=list)
    headers: list[Row] = field(default_factory=list)
    auth: AuthTyped = field(default_factory=AuthTyped)
    events: list[str] = field(default_factory=list)
    include_object_record: bool = True
    only_sources: str = ""
    except_sources: str = ""
    body_template: str = ""
    retry_schedule: str = ""
    timeout_seconds: str = ""
    max_in_flight: str = ""
    rate_per_second: str = ""
    ordered: bool = False
    sign_ed25519: bool = False
    enabled: bool = True
    version: int | None = None
    token: str = ""
    recipe: str = ""
    event_search: str = ""

    @property
    def filled_parts(self) -> set[str]:
        """Which folded parts of the form hold something."""
        parts = {
            "request": self.method != "POST" or self.query_params or self.headers,
            "auth": self.auth.type,
            "body": self.body_template or not self.include_object_record,
            "sources": self.only_sources or self.except_sources,
            "advanced": self.retry_schedule or self.timeout_seconds or self.max_in_flight
            or self.rate_per_second or self.ordered or self.sign_ed25519 or not self.enabled,
        }
        return {name for name, filled in parts.items() if filled}

    @property
    def open_parts(self) -> set[str]:
        """Which parts are shown open: what is filled; of a recipe, what is still to be given."""
        if not self.recipe:
            return self.filled_parts
        rows = [*self.query_params, *self.headers]
        return {"request"} if any(row.name and not row.value for row in rows) else set()


def blank(merchant: Merchant) -> Typed:
    """A new webhook's form. Its token makes a form that is sent twice one webhook."""
    token = _tokens().dumps([merchant.id, new_id("wh")])
    return Typed(token=token if isinstance(token, str) else token.decode())


def from_recipe(merchant: Merchant, recipe: Recipe) -> Typed:
    """A new webhook's form, filled by a recipe; the URL is for the merchant to give."""
    given = recipe.fields
    return replace(
        blank(merchant),
        recipe=recipe.key,
        description=given.get("description", ""),
        method=given.get("method", "POST"),
        query_params=_recipe_rows(given.get("query_params", {})),
        headers=_recipe_rows(given.get("headers", {})),
        events=list(given.get("events", [])),
        except_sources="\n".join(given.get("except_sources", [])),
        body_template=given.get("body_template", ""),
    )


def to_inspector(typed: Typed, url: str) -> Typed:
    """The form with an inspector's URL; what was typed stays."""
    return replace(typed, url=url, description=typed.description or "Inspector")


def _recipe_rows(pairs: dict[str, Any]) -> list[Row]:
    return [
        Row(name, value["value"], value["secret"]) if isinstance(value, dict) else Row(name, value)
        for name, value in pairs.items()
    ]


def copy_of(webhook: Webhook, merchant: Merchant) -> Typed:
    """A new webhook's form, filled like a stored one. Secrets are not copied: their rows are
    there without a value, and the new webhook gets a signing secret of its own."""
    typed = stored(webhook)
    for kind in KINDS:
        rows = [replace(row, value="") if row.secret else row for row in getattr(typed, kind)]
        setattr(typed, kind, rows)
    return replace(
        typed, auth=auth_form.without_secrets(typed.auth),
        description=f"Copy of {webhook.description or webhook.url}"[:MAX_DESCRIPTION],
        enabled=True, version=None, token=blank(merchant).token,
    )


def token_id(merchant: Merchant, token: str) -> str | None:
    """The ID that a form's token reserved for this merchant; None for a token that is not ours."""
    try:
        merchant_id, webhook_id = _tokens().loads(token)
    except (BadSignature, ValueError, TypeError):
        return None
    return webhook_id if merchant_id == merchant.id else None


def stored(webhook: Webhook) -> Typed:
    """The form of a stored webhook; secret values are masked."""

    def rows(pairs: list[Any]) -> list[Row]:
        return [
            Row(pair["name"], MASK if pair["secret"] else pair["value"], pair["secret"])
            for pair in pairs
        ]

    return Typed(
        auth=auth_form.stored(webhook.auth),
        description=webhook.description,
        url=webhook.url,
        method=webhook.method,
        query_params=rows(webhook.query_params),
        headers=rows(webhook.headers),
        events=list(webhook.events),
        include_object_record=webhook.include_object_record,
        only_sources="\n".join(webhook.only_sources),
        except_sources="\n".join(webhook.except_sources),
        body_template=webhook.body_template or "",
        retry_schedule=" ".join(map(str, webhook.retry_schedule or [])),
        timeout_seconds=str(webhook.timeout_seconds or ""),
        max_in_flight=str(webhook.max_in_flight or ""),
        rate_per_second=str(webhook.rate_per_second or ""),
        ordered=webhook.ordered,
        sign_ed25519=webhook.sign_ed25519,
        enabled=webhook.enabled,
        version=webhook.version,
    )


def read(form: MultiDict[str, str], merchant: Merchant) -> Typed:
    """What the browser sent, as the form shows it again."""
    typed = Typed()
    for name in _TEXTS:
        # Browsers send line breaks as CR LF (HTML, 4.10.21.8).
        setattr(typed, name, form.get(name, "").replace("\r\n", "\n"))
    typed.events = list(dict.fromkeys(form.getlist("events")))
    typed.include_object_record = "include_object_record" in form
    typed.enabled = "enabled" in form
    typed.ordered = "ordered" in form
    typed.sign_ed25519 = "sign_ed25519" in form
    typed.version = _whole(form.get("version", ""))
    typed.token = form.get("token", "")
    typed.recipe = form.get("recipe", "")[:100]
    typed.event_search = form.get("event_search", "")[:100]
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for key in form:
        found = _CELL.fullmatch(key)
        if found:
            cells.setdefault((found[1], int(found[2])), {})[found[3]] = form[key]
    for (kind, _), cell in sorted(cells.items(), key=lambda item: item[0])[: 2 * MAX_ROWS]:
        row = Row(cell.get("name", ""), cell.get("value", ""), "secret" in cell)
        row.seal(cell.get("sealed", ""), merchant)
        getattr(typed, kind).append(row)
    typed.auth = auth_form.read(form, merchant)
    return typed


def shown(typed: Typed) -> Typed:
    """The same for a page: every secret masked."""

    return replace(
        typed, query_params=[row.masked() for row in typed.query_params],
        headers=[row.masked() for row in typed.headers], auth=auth_form.shown(typed.auth),
    )


def change_rows(typed: Typed, action: str) -> str | None:
    """Add or remove a row as a button asked; the field whose rows changed, None for another
    action."""
    if action in ("add_query_params", "add_headers"):
        kind = action.removeprefix("add_")
        rows = getattr(typed, kind)
        if len(rows) < MAX_ROWS:
            rows.append(Row(is_new=True))
        return kind
    found = _REMOVE.fullmatch(action)
    if found is None:
        return None
    rows = getattr(typed, found[1])
    del rows[int(found[2]) : int(found[2]) + 1]
    return found[1]


def fields(typed: Typed, merchant: Merchant) -> dict[str, Any]:
    """What was typed as the API would send it, for portal.webhooks."""
    return {
        "description": typed.description,
        "url": typed.url.strip(),
        "method": typed.method,
        "auth": auth_form.fields(typed.auth, merchant),
        "events": typed.events,
        "include_object_record": typed.include_object_record,
        "only_sources": _lines(typed.only_sources),
        "except_sources": _lines(typed.except_sources),
        "body_template": typed.body_template if typed.body_template.strip() else None,
        "retry_schedule": _delays(typed.retry_schedule),
        "timeout_seconds": _number(typed.timeout_seconds),
        "max_in_flight": _number(typed.max_in_flight),
        "rate_per_second": _number(typed.rate_per_second),
        "ordered": typed.ordered,
        "sign_ed25519": typed.sign_ed25519,
        "enabled": typed.enabled,
        **{
            kind: Rows(
                {"name": row.name, "value": row.text(merchant), "secret": row.secret}
                for row in getattr(typed, kind)
                if row.name or row.value
            )
            for kind in KINDS
        },
    }


def differences(stored: Typed, typed: Typed) -> list[tuple[str, str, str]]:
    """Label, stored and typed text of each field in which two forms differ; secrets masked."""
    pairs = ((label, _text(stored, name), _text(typed, name)) for name, label in LABELS.items())
    return [(label, before, after) for label, before, after in pairs if before != after]


def _text(typed: Typed, name: str) -> str:
    value = getattr(shown(typed), name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in KINDS:
        return "\n".join(f"{row.name}: {row.value}" for row in value if row.name or row.value)
    return ", ".join(value) if isinstance(value, list) else str(value)


def by_place(errors: list[FieldError]) -> dict[str, list[str]]:
    """Messages by the place where the form shows them: `url`, `headers`, `headers/X-Auth`."""
    places: dict[str, list[str]] = {}
    for error in errors:
        kind, _, name = error.pointer.removeprefix("/").partition("/")
        name = name.replace("~1", "/").replace("~0", "~")
        place = f"{kind}/{name}" if "/" in error.pointer[1:] else kind
        places.setdefault(place, []).append(error.message)
    return places


_PARTS = {
    "method": "request", "query_params": "request", "headers": "request",
    "auth": "auth",
    "include_object_record": "body", "body_template": "body",
    "only_sources": "sources", "except_sources": "sources",
    "retry_schedule": "advanced", "timeout_seconds": "advanced", "max_in_flight": "advanced",
    "rate_per_second": "advanced", "ordered": "advanced",
    "sign_ed25519": "advanced", "enabled": "advanced",
}


def parts_of(errors: dict[str, list[str]]) -> set[str]:
    """The folded parts of the form in which something is wrong (`by_place`)."""
    return {_PARTS[field] for place in errors if (field := place.partition("/")[0]) in _PARTS}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _delays(text: str) -> list[Any] | None:
    return [_number(part) for part in text.replace(",", " ").split()] or None


def _number(text: str) -> int | str | None:
    """A whole number, or the text itself for the rules to refuse; None for nothing."""
    text = text.strip()
    number = _whole(text)
    return number if number is not None else text or None


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def _tokens() -> URLSafeSerializer:
    return URLSafeSerializer(current_app.config["SECRET_KEY"], salt="webhook form")
