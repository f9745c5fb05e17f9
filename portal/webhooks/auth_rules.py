"""What a webhook authenticates to its target with must be. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from portal.errors import FieldError
from portal.models.webhook import AUTH_SECRETS, MASK, Auth
from portal.webhooks.pair_rules import UNSEEN, pointer

MAX_USER = 255
MAX_PASSWORD = 1_024
MAX_TOKEN = 8 * 1024

FIELDS = {"basic": ("type", "user", "password"), "bearer": ("type", "token")}
_EXAMPLES = (
    '{"type": "basic", "user": "…", "password": "…"}, {"type": "bearer", "token": "…"}, or null '
    "for none"
)
_VISIBLE = re.compile("[!-~]+")


def clean_auth(
    value: Any, stored: Auth | None, seal: Callable[[str], str]
) -> tuple[Auth | None, list[FieldError]]:
    """The authentication of a webhook, and what is wrong with it.

    A new secret is sealed. Where it is left out, or is the mask, the one that is `stored` for the
    same type stays.
    """
    if value is None:
        return None, []
    kind = value.get("type") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in FIELDS:
        place = "/auth/type" if isinstance(value, Mapping) else "/auth"
        return None, [FieldError(place, f"The authentication is {_EXAMPLES}.")]
    errors = [
        FieldError(
            pointer("auth", str(name)[:100]),
            f"Authentication of the type {kind} has no field {str(name)[:100]!r}; it has "
            f"{', '.join(FIELDS[kind])}.",
        )
        for name in value if name not in FIELDS[kind]
    ]
    auth: Auth = {"type": kind}
    if kind == "basic":
        problem = _user_problem(value.get("user"))
        errors += [FieldError("/auth/user", problem)] if problem else []
        auth["user"] = value.get("user", "")
    secret = AUTH_SECRETS[kind]
    given = value.get(secret, MASK)
    if given == MASK and stored is not None and stored["type"] == kind:
        auth[secret] = stored[secret]
    else:
        problem = (_password_problem if kind == "basic" else _token_problem)(given)
        errors += [FieldError(f"/auth/{secret}", problem)] if problem else []
        auth[secret] = "" if problem else seal(given)
    return (None, errors[:20]) if errors else (auth, [])


def _user_problem(user: Any) -> str | None:
    if not isinstance(user, str) or not user:
        return "Give the user for HTTP Basic."
    if len(user) > MAX_USER:
        return f"The user has at most {MAX_USER} characters."
    if ":" in user:
        # RFC 7617, 2: the first colon ends the user.
        return "A user of HTTP Basic cannot hold a colon."
    if UNSEEN.search(user):
        return "The user holds a line break or control character; leave it out."
    return None


def _password_problem(password: Any) -> str | None:
    if not isinstance(password, str) or not password or password == MASK:
        return "Give the password for HTTP Basic; none is stored that could stay."
    if len(password) > MAX_PASSWORD:
        return f"The password has at most {MAX_PASSWORD:,} characters."
    if MASK in password:
        return "The password holds the dots of a mask; replace it whole."
    if UNSEEN.search(password):
        return "The password holds a line break or control character; leave it out."
    return None


def _token_problem(token: Any) -> str | None:
    if not isinstance(token, str) or not token or token == MASK:
        return "Give the Bearer token; none is stored that could stay."
    if len(token) > MAX_TOKEN:
        return f"The Bearer token is longer than {MAX_TOKEN // 1024} KiB."
    if MASK in token:
        return "The Bearer token holds the dots of a mask; replace it whole."
    if not _VISIBLE.fullmatch(token):
        return (
            "The Bearer token holds a space, a line break or a character that is not ASCII; give "
            "the token alone, without the word Bearer."
        )
    return None
