"""Access tokens for targets that take them: OAuth 2.0 client credentials (RFC 6749, 4.4).

A token is asked for over the guarded transport, as a part of the attempt that needs it first, and
kept in this process until shortly before it ends.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

from portal import runtime, vault
from portal.characters import NOT_TEXT
from portal.clock import DAY, SECOND, now
from portal.composing.compose import OWN, USER_AGENT, Frame, Outgoing, basic
from portal.models.webhook import MASK, Auth
from portal.outbound import outcome
from portal.outbound.outcome import TOKEN_AWAY
from portal.outbound.response import Response

SECONDS = 10.0
"""How long a token endpoint may take to answer."""
LASTS_SECONDS = 300
"""How long a token is used whose end the endpoint does not tell."""
MARGIN_SECONDS = 30
"""A token is not used in its last seconds: the request must arrive, too."""
SHORTEST_SECONDS = 1
"""How long a token is used at least, whatever its endpoint says: one that ends before the request
could be made would be asked for without an end."""
KEPT, KEPT_CHARACTERS = 10_000, 16 * 1024 * 1024
"""Tokens that a process keeps; beyond them those go that were taken first. And characters of them
and of who asked for them; beyond those the longest go, of which hardly any are honest."""
TOKEN_FAILED = "token_failed"
"""The error of an attempt that got no access token."""

_TOKEN = re.compile("[!-~]{1,16384}")
_SHORTEST_MASKED = 4
"""A shorter secret would be masked inside of words, and guards nothing."""
_SHOWN = 300


class TokenRefused(Exception):
    """There is no token; the message is a sentence for people, without a secret, and `code` what
    the attempt's log shows as its error: that the endpoint refuses, or that it is away."""

    def __init__(self, message: str, *, is_away: bool = False):
        super().__init__(message)
        self.code = TOKEN_AWAY if is_away else TOKEN_FAILED


@dataclass(frozen=True)
class Client:
    """Who asks for a token, and where."""

    token_url: str
    client_id: str
    secret: str = field(repr=False)
    scope: str = ""
    audience: str = ""
    in_body: bool = False
    """Whether ID and secret go into the body; else they go as HTTP Basic (RFC 6749, 2.3.1)."""

    @classmethod
    def of(cls, auth: Auth | None) -> Client | None:
        """The client of a webhook's authentication; None where that needs no access token."""
        if auth is None or auth["type"] != "oauth2":
            return None
        return cls(
            auth["token_url"],
            auth["client_id"],
            vault.decrypt(auth["client_secret"]),
            auth["scope"],
            auth["audience"],
            auth["client_auth"] == "body",
        )


@dataclass(frozen=True)
class Token:
    """A token that was taken at a moment and ends at another (Unix µs)."""

    value: str
    taken_at: int
    ends_at: int


class Tokens:
    """Those of one process."""

    def __init__(self) -> None:
        self.by_client: dict[Client, Token] = {}
        """Those that were taken first are first."""


def known(client: Client, moment: int) -> str | None:
    """The token that this process has for a client, if it can still be used at `moment`
    (Unix µs)."""
    token = runtime.part(Tokens).by_client.get(client)
    # One that was taken later than now was so before the clock was set back: it may have ended.
    is_of_use = token is not None and token.taken_at <= moment < token.ends_at
    return token.value if token is not None and is_of_use else None


def request(client: Client) -> Outgoing:
    """The request for a token."""
    fields = {"grant_type": "client_credentials"}
    fields |= {"scope": client.scope} if client.scope else {}
    fields |= {"audience": client.audience} if client.audience else {}
    headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Accept", "application/json"),
        ("User-Agent", USER_AGENT),
    ]
    if client.in_body:
        fields |= {"client_id": client.client_id, "client_secret": client.secret}
    else:
        # Both are form-encoded first (RFC 6749, 2.3.1), so that a colon in the ID ends nothing.
        user, password = quote_plus(client.client_id), quote_plus(client.secret)
        headers.append(("Authorization", basic(user, password)))
    frame = Frame("POST", client.token_url, headers, client.token_url, [])
    return Outgoing(frame, [], urlencode(fields).encode(), OWN)


