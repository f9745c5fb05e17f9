"""The request of one attempt: URL, parameters, headers, body, signed.

`requests` encodes the URL and checks the headers, so a preview, a copied cURL line and the
request on the wire are one thing.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import requests
from requests.exceptions import InvalidHeader, RequestException

from portal import vault
from portal.characters import CONTROLS, HALVES, LINE_ENDS, one_of
from portal.clock import SECOND
from portal.composing.cell_limits import is_template
from portal.composing.cells import NotFilled, cells
from portal.composing.echoes import Echoes
from portal.models.webhook import AUTH_SECRETS, MASK, Auth, Pair, Webhook
from portal.signing import Signer
from portal.strict_json import dump

USER_AGENT = "Webhook-Portal/1.0 (Standard-Webhooks)"
RECORD, THIN, OWN, NONE = "record", "thin", "own", "none"
_MASK_IN_URL = "PORTALMASK"
UNSENDABLE = one_of(CONTROLS, LINE_ENDS, HALVES, but="\t")
"""What a header's value cannot hold: controls (RFC 9110, 5.5), all that somebody takes for the end
of a line, and halves of characters."""
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What a header's name is (RFC 9110, 5.1)."""
MAX_URL, MAX_HEADERS = 16 * 1024, 64 * 1024
"""Bytes of a request's URL, and of its headers together: no receiver in wide use takes more unless
it is set up for that, and both are logged with each attempt and answered in lists of them."""


class ComposeError(Exception):
    """The request cannot be made; `code` is what the attempt's log shows as its error."""

    def __init__(self, code: str, detail: str):
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(slots=True)
class Payload:
    """An event's body in its three pieces of JSON text (models.EventPayload)."""

    head: str
    data: str | None = None
    previous: str | None = None


@dataclass(frozen=True)
class Certificate:
    """A client certificate with its chain, and its private key, in PEM."""

    chain: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Frame:
    """What the requests of a webhook have in common where no template fills it in; `shown_*` are
    what pages and logs may hold."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    shown_url: str
    shown_headers: list[tuple[str, str]]
    certificate: Certificate | None = None
    secrets: Sequence[str] = field(default=(), repr=False)
    """The secret values that parameters and headers hold."""

    @cached_property
    def echoes(self) -> Echoes:
        """The secrets, to be looked for in answers."""
        return Echoes(self.secrets)

    @cached_property
    def lines(self) -> list[bytes]:
        """The headers as they go over the wire."""
        return header_lines(self.headers)

    @cached_property
    def shown_start(self) -> str:
        """The shown headers as the start of a JSON list that goes on."""
        return dump(self.shown_headers)[:-1] + ("," if self.shown_headers else "")


@dataclass(slots=True)
class Outgoing:
    """One request, ready to be sent."""

    frame: Frame
    signature: list[tuple[str, str]]
    body: bytes | None
    body_kind: str

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.frame.method

    @property
    def url(self) -> str:
        """The URL with its parameters."""
        return self.frame.url

    @property
    def shown_url(self) -> str:
        """The URL, secret parameters masked."""
        return self.frame.shown_url

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All headers that are sent."""
        return self.frame.headers + self.signature

    @property
    def shown_headers(self) -> list[tuple[str, str]]:
        """All headers, secret values masked."""
        return self.frame.shown_headers + self.signature

    def lines(self) -> list[bytes]:
        """All headers as they go over the wire."""
        return self.frame.lines + header_lines(self.signature)

    def logged_headers(self) -> str:
        """The shown headers as JSON text: a list of [name, value]."""
        return self.frame.shown_start + dump(self.signature)[1:]


class _Field(NamedTuple):
    """A parameter or a header, and whether its value is to be masked where it is shown."""

    name: str
    value: str
    is_secret: bool


def header_lines(headers: Iterable[tuple[str, str]]) -> list[bytes]:
    """Headers as libcurl takes them: one with an empty value ends in a semicolon, or it would be
    left out."""
    return [
        f"{name}: {value}".encode() if value else f"{name};".encode() for name, value in headers
    ]


