"""Webhooks: set up, tried out, mended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, g, url_for

from portal.api import conditions, reading, shapes
from portal.api.answers import answer, listed
from portal.api.blueprint import bp
from portal.api.idempotency import done_once
from portal.delivery import actions
from portal.errors import Conflict, FieldError, Invalid, PreconditionFailed
from portal.models import Webhook
from portal.strict_json import whole
from portal.webhooks import setup
from portal.webhooks.rules import MAX_REASON

DEFAULT_OVERLAP_HOURS = 24


def _webhook(webhook_id: str) -> Webhook:
    return setup.get_webhook(g.merchant_id, webhook_id)


@bp.get("/webhooks")
def list_webhooks() -> Response:
    """Every webhook of the merchant."""
    reading.parameters()
    rows = setup.list_webhooks(g.merchant_id)
    return listed(shapes.webhook(row) for row in rows)


@bp.post("/webhooks")
@done_once
def create_webhook() -> Response:
    """Make a webhook; the answer is the only one besides rotation's that holds the secret."""
    made = setup.create_webhook(g.merchant_id, reading.body(), reading.actor())
    location = url_for("api.show_webhook", webhook_id=made.id)
    return _shown(made, 201, {"Location": location}, secret=made.secret)


@bp.get("/webhooks/<webhook_id>")
def show_webhook(webhook_id: str) -> Response:
    """One webhook; 304 where If-None-Match says that it is known."""
    reading.parameters()
    webhook = _webhook(webhook_id)
    tag = conditions.etag_of(webhook)
    if conditions.is_known(tag):
        return Response(status=304, headers={"ETag": f'"{tag}"'})
    return _shown(webhook)


@bp.patch("/webhooks/<webhook_id>")
def update_webhook(webhook_id: str) -> Response:
    """Change the fields that are given; `version` and If-Match refuse the change when another
    came first."""
    webhook = _webhook(webhook_id)
    fields = reading.body()
    given = fields.pop("version", None)
    version = whole(given)
    if version is None and given is not None:
        raise Invalid([FieldError("/version", "version is the number that the webhook showed.")])
    if version is not None and version != webhook.version:
        raise Conflict(setup.EDITED)
    expected = conditions.version_to_change(webhook)
    try:
        changed = setup.update_webhook(
            g.merchant_id, webhook_id, fields, reading.actor(), version or expected
        )
    except Conflict as edited:
        if expected is None:
            raise
        raise PreconditionFailed(edited.detail) from edited
    return _shown(changed)


@bp.delete("/webhooks/<webhook_id>")
def delete_webhook(webhook_id: str) -> tuple[str, int]:
    """Take a webhook out of use for good; what it is still owed is discarded."""
    webhook = _webhook(webhook_id)
    expected = conditions.version_to_change(webhook)
    try:
        setup.delete(g.merchant_id, webhook_id, reading.actor(), expected)
    except Conflict as edited:
        raise PreconditionFailed(edited.detail) from edited
    return "", 204


@bp.post("/webhooks/<webhook_id>/rotate-secret")
@done_once
def rotate_secret(webhook_id: str) -> Response:
    """Give a webhook a new secret; the old one signs too for `overlap_hours`."""
    fields = reading.optional_body("overlap_hours")
    hours = fields.get("overlap_hours", DEFAULT_OVERLAP_HOURS)
    rotated = setup.rotate_secret(g.merchant_id, webhook_id, reading.actor(), overlap_hours=hours)
    return _shown(rotated, secret=rotated.secret)


@bp.post("/webhooks/<webhook_id>/test")
@done_once
def test_webhook(webhook_id: str) -> Response:
    """Send the example of a type now and wait for the answer."""
    event_type = _text(reading.optional_body("type"), "type", 255)
    if not event_type:
        raise Invalid([FieldError("/type", "type is missing; give one such as order.created.")])
    tested = actions.send_test(g.merchant_id, webhook_id, event_type, reading.actor())
    return answer(shapes.attempt(tested))


@bp.post("/webhooks/<webhook_id>/enable")
@done_once
def enable_webhook(webhook_id: str) -> Response:
    """Send again."""
    reading.optional_body()
    return _shown(setup.enable(g.merchant_id, webhook_id, reading.actor()))


@bp.post("/webhooks/<webhook_id>/disable")
@done_once
def disable_webhook(webhook_id: str) -> Response:
    """Send nothing until someone enables it: what it is owed is held, what comes meanwhile is not
    owed to it."""
    reason = _text(reading.optional_body("reason"), "reason", MAX_REASON)
    reason = reason or "Disabled through the API."
    return _shown(setup.disable(g.merchant_id, webhook_id, reason, reading.actor()))


def _shown(
    webhook: Webhook, status: int = 200, headers: Mapping[str, str] | None = None, **more: str
) -> Response:
    """A webhook with its entity tag, and what this answer alone says."""
    tag = {"ETag": f'"{conditions.etag_of(webhook)}"'}
    return answer(shapes.webhook(webhook) | more, status, {**tag, **(headers or {})})


def _text(fields: dict[str, Any], name: str, longest: int) -> str | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > longest):
        raise Invalid([FieldError(f"/{name}", f"{name} is text of at most {longest} characters.")])
    return value
