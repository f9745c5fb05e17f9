"""Conditional requests (RFC 9110, 13) on webhooks: edit only what was seen, fetch what is new."""

from __future__ import annotations

import hashlib

from flask import request

from portal.api import shapes
from portal.errors import PreconditionFailed
from portal.models import Webhook
from portal.strict_json import dump


def etag_of(webhook: Webhook) -> str:
    """A webhook's entity tag, without quotes: its version, and a digest of what the API shows of
    it, because its health changes without an edit and a strong tag must change with it."""
    digest = hashlib.sha256(dump(shapes.webhook(webhook)).encode()).hexdigest()
    return f"{webhook.version}-{digest[:12]}"


def is_known(tag: str) -> bool:
    """Whether If-None-Match names a tag (weak comparison): the sender has it, 304 is enough."""
    return "If-None-Match" in request.headers and request.if_none_match.contains_weak(tag)


def version_to_change(webhook: Webhook) -> int | None:
    """The version that the webhook must still have when it is written, None without If-Match.

    Raises PreconditionFailed when If-Match does not name the webhook's tag (strong comparison;
    `*` names every one).
    """
    if "If-Match" not in request.headers:
        return None
    if not request.if_match.contains(etag_of(webhook)):
        raise PreconditionFailed(
            "The webhook is not as If-Match says: it was changed, or does better or worse since. "
            "Get it again, compare, and send the change with its new ETag."
        )
    return None if request.if_match.star_tag else webhook.version