@dataclass(frozen=True)
class Target:
    """A webhook's settings with its secrets opened: all that composing needs."""

    method: str
    url: str
    query_params: list[Pair] = field(default_factory=list)
    headers: list[Pair] = field(default_factory=list)
    authorization: str | None = None
    certificate: Certificate | None = None
    include_object_record: bool = True
    body_template: str | None = None
    signing_secrets: list[str] = field(default_factory=list)
    sign_ed25519: bool = False

    @classmethod
    def of(cls, webhook: Webhook, signing_secrets: list[str]) -> Target:
        """The target that a webhook's settings make, which signs with these secrets."""
        return cls(
            method=webhook.method,
            url=webhook.url,
            query_params=[_opened(pair) for pair in webhook.query_params],
            headers=[_opened(pair) for pair in webhook.headers],
            authorization=authorization(webhook.auth),
            certificate=certificate(webhook.auth),
            include_object_record=webhook.include_object_record,
            body_template=webhook.body_template,
            signing_secrets=signing_secrets,
            sign_ed25519=webhook.sign_ed25519,
        )

    def with_token(self, token: str) -> Target:
        """The same target, authenticated to with an access token (RFC 6750)."""
        return replace(self, authorization=f"Bearer {token}")


def _opened(pair: Pair) -> Pair:
    if not pair["secret"]:
        return pair
    return {"name": pair["name"], "value": vault.decrypt(pair["value"]), "secret": True}


def authorization(auth: Auth | None) -> str | None:
    """The value of the Authorization header (RFC 7617 in UTF-8, RFC 6750); None without one, and
    where it needs an access token (`Target.with_token`)."""
    if auth is None or auth["type"] not in ("basic", "bearer"):
        return None
    secret = vault.decrypt(auth[AUTH_SECRETS[auth["type"]]])
    return f"Bearer {secret}" if auth["type"] == "bearer" else basic(auth["user"], secret)


