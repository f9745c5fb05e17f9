"""The rules for a webhook's fields, the same for the form and the API. Pure.

`clean` gives the columns of a webhook, with secret values sealed, or reports every wrong field at
once. The rules of a single field are those of its kind (portal.webhooks.kinds); the rules between
fields are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portal import signing
from portal.errors import FieldError, Invalid, pointer
from portal.models.webhook import AUTH_SECRETS
from portal.webhooks.fields import DEFAULTS, FIELDS
from portal.webhooks.kinds import FieldCheck, RuleContext
from portal.webhooks.pair_rules import KINDS
from portal.webhooks.url_rules import origin

MAX_REASON = 500
"""Characters of the reason for which a webhook was disabled."""


def clean(fields: Any, current: Mapping[str, Any] | None, context: RuleContext) -> dict[str, Any]:
    """A webhook's columns, from what a form or the API sent.

    `current` are the columns of the webhook that is edited; fields that are not sent keep them. A
    new webhook may bring its own `secret`. Raises Invalid naming every wrong field.
    """
    return _Cleaner(fields, current, context).clean()


class _Cleaner:
    def __init__(self, fields: Any, current: Mapping[str, Any] | None, context: RuleContext):
        if not isinstance(fields, Mapping):
            raise Invalid([FieldError("", 'A webhook is an object such as {"url": "https://…"}.')])
        self._fields = fields
        self._is_new = current is None
        self._current = DEFAULTS if current is None else current
        self._context = context
        self._errors: list[FieldError] = []

    def clean(self) -> dict[str, Any]:
        known = (*FIELDS, "secret") if self._is_new else FIELDS
        for name in self._fields:
            if name == "secret" and not self._is_new:
                self._wrong("secret", "The secret is changed by rotating it.")
            elif name not in known:
                self._wrong(
                    str(name)[:100],
                    f"A webhook has no field {str(name)[:100]!r}; it has {', '.join(known)}.",
                )
        cleaned: dict[str, Any] = {}
        for name, field in FIELDS.items():
            if name in self._fields or (self._is_new and field.is_required):
                check = FieldCheck(name, self._current[name], self._context)
                cleaned[name] = field.kind.clean(self._fields.get(name, field.default), check)
                self._errors += check.errors
            else:
                cleaned[name] = self._current[name]
        if self._is_new and self._fields.get("secret") is not None:
            cleaned["secret"] = self._clean_secret(self._fields["secret"])
        self._check_together(cleaned)
        if not self._errors:
            self._check_templates(cleaned)
        if self._errors:
            raise Invalid(self._errors)
        return cleaned

    def _wrong(self, field: str, message: str, *parts: str) -> None:
        self._errors.append(FieldError(pointer(field, *parts), message))

    def _clean_secret(self, value: Any) -> str:
        try:
            signing.secret_bytes(value if isinstance(value, str) else "")
        except ValueError as error:
            self._wrong(
                "secret",
                f"The secret cannot be used: {error}. Give whsec_ and base64 of 24 to "
                "64 bytes, or leave it out to get one.",
            )
            return ""
        return str(value)

    def _check_together(self, cleaned: dict[str, Any]) -> None:
        if cleaned["method"] == "GET" and cleaned["body_template"]:
            self._wrong(
                "body_template", "A GET has no body: choose another method, or empty the template."
            )
        for source in cleaned["only_sources"]:
            if source in cleaned["except_sources"]:
                self._wrong(
                    "except_sources", f"{source} is in both source lists; no event would match."
                )
        auth = cleaned["auth"]
        if auth and auth["type"] == "certificate" and cleaned["url"].startswith("http:"):
            self._wrong(
                "auth",
                "A client certificate is shown in TLS: give a URL that starts with "
                "https://, or choose another authentication.",
                "type",
            )
        if auth and auth["type"] != "certificate":
            for pair in cleaned["headers"]:
                if pair["name"].lower() == "authorization":
                    self._wrong(
                        "headers",
                        "The authentication makes the header Authorization already: "
                        "remove this one, or choose no authentication.",
                        pair["name"],
                    )
        self._check_moved(cleaned)

    def _check_moved(self, cleaned: dict[str, Any]) -> None:
        """Secret values are kept only for the server that they were given for."""
        if self._is_new or not cleaned["url"]:
            return
        moved = origin(cleaned["url"]) != origin(self._current["url"])
        auth, before = cleaned["auth"], self._current["auth"]
        if auth and before and auth["type"] == before["type"]:
            secret = AUTH_SECRETS[auth["type"]]
            to_others = auth["type"] == "oauth2" and (
                origin(auth["token_url"]) != origin(before["token_url"])
            )
            if (moved or to_others) and auth[secret] == before[secret]:
                self._wrong(
                    "auth",
                    f"The {'URL' if moved else 'token endpoint'} leads to another server "
                    f"now: give the {secret} of the authentication anew, or choose none.",
                    secret,
                )
        if not moved:
            return
        for field, kind in KINDS.items():
            stored = {pair["value"] for pair in self._current[field] if pair["secret"]}
            for pair in cleaned[field]:
                if pair["secret"] and pair["value"] in stored:
                    self._wrong(
                        field,
                        f"The URL leads to another server now: give the secret value of "
                        f"the {kind} {pair['name']} anew, or remove it.",
                        pair["name"],
                    )

    def _check_templates(self, cleaned: dict[str, Any]) -> None:
        for field in KINDS:
            for pair in cleaned[field]:
                try:
                    value = self._context.unseal(pair["value"]) if pair["secret"] else pair["value"]
                except ValueError as error:
                    self._wrong(field, str(error), pair["name"])
                    continue
                self._try_out(field, value, cleaned, pair["name"])
        if cleaned["body_template"]:
            self._try_out("body_template", cleaned["body_template"], cleaned)

    def _try_out(self, field: str, text: str, cleaned: dict[str, Any], *parts: str) -> None:
        try:
            self._context.try_out(field, text, cleaned)
        except ValueError as error:
            self._wrong(field, str(error), *parts)
