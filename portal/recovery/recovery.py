"""Recover: send again what failed or is held, or discard what is held, however many they are.

A recovery is a row; batches of its deliveries are changed together with it, in one transaction
that locks it. So it can be paused, resumed and cancelled at any moment, and one whose worker was
killed goes on from its last batch: nothing is left out, nothing is taken twice.

Few deliveries are done at once, in the request. More are counted to the end and taken by runs of
some seconds in the maintenance worker, so that the sweep gets its turn between them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from portal import queues, vault
from portal.audit.log import record
from portal.clock import SECOND, now
from portal.db.session import db, writing
from portal.errors import Conflict, NotFound, Unavailable
from portal.ids import new_id
from portal.models import Recovery, Webhook
from portal.models.delivery import HELD
from portal.models.locks import lock_merchant
from portal.models.recovery import DISCARD, PAUSED, RUNNING, SEND
from portal.recovery import batches, selection
from portal.recovery.selection import Count, Selection

REQUEST_SECONDS = 1.0
"""How long a request works on few deliveries before the worker takes over."""
MAX_OPEN = 20
"""Recoveries of a merchant that have not ended."""
LISTED = 20


def start(merchant_id: int, wanted: Selection, actor: str) -> tuple[Recovery, Count]:
    """Begin a recovery, and how many deliveries it takes; one like it that has not ended is
    given back instead.

    Its `total` is None until a count that is not exact has been made so. Raises NotFound when
    the merchant has no such webhook, Conflict when that does not send (or, for discarding, does
    not hold) or MAX_OPEN have not ended, vault.Unreadable when no key opens its secrets,
    Unavailable.
    """
    _check_webhook(merchant_id, wanted)
    moment = now()
    counted = selection.count(merchant_id, wanted)
    with writing() as session:
        # Two at once, such as a double click, wait for each other here.
        lock_merchant(session, merchant_id)
        others = unfinished(merchant_id)
        for other in others:
            if _is_alike(other, wanted):
                return other, counted
        if len(others) >= MAX_OPEN:
            raise Conflict(f"{MAX_OPEN} recoveries have not ended; cancel one of them first.")
        recovery = Recovery(
            id=new_id("rcv"),
            merchant_id=merchant_id,
            webhook_id=wanted.webhook_id,
            action=wanted.action,
            states=list(wanted.states),
            filters=dict(wanted.filters),
            since=wanted.since,
            before=min(wanted.before or moment, moment),
            total=counted.number if counted.is_exact else None,
            created_by=actor[:300],
            created_at=moment,
        )
        session.add(recovery)
        session.flush()
        record(
            session,
            actor,
            "recovery.started",
            recovery.id,
            merchant_id,
            does=wanted.action,
            states=list(wanted.states),
            webhook_id=wanted.webhook_id,
            since=wanted.since,
            **wanted.filters,
        )
        recovery_id, token = recovery.id, recovery.token
    if counted.is_exact:
        with contextlib.suppress(Unavailable):
            # What is not done now is found by the sweep.
            batches.work(recovery_id, token, REQUEST_SECONDS, rest=False)
    else:
        queues.enqueue_recovery(recovery_id, token)
    return find(merchant_id, recovery_id), counted


def _check_webhook(merchant_id: int, wanted: Selection) -> None:
    if wanted.webhook_id is None:
        return
    webhook = db.session.scalar(
        sa.select(Webhook).where(
            Webhook.merchant_id == merchant_id,
            Webhook.id == wanted.webhook_id,
            Webhook.deleted_at.is_(None),
        )
    )
    if webhook is None:
        raise NotFound("There is no such webhook.")
    if wanted.action == SEND and not webhook.enabled:
        raise Conflict("The webhook is disabled; enable it first.")
    if wanted.action == SEND and webhook.unreadable(now()):
        raise vault.Unreadable
    if wanted.action != SEND and not webhook.holds:
        raise Conflict("The webhook is sending; nothing of it is held.")


def _is_alike(other: Recovery, wanted: Selection) -> bool:
    # A period such as "the last 24 hours" moves on between two clicks.
    near = abs((other.since or 0) - (wanted.since or 0)) < 10 * SECOND
    return near and (
        (other.action, tuple(other.states), other.webhook_id, other.filters)
        == (wanted.action, wanted.states, wanted.webhook_id, dict(wanted.filters))
    )


def count_held(webhook: Webhook) -> Count:
    """How many deliveries a webhook holds, counted up to COUNTED."""
    held = Selection(DISCARD, (HELD,), webhook.id)
    return selection.count(webhook.merchant_id, held)


def find(merchant_id: int, recovery_id: str) -> Recovery:
    """A merchant's recovery, as it is now. Raises NotFound."""
    recovery = db.session.scalar(
        sa.select(Recovery)
        .where(Recovery.merchant_id == merchant_id, Recovery.id == recovery_id)
        .execution_options(populate_existing=True)
    )
    if recovery is None:
        raise NotFound("There is no such recovery.")
    return recovery


def latest(merchant_id: int) -> Sequence[Recovery]:
    """A merchant's last LISTED recoveries, the newest first."""
    return db.session.scalars(
        sa.select(Recovery)
        .where(Recovery.merchant_id == merchant_id)
        .order_by(Recovery.id.desc())
        .limit(LISTED)
    ).all()


def unfinished(merchant_id: int, webhook_id: str | None = None) -> Sequence[Recovery]:
    """A merchant's recoveries that have not ended, the newest first; of one webhook where given."""
    query = (
        sa.select(Recovery)
        .where(Recovery.merchant_id == merchant_id, Recovery.state.in_([RUNNING, PAUSED]))
        .order_by(Recovery.id.desc())
    )
    if webhook_id is not None:
        query = query.where(Recovery.webhook_id == webhook_id)
    return db.session.scalars(query).all()


def pause(merchant_id: int, recovery_id: str, actor: str) -> Recovery:
    """Stop a recovery after its current batch. Raises NotFound, Conflict once it has ended."""
    return _change(merchant_id, recovery_id, actor, "recovery.paused", Recovery.pause)


def cancel(merchant_id: int, recovery_id: str, actor: str) -> Recovery:
    """End a recovery after its current batch; the rest stays as it is. Raises NotFound,
    Conflict once it has ended."""
    return _change(merchant_id, recovery_id, actor, "recovery.cancelled", Recovery.cancel)


def resume(merchant_id: int, recovery_id: str, actor: str) -> Recovery:
    """Go on with a recovery. Raises NotFound, Conflict once it has ended."""
    recovery = _change(merchant_id, recovery_id, actor, "recovery.resumed", Recovery.resume)
    queues.enqueue_recovery(recovery.id, recovery.token)
    return recovery


def _change(
    merchant_id: int, recovery_id: str, actor: str, action: str, change: Callable[[Recovery], None]
) -> Recovery:
    find(merchant_id, recovery_id)
    with writing() as session:
        recovery = session.scalars(
            sa.select(Recovery).where(Recovery.id == recovery_id).with_for_update()
        ).one()
        change(recovery)
        record(session, actor, action, recovery_id, merchant_id, done=recovery.done)
    return find(merchant_id, recovery_id)
