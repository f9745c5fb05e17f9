"""What an attempt says: that its receiver is away, or that it dislikes one delivery. Pure.

A receiver that is *away* takes nothing, whatever it is sent: nobody answers, or only with what
speaks of the moment or of itself (408, 429, 5xx). Every other answer speaks of the one delivery.
"""

from __future__ import annotations

from enum import Enum

INTERNAL_ERROR = "internal_error"
"""The error of an attempt at which the portal itself failed, by a defect or by what is stored of
its webhook or event (portal.outbound.defects)."""
PAYLOAD_EXPIRED = "payload_expired"
"""The error of a delivery whose event is past its payload days: nothing was sent."""
TOKEN_AWAY = "token_unavailable"
"""The error of an attempt whose access token could not be had since its endpoint is away: what is
owed waits for that as it waits for the receiver itself."""
NOT_NOW = frozenset({408, 429})
"""Answers below 500 that speak of the moment and not of what was sent: whoever asks for patience
from everybody takes nothing now."""
OWN_ERRORS = frozenset(
    {
        "invalid_header",
        "invalid_url",
        "request_too_large",
        "template_error",
        "token_failed",
        INTERNAL_ERROR,
        PAYLOAD_EXPIRED,
    }
)
"""Errors that the webhook's own settings or the portal make, before the receiver hears of it."""
_NO_CONNECTION = frozenset(
    {"connect_failed", "connect_timeout", "connection_refused", "dns_failed", "egress_refused"}
)
"""Errors, with all `tls_…`, that a mere look at the target (Transport.submit) would have too."""


def is_success(status: int | None) -> bool:
    """2xx and nothing else (Standard Webhooks)."""
    return status is not None and 200 <= status < 300


class Outcome(Enum):
    """What an attempt says of its receiver."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """An answer that speaks of this delivery: 3xx, 4xx."""
    BROKEN = "broken"
    """5xx: of this delivery, or of everything."""
    BUSY = "busy"
    """408, 429, or the token endpoint is away: not now, whatever it is."""
    SILENT = "silent"
    """Somebody listens, and gives no whole answer."""
    UNREACHABLE = "unreachable"
    """Nobody listens."""
    OWN = "own"
    """Its failure is the webhook's settings' or the portal's own, and says nothing of it."""
    EXPIRED = "expired"
    """There was nothing to send any more."""

    @property
    def is_away(self) -> bool:
        """Whether it may be that the receiver takes nothing at all."""
        return self in _AWAY


_AWAY = frozenset({Outcome.BROKEN, Outcome.BUSY, Outcome.SILENT, Outcome.UNREACHABLE})


def of(
    status: int | None, error: str | None, *, was_composed: bool = True, was_connected: bool = False
) -> Outcome:
    """The outcome of an attempt with its status and error code; `was_composed` says whether there
    was a request to send, `was_connected` whether it had its connection when it failed."""
    if error == PAYLOAD_EXPIRED:
        return Outcome.EXPIRED
    if error == TOKEN_AWAY:
        return Outcome.BUSY
    if error is not None:
        if error in OWN_ERRORS or not was_composed:
            return Outcome.OWN
        failed_before = error in _NO_CONNECTION or error.startswith("tls_")
        return Outcome.UNREACHABLE if failed_before and not was_connected else Outcome.SILENT
    if is_success(status):
        return Outcome.DELIVERED
    if status is None:
        return Outcome.SILENT
    if 500 <= status < 600:
        return Outcome.BROKEN
    return Outcome.BUSY if status in NOT_NOW else Outcome.REFUSED