def read_token(client: Client, answer: Response, moment: int) -> str:
    """The token in an endpoint's answer, kept for later. Raises TokenRefused."""
    if answer.error is not None:
        raise _refused(
            f"did not answer ({answer.error}): {answer.error_detail}",
            client,
            is_away=answer.error != outcome.INTERNAL_ERROR,
        )
    said = _json(answer.body)
    if answer.status != 200:
        raise _refused(
            f"answered {answer.status}{_reason(said, client)}",
            client,
            is_away=outcome.of(answer.status, None).is_away,
        )
    value, kind = said.get("access_token"), said.get("token_type", "Bearer")
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise _refused("answered 200 without an access_token that can be sent", client)
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _refused(f"gave a token of the type {_shown(str(kind), client)}, not Bearer", client)
    lasts = _seconds(said.get("expires_in"))
    kept = runtime.part(Tokens).by_client
    for old in [one for one, token in list(kept.items()) if token.ends_at <= moment]:
        kept.pop(old, None)
    lasts = max(SHORTEST_SECONDS, lasts - min(MARGIN_SECONDS, lasts / 10))
    # Out first, so that a client whose token is new stands at the end.
    kept.pop(client, None)
    while len(kept) >= KEPT:
        kept.pop(next(iter(kept)), None)
    _make_room(kept, client, value)
    kept[client] = Token(value, moment, moment + int(lasts * SECOND))
    return value


def _make_room(kept: dict[Client, Token], client: Client, value: str) -> None:
    sizes = {one: _size(one, token.value) for one, token in list(kept.items())}
    beyond = sum(sizes.values()) + _size(client, value) - KEPT_CHARACTERS
    if beyond <= 0:
        return
    for one in sorted(sizes, key=lambda one: -sizes[one]):
        kept.pop(one, None)
        beyond -= sizes[one]
        if beyond <= 0:
            return


def _size(client: Client, value: str) -> int:
    parts = client.token_url, client.client_id, client.secret, client.scope, client.audience, value
    return sum(map(len, parts))


def forget(client: Client, attempted_at: int) -> None:
    """Ask anew next time: a request that began at `attempted_at` (Unix µs) was answered 401, so
    the token that was there by then does not serve."""
    kept = runtime.part(Tokens).by_client
    token = kept.get(client)
    if token is not None and (token.taken_at <= attempted_at or token.taken_at > now()):
        kept.pop(client, None)


def _refused(what: str, client: Client, *, is_away: bool = False) -> TokenRefused:
    sentence = f"The token endpoint {client.token_url} {what}".rstrip(".") + "."
    return TokenRefused(sentence, is_away=is_away)


def _reason(said: dict[str, Any], client: Client) -> str:
    """What the endpoint says of it (RFC 6749, 5.2)."""
    parts = [said.get("error"), said.get("error_description")]
    text = ": ".join(part for part in parts if isinstance(part, str) and part)
    return f" ({_shown(text, client)})" if text else ""


def _shown(text: str, client: Client) -> str:
    """What an endpoint says, as text that a database takes, and without the secret, which it may
    send back as the request held it."""
    encoded = quote_plus(client.secret)
    sent = basic(quote_plus(client.client_id), encoded).removeprefix("Basic ")
    for secret in (client.secret, encoded, sent):
        if len(secret) >= _SHORTEST_MASKED:
            text = text.replace(secret, MASK)
    return NOT_TEXT.sub("\ufffd", text[:_SHOWN])


def _json(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _seconds(value: Any) -> float:
    """`expires_in`, which some send as text; at most a day."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return LASTS_SECONDS
    return min(seconds, DAY / SECOND) if seconds > 0 else LASTS_SECONDS