def basic(user: str, password: str) -> str:
    """User and password as HTTP Basic sends them (RFC 7617, in UTF-8)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def certificate(auth: Auth | None) -> Certificate | None:
    """The client certificate of a webhook's authentication; None where it has none."""
    if auth is None or auth["type"] != "certificate":
        return None
    return Certificate(auth["certificate"], vault.decrypt(auth["key"]))


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
        self._signer = Signer(target.signing_secrets, ed25519=target.sign_ed25519)
        in_frame = [
            (pair["value"], f"the {kind} {UNSENDABLE.sub(' ', pair['name'][:80])}")
            for kind, pairs in (
                ("query parameter", target.query_params),
                ("header", target.headers),
            )
            for pair in pairs
            if is_template(pair["value"])
        ]
        body = "" if target.method == "GET" else target.body_template or ""
        in_body = [(body, "the body template")] if is_template(body) else []
        self._called = dict(reversed(in_frame + in_body))
        """Where each template stands first."""
        self.templates = list(self._called)
        """The templates that must be filled for each request."""
        self._is_fixed = not in_frame
        self._fixed: Frame | None = None

    def compose(
        self, event_id: str, payload: Payload, moment: int, filled: Sequence[str] | None = None
    ) -> Outgoing:
        """The signed request for an event at `moment` (Unix µs). `filled` is what `templates` make
        of `event(payload)`; without it they are filled now, which takes its time.

        Raises ComposeError.
        """
        if self.templates and filled is None:
            try:
                filled = cells.fill(self.event(payload), self.templates)
            except NotFilled as error:
                raise self.failure(error) from None
        texts = dict(zip(self.templates, filled or (), strict=True))
        body, kind = self._body(payload, texts)
        frame = self._fixed or self._frame(texts)
        if self._is_fixed:
            self._fixed = frame
        signature = self._signer.headers(event_id, moment // SECOND, body or b"")
        return Outgoing(frame, signature, body, kind)

    def event(self, payload: Payload) -> str:
        """The JSON text of an event as the templates see it."""
        return event_body(payload, self._target.include_object_record)

    def failure(self, error: NotFilled) -> ComposeError:
        """What it means for a request that its templates were not filled."""
        called = self._called[self.templates[error.template]]
        return ComposeError("template_error", f"In {called}, {error}.")

    def _body(self, payload: Payload, texts: Mapping[str, str]) -> tuple[bytes | None, str]:
        target = self._target
        if target.method == "GET":
            return None, NONE
        if target.body_template:
            return texts.get(target.body_template, target.body_template).encode(), OWN
        return self.event(payload).encode(), RECORD if target.include_object_record else THIN

    def _frame(self, texts: Mapping[str, str]) -> Frame:
        target = self._target
        params = list(_filled(target.query_params, texts))
        # Before anything is made of them: one text may stand in fifty parameters, and to encode it
        # fifty times would keep all other deliveries waiting.
        size = len(target.url) + sum(len(one.name) + len(one.value) for one in params)
        _refuse_beyond(MAX_URL, size, "The URL", "parameters", "at least ")
        headers = self._headers(texts)
        for header in headers:
            if not TOKEN.fullmatch(header.name):
                raise ComposeError(
                    "invalid_header",
                    f"The header name {header.name[:80]!r} cannot be sent: use letters, "
                    "digits and hyphens.",
                )
        if target.authorization is not None:
            headers.append(_Field("Authorization", target.authorization, is_secret=True))
        names = {header.name.lower() for header in headers}
        own = [("User-Agent", USER_AGENT)] if "user-agent" not in names else []
        if target.method != "GET" and "content-type" not in names:
            own.insert(0, ("Content-Type", "application/json"))
        prepared = self._prepare(params, headers)
        _refuse_beyond(MAX_URL, len(str(prepared.url)), "The URL", "parameters")
        size = sum(len(f"{one.name}: {one.value}".encode()) for one in headers)
        _refuse_beyond(MAX_HEADERS, size, "The headers together", "headers")
        shown = self._prepare(
            [one._replace(value=_MASK_IN_URL) if one.is_secret else one for one in params], []
        )
        return Frame(
            target.method,
            str(prepared.url),
            own + [(one.name, one.value) for one in headers],
            str(shown.url).replace(_MASK_IN_URL, MASK),
            own + [(one.name, MASK if one.is_secret else one.value) for one in headers],
            target.certificate,
            [one.value for one in params + headers if one.is_secret],
        )

    def _headers(self, texts: Mapping[str, str]) -> list[_Field]:
        trimmed = {text: text.strip() for text in texts.values()}
        filled = [
            one._replace(value=trimmed.get(one.value, one.value))
            for one in _filled(self._target.headers, texts)
        ]
        size = sum(len(one.name) + len(one.value) for one in filled)
        _refuse_beyond(MAX_HEADERS, size, "The headers together", "headers", "at least ")
        return [one._replace(value=field_value(one.value)) for one in filled]

    def _prepare(self, params: list[_Field], headers: list[_Field]) -> requests.PreparedRequest:
        try:
            return requests.Request(
                self._target.method,
                self._target.url,
                params=[(one.name, one.value) for one in params],
                headers={one.name: one.value for one in headers},
            ).prepare()
        except InvalidHeader:
            raise ComposeError(
                "invalid_header", "A header holds what cannot be sent; correct its name or value."
            ) from None
        except (RequestException, ValueError) as error:
            why = str(error).rstrip(".")[:300]
            raise ComposeError("invalid_url", f"The URL cannot be requested: {why}.") from None


def _filled(pairs: Iterable[Pair], texts: Mapping[str, str]) -> Iterable[_Field]:
    for pair in pairs:
        yield _Field(pair["name"], texts.get(pair["value"], pair["value"]), pair["secret"])


def _refuse_beyond(limit: int, size: int, what: str, field: str, how: str = "") -> None:
    if size > limit:
        raise ComposeError(
            "request_too_large",
            f"{what} would have {how}{size:,} bytes; at most {limit:,} are "
            f"sent. Let the templates in {field} make less.",
        )


def field_value(text: str) -> str:
    """A text as the value of a header, which is sent in UTF-8: without white space around it (RFC
    9110, 5.5), and with a space for what it cannot hold."""
    return UNSENDABLE.sub(" ", text).strip()
