"""The request of one attempt: URL, parameters, headers, body, signed.

`requests` encodes the URL and checks the headers, so a preview, a copied cURL line and the
request on the wire are one thing.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.exceptions import InvalidHeader, RequestException

from portal import vault
from portal.clock import SECOND
from portal.delivery import templating
from portal.delivery.signing import Signer
from portal.models.webhook import MASK, Pair, Webhook

USER_AGENT = "Webhook-Portal/1.0 (Standard-Webhooks)"
RECORD, THIN, OWN, NONE = "record", "thin", "own", "none"
_MASK_IN_URL = "PORTALMASK"


class ComposeError(Exception):
    """The request cannot be made; `code` is what the attempt's log shows as its error."""

    def __init__(self, code: str, detail: str):
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Payload:
    """An event's body in its three pieces of JSON text (models.EventPayload)."""

    head: str
    data: str | None = None
    previous: str | None = None


@dataclass(frozen=True)
class Outgoing:
    """One request, ready to be sent; `shown_*` are what pages and logs may hold."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes | None
    body_kind: str
    shown_url: str
    shown_headers: list[tuple[str, str]]


@dataclass(frozen=True)
class Target:
    """A webhook's settings with its secrets opened: all that composing needs."""

    method: str
    url: str
    query_params: list[Pair] = field(default_factory=list)
    headers: list[Pair] = field(default_factory=list)
    include_object_record: bool = True
    body_template: str | None = None
    signing_secrets: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, webhook: Webhook, moment: int) -> Target:
        """The target of a stored webhook, signing with the secrets valid at `moment` (Unix µs)."""
        return cls(
            method=webhook.method,
            url=webhook.url,
            query_params=[_opened(pair) for pair in webhook.query_params],
            headers=[_opened(pair) for pair in webhook.headers],
            include_object_record=webhook.include_object_record,
            body_template=webhook.body_template,
            signing_secrets=webhook.signing_secrets(moment),
        )


def _opened(pair: Pair) -> Pair:
    if not pair["secret"]:
        return pair
    return {"name": pair["name"], "value": vault.decrypt(pair["value"]), "secret": True}


def event_body(payload: Payload, include_record: bool) -> str:
    """The event's JSON text as a target receives it, with or without its object record."""
    if not include_record:
        return payload.head
    text = payload.head[:-1]
    if payload.data is not None:
        text += ',"data":' + payload.data
    if payload.previous is not None:
        text += ',"previous":' + payload.previous
    return text + "}"


class Composer:
    """Makes the requests of one webhook; what does not depend on the event is made once."""

    def __init__(self, target: Target):
        self._target = target
        self._signer = Signer(target.signing_secrets)
        pairs = [*target.query_params, *target.headers]
        self._has_templates = any(templating.is_template(pair["value"]) for pair in pairs)
        self._fixed = None if self._has_templates else self._frame({})

    def compose(self, event_id: str, payload: Payload, moment: int) -> Outgoing:
        """The signed request for an event at `moment` (Unix µs). Raises ComposeError."""
        target = self._target
        body, kind = self._body(payload)
        if self._fixed is not None:
            url, shown_url, headers, shown_headers = self._fixed
        else:
            url, shown_url, headers, shown_headers = self._frame(self._event(payload))
        signature = self._signer.headers(event_id, moment // SECOND, body or b"")
        return Outgoing(
            target.method, url, headers + signature, body, kind,
            shown_url, shown_headers + signature,
        )

    def _event(self, payload: Payload) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(
            event_body(payload, self._target.include_object_record)
        )
        return event

    def _body(self, payload: Payload) -> tuple[bytes | None, str]:
        target = self._target
        if target.method == "GET":
            return None, NONE
        if target.body_template:
            text = _render(target.body_template, self._event(payload), "the body template")
            return text.encode(), OWN
        kind = RECORD if target.include_object_record else THIN
        return event_body(payload, target.include_object_record).encode(), kind

    def _frame(
        self, event: dict[str, Any]
    ) -> tuple[str, str, list[tuple[str, str]], list[tuple[str, str]]]:
        target = self._target
        params = list(_rendered(target.query_params, event, "query parameter"))
        headers = list(_rendered(target.headers, event, "header"))
        names = {name.lower() for name, _, _ in headers}
        own = [("User-Agent", USER_AGENT)] if "user-agent" not in names else []
        if target.method != "GET" and "content-type" not in names:
            own.insert(0, ("Content-Type", "application/json"))
        prepared = self._prepare(params, headers)
        shown = self._prepare(
            [(name, _MASK_IN_URL if secret else value, secret) for name, value, secret in params],
            [],
        )
        return (
            str(prepared.url),
            str(shown.url).replace(_MASK_IN_URL, MASK),
            own + [(name, value) for name, value, _ in headers],
            own + [(name, MASK if secret else value) for name, value, secret in headers],
        )

    def _prepare(
        self, params: list[tuple[str, str, bool]], headers: list[tuple[str, str, bool]]
    ) -> requests.PreparedRequest:
        try:
            return requests.Request(
                self._target.method,
                self._target.url,
                params=[(name, value) for name, value, _ in params],
                headers={name: value for name, value, _ in headers},
            ).prepare()
        except InvalidHeader:
            raise ComposeError(
                "invalid_header", "A header's value holds a line break or starts with a space."
            ) from None
        except (RequestException, ValueError) as error:
            raise ComposeError("invalid_url", f"The URL cannot be requested: {error}") from None


def _rendered(
    pairs: Iterable[Pair], event: dict[str, Any], kind: str
) -> Iterable[tuple[str, str, bool]]:
    for pair in pairs:
        value = _render(pair["value"], event, f"the {kind} {pair['name']}")
        if "\0" in value:
            raise ComposeError("invalid_header", f"The {kind} {pair['name']} holds a NUL.")
        yield pair["name"], value, pair["secret"]


def _render(text: str, event: dict[str, Any], place: str) -> str:
    try:
        return templating.render(text, event)
    except templating.TemplateFailed as error:
        raise ComposeError("template_error", f"In {place}, {error}.") from None


def as_curl(method: str, url: str, headers: Iterable[tuple[str, str]], body: str | None) -> str:
    """A cURL command line that makes the same request, quoted for a POSIX shell."""
    parts = ["curl", "--request", method, shlex.quote(url)]
    for name, value in headers:
        # cURL leaves out a header with an empty value unless it ends in a semicolon.
        parts += ["\\\n  --header", shlex.quote(f"{name}: {value}" if value else f"{name};")]
    if body is not None:
        parts += ["\\\n  --data-raw", shlex.quote(body)]
    return " ".join(parts)
