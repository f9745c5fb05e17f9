"""How long a replaced signing secret goes on signing, and how many of them at once."""

from __future__ import annotations

from typing import Any

from portal.clock import now, readable
from portal.errors import FieldError, Invalid
from portal.models import Webhook
from portal.signing import MAX_OLD_SECRETS
from portal.strict_json import whole

MAX_OVERLAP_HOURS = 7 * 24
_POINTER = "/overlap_hours"


def overlap_hours(value: Any) -> int:
    """The hours of an overlap, checked. Raises Invalid."""
    hours = whole(value)
    if hours is None or not 0 <= hours <= MAX_OVERLAP_HOURS:
        raise Invalid(
            [
                FieldError(
                    _POINTER,
                    f"The overlap is a whole number of hours from 0 to {MAX_OVERLAP_HOURS}.",
                )
            ]
        )
    return hours


def refuse_many(webhook: Webhook, hours: int) -> None:
    """Raise Invalid if the secret would be one more than MAX_OLD_SECRETS that go on signing; with
    an overlap of 0 hours none does."""
    signing_still = webhook.old_secrets_at(now())
    if hours and len(signing_still) >= MAX_OLD_SECRETS:
        first = min(old["until"] for old in signing_still)
        raise Invalid(
            [
                FieldError(
                    _POINTER,
                    f"{len(signing_still)} replaced secrets still sign; the first of them ends "
                    f"at {readable(first)}. Rotate after that, or with an overlap of 0 "
                    f"hours, which ends "
                    "all of them.",
                )
            ]
        )
