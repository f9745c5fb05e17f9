"""Flask's extensions that pages use: sign-ins, form tokens, and limits on tries."""

from __future__ import annotations

import hmac
from typing import Any

from flask import request
from flask_limiter import Limiter
from flask_login import LoginManager
from flask_wtf import CSRFProtect
from redis.backoff import NoBackoff
from redis.retry import Retry

from portal.addresses import network_of
from portal.web.limit_counts import LimitCounts

csrf = CSRFProtect()
login = LoginManager()


def sender_network() -> str:
    """Whom limits count a request for that nobody has signed in for (addresses.network_of)."""
    return network_of(request.remote_addr or "")


limiter = Limiter(sender_network, swallow_errors=True)
"""Limits on tries of passwords and links, on what is mailed and on what an inspector takes, counted
in Redis and in the process's memory (portal.web.limit_counts)."""
LIMITED = (
    "auth", "second_factor", "passwords", "account", "shared", "invitations", "settings",
    "inspected", "policy_reports",
)


@limiter.request_filter
def _is_unlimited() -> bool:
    # Other requests must not even look for Redis: it may hang, and they promise to be quick.
    return request.blueprint not in LIMITED


def limiter_settings(redis_url: str, secret_key: str) -> dict[str, Any]:
    """Flask-Limiter's settings for a PORTAL_REDIS_URL: it gives up after a second. Its names are
    those of the installation with that key, also before there is a database."""
    name = hmac.digest(secret_key.encode(), b"limits", "sha256").hex()[:8]
    return {
        "RATELIMIT_KEY_PREFIX": f"portal:{name}",
        "RATELIMIT_STORAGE_URI": f"{LimitCounts.STORAGE_SCHEME[0]}://",
        "RATELIMIT_STORAGE_OPTIONS": {
            "address": redis_url.replace("unix://", "redis+unix://", 1),
            "socket_timeout": 1, "socket_connect_timeout": 1, "retry": Retry(NoBackoff(), 0),
        },
    }
