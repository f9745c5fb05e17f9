"""What a webhook's fields must be, the same for the form and the API. Pure.

`clean` reports every wrong field at once and gives the columns of a webhook, with secret
values sealed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portal import signing
from portal.errors import FieldError, Invalid
from portal.models.webhook import AUTH_SECRETS, METHODS, Auth, Pair
from portal.strict_json import whole
from portal.webhooks.auth_rules import Means, clean_auth
from portal.webhooks.pair_rules import KINDS, UNSEEN, clean_pairs, pointer
from portal.webhooks.url_rules import Reach, clean_url, origin

MAX_DESCRIPTION = 500
MAX_EVENTS = 100
MAX_EVENT_NAME = 255
MAX_SOURCES = 50
MAX_TEMPLATE = 64 * 1024
MAX_ATTEMPTS = 20
MAX_DELAY = 7 * 86_400
MAX_TIMEOUT = 60
MAX_IN_FLIGHT = 500
MAX_RATE = 10_000
MAX_REASON = 500
"""Characters of why a webhook was disabled."""

FIELDS = (
    "description", "url", "method", "query_params", "headers", "auth", "events",
    "include_object_record",
    "only_sources", "except_sources", "body_template", "retry_schedule", "timeout_seconds",
    "max_in_flight", "rate_per_second", "ordered", "sign_ed25519", "enabled",
)
DEFAULTS: dict[str, Any] = {
    "description": "", "url": "", "method": "POST", "query_params": [], "headers": [],
    "auth": None, "events": [], "include_object_record": True, "only_sources": [],
    "except_sources": [], "body_template": None, "retry_schedule": None, "timeout_seconds": None,
    "max_in_flight": None, "rate_per_second": None, "ordered": False, "sign_ed25519": False,
    "enabled": True,
}
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}(?::.{1,255})?", re.DOTALL)


@dataclass(frozen=True)
class Around:
    """What the rules need to know beyond the fields themselves.

    `is_known` and `nearest` ask the catalogue; `try_out` renders a template of a `kind`
    (`query_params`, `headers`, `body_template`) for the events of a webhook and raises
    ValueError with a sentence; `seal` encrypts a secret value and `unseal` opens it.
    """

    reach: Reach
    is_known: Callable[[str], bool]
    nearest: Callable[[str], list[str]]
    try_out: Callable[[str, str, Mapping[str, Any]], None]
    seal: Callable[[str], str]
    unseal: Callable[[str], str]


def clean(
    fields: Any, current: Mapping[str, Any] | None, around: Around
) -> dict[str, Any]:
    """A webhook's columns from what a form or the API sent.

    `current` are the columns of the webhook that is edited: what is not sent stays. A new
    webhook may come with its own `secret`. Raises Invalid naming every wrong field.
    """
    return _Cleaner(fields, current, around).clean()


class _Cleaner:
    def __init__(self, fields: Any, current: Mapping[str, Any] | None, around: Around):
        if not isinstance(fields, Mapping):
            raise Invalid([FieldError("", 'A webhook is an object such as {"url": "https://…"}.')])
        self._fields = fields
        self._is_new = current is None
        self._current = DEFAULTS if current is None else current
        self._around = around
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
        for name in FIELDS:
            if name in self._fields or (self._is_new and name in ("url", "events")):
                cleaned[name] = getattr(self, f"_clean_{name}")(
                    self._fields.get(name, DEFAULTS[name])
                )
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

    def _clean_description(self, value: Any) -> str:
        if not isinstance(value, str):
            self._wrong("description", "The description is text; send it in quotes.")
        elif len(value) > MAX_DESCRIPTION:
            self._wrong(
                "description", f"The description has {len(value):,} characters; "
                f"at most {MAX_DESCRIPTION} are possible.",
            )
        elif UNSEEN.search(value):
            self._wrong(
                "description", "The description holds a line break or control character; "
                "leave it out.",
            )
        else:
            return value.strip()
        return ""

    def _clean_url(self, value: Any) -> str:
        if not isinstance(value, str):
            self._wrong("url", "The URL is text such as https://erp.example.com/hooks.")
            return ""
        try:
            return clean_url(value, self._around.reach)
        except ValueError as error:
            self._wrong("url", str(error))
            return ""

    def _clean_method(self, value: Any) -> str:
        if value not in METHODS:
            self._wrong("method", f"The method is one of {', '.join(METHODS)}.")
            return "POST"
        return str(value)

    def _clean_query_params(self, value: Any) -> list[Pair]:
        return self._clean_pairs("query_params", value)

    def _clean_headers(self, value: Any) -> list[Pair]:
        return self._clean_pairs("headers", value)

    def _clean_pairs(self, field: str, value: Any) -> list[Pair]:
        pairs, errors = clean_pairs(field, value, self._current[field], self._around.seal)
        self._errors += errors
        return pairs

    def _clean_auth(self, value: Any) -> Auth | None:
        around = self._around
        means = Means(around.seal, around.unseal, lambda url: clean_url(url, around.reach))
        auth, errors = clean_auth(value, self._current["auth"], means)
        self._errors += errors
        return auth

    def _clean_events(self, value: Any) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._wrong("events", 'events is a list such as ["order.created", "customer.*"].')
            return []
        if not value:
            self._wrong(
                "events", 'Choose at least one event, such as "order.created", or "*" for all.'
            )
        if len(value) > MAX_EVENTS:
            self._wrong(
                "events", f"There are {len(value):,} event triggers; at most {MAX_EVENTS} are "
                "possible. A group such as order.* stands for many.",
            )
            return []
        for pattern in value:
            if pattern != "*" and not self._around.is_known(pattern):
                nearest = self._around.nearest(pattern[:MAX_EVENT_NAME])
                hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
                self._wrong(
                    "events", f"The event {pattern[:80]!r} is not in the catalogue.{hint}"
                )
        return list(dict.fromkeys(value))

    def _clean_include_object_record(self, value: Any) -> bool:
        return self._flag("include_object_record", value)

    def _clean_enabled(self, value: Any) -> bool:
        return self._flag("enabled", value)

    def _flag(self, field: str, value: Any) -> bool:
        if not isinstance(value, bool):
            self._wrong(field, f"{field} is true or false.")
            return False
        return value

    def _clean_only_sources(self, value: Any) -> list[str]:
        return self._sources("only_sources", value)

    def _clean_except_sources(self, value: Any) -> list[str]:
        return self._sources("except_sources", value)

    def _sources(self, field: str, value: Any) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._wrong(field, f'{field} is a list such as ["erp", "admin:17"].')
            return []
        if len(value) > MAX_SOURCES:
            self._wrong(
                field, f"{field} has {len(value):,} entries; at most {MAX_SOURCES} are possible."
            )
            return []
        for source in value:
            if not _SOURCE.fullmatch(source) or UNSEEN.search(source):
                self._wrong(
                    field, f"{source[:80]!r} is not a source: give an application such as erp, "
                    "or one user of it such as admin:17.",
                )
        return list(dict.fromkeys(value))

    def _clean_body_template(self, value: Any) -> str | None:
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self._wrong("body_template", "The body template is text, or null for the event itself.")
            return None
        if len(value.encode("utf-8", "replace")) > MAX_TEMPLATE:
            self._wrong(
                "body_template", f"The body template is longer than {MAX_TEMPLATE // 1024} KiB."
            )
            return None
        if "\0" in value:
            self._wrong("body_template", "The body template holds a NUL character; leave it out.")
            return None
        return value

    def _clean_retry_schedule(self, value: Any) -> list[int] | None:
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or not 1 <= len(value) <= MAX_ATTEMPTS
            or not all(_is_within(delay, 0, MAX_DELAY) for delay in value)
        ):
            self._wrong(
                "retry_schedule", f"The retry schedule is 1 to {MAX_ATTEMPTS} delays in whole "
                f"seconds, each from 0 to {MAX_DELAY}, or nothing for the portal's own.",
            )
            return None
        return [int(delay) for delay in value]

    def _clean_timeout_seconds(self, value: Any) -> int | None:
        if value is None:
            return None
        if not _is_within(value, 1, MAX_TIMEOUT):
            self._wrong(
                "timeout_seconds", f"The timeout is a whole number of seconds from 1 to "
                f"{MAX_TIMEOUT}, or nothing for the portal's own.",
            )
            return None
        return int(value)

    def _clean_max_in_flight(self, value: Any) -> int | None:
        return self._limit("max_in_flight", value, MAX_IN_FLIGHT, "requests at once")

    def _clean_rate_per_second(self, value: Any) -> int | None:
        return self._limit("rate_per_second", value, MAX_RATE, "requests a second")

    def _limit(self, field: str, value: Any, most: int, what: str) -> int | None:
        if value is None:
            return None
        if not _is_within(value, 1, most):
            self._wrong(
                field, f"{field} is a whole number of {what} from 1 to {most:,}, or nothing for "
                "the portal's own.",
            )
            return None
        return int(value)

    def _clean_sign_ed25519(self, value: Any) -> bool:
        return self._flag("sign_ed25519", value)

    def _clean_ordered(self, value: Any) -> bool:
        return self._flag("ordered", value)

    def _clean_secret(self, value: Any) -> str:
        try:
            signing.secret_bytes(value if isinstance(value, str) else "")
        except ValueError as error:
            self._wrong(
                "secret", f"The secret cannot be used: {error}. Give whsec_ and base64 of 24 to "
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
                "auth", "A client certificate is shown in TLS: give a URL that starts with "
                "https://, or choose another authentication.", "type",
            )
        if auth and auth["type"] != "certificate":
            for pair in cleaned["headers"]:
                if pair["name"].lower() == "authorization":
                    self._wrong(
                        "headers", "The authentication makes the header Authorization already: "
                        "remove this one, or choose no authentication.", pair["name"],
                    )
        self._check_moved(cleaned)

    def _check_moved(self, cleaned: dict[str, Any]) -> None:
        """A secret value is for the server it was given for: another gets none of them unseen."""
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
                    "auth", f"The {'URL' if moved else 'token endpoint'} leads to another server "
                    f"now: give the {secret} of the authentication anew, or choose none.", secret,
                )
        if not moved:
            return
        for field, kind in KINDS.items():
            stored = {pair["value"] for pair in self._current[field] if pair["secret"]}
            for pair in cleaned[field]:
                if pair["secret"] and pair["value"] in stored:
                    self._wrong(
                        field, f"The URL leads to another server now: give the secret value of "
                        f"the {kind} {pair['name']} anew, or remove it.", pair["name"],
                    )

    def _check_templates(self, cleaned: dict[str, Any]) -> None:
        for field in KINDS:
            for pair in cleaned[field]:
                try:
                    value = self._around.unseal(pair["value"]) if pair["secret"] else pair["value"]
                except ValueError as error:
                    self._wrong(field, str(error), pair["name"])
                    continue
                self._try_out(field, value, cleaned, pair["name"])
        if cleaned["body_template"]:
            self._try_out("body_template", cleaned["body_template"], cleaned)

    def _try_out(self, field: str, text: str, cleaned: dict[str, Any], *parts: str) -> None:
        try:
            self._around.try_out(field, text, cleaned)
        except ValueError as error:
            self._wrong(field, str(error), *parts)


def _is_within(value: Any, low: int, high: int) -> bool:
    number = whole(value)
    return number is not None and low <= number <= high
