"""Flask's extensions that pages use: sign-ins, form tokens, and limits on tries."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from flask import request
from flask_limiter import Limiter
from flask_login import LoginManager
from flask_wtf import CSRFProtect
from redis.backoff import NoBackoff
from redis.retry import Retry

from portal import queues
from portal.addresses import network_of, site_of
from portal.redis_trouble import RedisTrouble
from portal.web.limit_counts import LimitCounts

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")

csrf = CSRFProtect()
login = LoginManager()


def sender_network() -> str:
    """Whom limits count a request for that nobody has signed in for (addresses.network_of)."""
    return network_of(request.remote_addr or "")


def sender_site() -> str:
    """Whom the wider limits count it for (addresses.site_of)."""
    return site_of(request.remote_addr or "")


limiter = Limiter(sender_network, swallow_errors=True)
"""Limits on tries of passwords and links, on what is mailed and on what an inspector takes, counted
in Redis and in the process's memory (portal.web.limit_counts)."""
LIMITED = (
    "auth",
    "second_factor",
    "passwords",
    "account",
    "shared",
    "invitations",
    "settings",
    "inspected",
    "policy_reports",
)


SITE_TIMES = 4
"""How many times what a network may do all networks of one site may do together: it has up to
65,536 of them, and people of several households or offices may be behind it."""


def limit_by_sender(
    limit: str, key_of: Callable[[str], str] = lambda sender: sender, **options: Any
) -> Callable[[Callable[_Given, _Answer]], Callable[_Given, _Answer]]:
    """Limit a view by who sends: each network, and each site that may have several. `key_of` makes
    the name under which one is counted."""
    by_network = limiter.limit(limit, key_func=lambda: key_of(sender_network()), **options)
    by_site = limiter.limit(
        re.sub(r"\d+(?= per)", lambda number: str(int(number[0]) * SITE_TIMES), limit),
        key_func=lambda: key_of(sender_site()),
        # Another question to Redis that would answer nothing new.
        exempt_when=lambda: sender_site() == sender_network(),
        **options,
    )
    return lambda view: by_network(by_site(view))


@limiter.request_filter
def _is_unlimited() -> bool:
    # Other requests must not even look for Redis: it may hang, and they promise to be quick.
    return request.blueprint not in LIMITED


def limiter_settings(redis_url: str, secret_key: str, trouble: RedisTrouble) -> dict[str, Any]:
    """Flask-Limiter's settings for a PORTAL_REDIS_URL: it gives up after a second, and tells of
    `trouble`. Its names are those of the installation with that key, also before there is a
    database."""
    name = hmac.digest(secret_key.encode(), b"limits", "sha256").hex()[:8]
    return {
        "RATELIMIT_KEY_PREFIX": f"portal:{name}",
        "RATELIMIT_STORAGE_URI": f"{LimitCounts.STORAGE_SCHEME[0]}://",
        "RATELIMIT_STORAGE_OPTIONS": {
            "address": redis_url.replace("unix://", "redis+unix://", 1),
            "trouble": trouble,
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
            "retry": Retry(NoBackoff(), 0),
            "protocol": queues.PROTOCOL,
        },
    }
