"""Recoveries: sending again what failed, discarding what is held, and how far that is."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, g

from portal.api import reading, shapes
from portal.api.answers import answer
from portal.api.blueprint import bp
from portal.api.idempotency import done_once
from portal.errors import FieldError, Invalid
from portal.models import Recovery
from portal.models.delivery import FAILED, HELD
from portal.models.recovery import DISCARD, SEND
from portal.recovery import recovery
from portal.recovery.selection import Selection
from portal.webhooks import setup


@bp.post("/webhooks/<webhook_id>/recover")
@done_once
def recover_webhook(webhook_id: str) -> Response:
    """Send again everything that failed since a moment, and what is held."""
    setup.get_webhook(g.merchant_id, webhook_id)
    fields = reading.optional_body("since")
    if "since" not in fields:
        raise Invalid(
            [FieldError("/since", "since is missing; give Unix seconds or an ISO 8601 time.")]
        )
    since = reading.moment("since", fields["since"])
    return _start(Selection(SEND, (FAILED, HELD), webhook_id, since))


@bp.post("/webhooks/<webhook_id>/discard-held")
@done_once
def discard_held(webhook_id: str) -> Response:
    """Give up what is held, or what of it came in since a moment."""
    setup.get_webhook(g.merchant_id, webhook_id)
    fields = reading.optional_body("since")
    since = reading.moment("since", fields["since"]) if "since" in fields else None
    return _start(Selection(DISCARD, (HELD,), webhook_id, since))


def _start(wanted: Selection) -> Response:
    started, count = recovery.start(g.merchant_id, wanted, reading.actor())
    return answer(
        {"deliveries": count.number, "exact": count.is_exact, "recovery_id": started.id}, 202
    )


@bp.get("/recoveries/<recovery_id>")
def show_recovery(recovery_id: str) -> Response:
    """How far a recovery is."""
    reading.parameters()
    return answer(shapes.recovery(recovery.find(g.merchant_id, recovery_id)))


@bp.post("/recoveries/<recovery_id>/pause")
@done_once
def pause_recovery(recovery_id: str) -> Response:
    """Stop it after its current batch."""
    return _changed(recovery_id, recovery.pause)


@bp.post("/recoveries/<recovery_id>/resume")
@done_once
def resume_recovery(recovery_id: str) -> Response:
    """Go on with it."""
    return _changed(recovery_id, recovery.resume)


@bp.post("/recoveries/<recovery_id>/cancel")
@done_once
def cancel_recovery(recovery_id: str) -> Response:
    """End it; the rest stays as it is."""
    return _changed(recovery_id, recovery.cancel)


def _changed(recovery_id: str, change: Callable[[int, str, str], Recovery]) -> Response:
    recovery.find(g.merchant_id, recovery_id)
    reading.optional_body()
    return answer(shapes.recovery(change(g.merchant_id, recovery_id, reading.actor())))
