"""Recover: send again what failed or is held, or discard what is held, however many they are.

A recovery is a row; batches of its deliveries are changed together with it, in one transaction
that locks it. So it can be paused, resumed and cancelled at any moment, and one whose worker was
killed goes on from its last batch: nothing is left out, nothing is taken twice.

Few deliveries are done at once, in the request. More are counted to the end and taken by runs of
some seconds in the maintenance worker, so that the sweep gets its turn between them.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal import queues, vault
from portal.audit.log import record
from portal.clock import SECOND, now
from portal.db.session import db, reading, table, writing
from portal.db.slices import hand_on
from portal.errors import Conflict, NotFound, Unavailable
from portal.ids import new_id
from portal.models import Delivery, Recovery, Webhook
from portal.models.delivery import FAILED, HELD, PENDING, given_up, still
from portal.models.locks import lock_merchant
from portal.models.recovery import DISCARD, FINISHED, PAUSED, RUNNING, RUNNING_LITERAL, SEND
from portal.recovery import selection
from portal.recovery.selection import PARTS, Count, IndexedPart, Selection

BATCH = 500
"""Deliveries looked at in one transaction: some milliseconds of the write lock."""
REST_SECONDS = 0.02
"""Pause between batches, in which ingest and workers write; as long as the batch took at least."""
RUN_SECONDS = 3.0
"""How long one job works before the next in the queue has its turn; all that a merchant has running
together, so that another's waits for no more than that."""
REQUEST_SECONDS = 1.0
"""How long a request works on few deliveries before the worker takes over."""
STALE = 30 * SECOND
"""A running recovery without a sign of life for so long has lost its worker."""
MAX_OPEN = 20
"""Recoveries of a merchant that have not ended."""
LISTED = 20

_delivery, _recovery = table(Delivery), table(Recovery)
_log = logging.getLogger(__name__)


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
            _work(recovery_id, token, REQUEST_SECONDS, rest=False)
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
    recovery = None
    if recovery_id.isprintable():
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


def run(recovery_id: str, token: int, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Work on a recovery for its part of RUN_SECONDS, or until `should_stop`, and queue what is
    left; how many deliveries it has taken. Entry point of the job; with an old `token` it does
    nothing."""
    try:
        if not (together := _running_beside(recovery_id, token)):
            return 0
        _count(recovery_id, token)
        done = _work(recovery_id, token, RUN_SECONDS / together, should_stop=should_stop)
    except Unavailable as error:
        # The sweep queues it again.
        _log.warning("Recovery %s waits: %s", recovery_id, error)
        return 0
    return done


def _running_beside(recovery_id: str, token: int) -> int:
    """How many recoveries of its merchant are running, with this one; none where it is not."""
    with reading() as session:
        merchant_id = session.scalar(
            sa.select(Recovery.merchant_id).where(
                Recovery.id == recovery_id,
                Recovery.token == token,
                Recovery.state == RUNNING_LITERAL,
            )
        )
        if merchant_id is None:
            return 0
        return (
            session.scalar(
                sa.select(sa.func.count())
                .select_from(Recovery)
                .where(Recovery.merchant_id == merchant_id, Recovery.state == RUNNING_LITERAL)
            )
            or 0
        )


def sweep() -> int:
    """Queue running recoveries that have lost their worker, or their job; how many."""
    with reading() as session:
        stale = session.execute(
            sa.select(Recovery.id, Recovery.token).where(
                Recovery.state == RUNNING_LITERAL, Recovery.worked_at < now() - STALE
            )
        ).all()
    lost = [row for row in stale if not queues.waits_for_recovery(*row)]
    for recovery_id, token in lost:
        _hand_on(recovery_id, token)
    return len(lost)


def _count(recovery_id: str, token: int) -> None:
    """Count what there is to take, once, before the first batch."""
    with reading() as session:
        recovery = session.get(Recovery, recovery_id)
        if recovery is None or recovery.total is not None:
            return
        wanted = Selection.of(recovery)
        total = sum(
            selection.count_all(session, part, wanted, webhook)
            for webhook in session.scalars(selection.webhooks(recovery.merchant_id, wanted)).all()
            for part in PARTS
            if selection.has_part(part, wanted, webhook)
        )
    with writing() as session:
        session.execute(
            sa.update(_recovery)
            .where(_recovery.c.id == recovery_id, _recovery.c.token == token)
            .values(total=total, worked_at=now())
        )


def _work(
    recovery_id: str,
    token: int,
    seconds: float,
    *,
    rest: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    done, end = 0, time.monotonic() + seconds
    while not should_stop():
        began = time.monotonic()
        with writing() as session:
            # The lock: whoever holds the row's, on SQLite the database's, writes this batch.
            recovery = session.scalar(
                sa.select(Recovery)
                .where(Recovery.id == recovery_id, Recovery.token == token)
                .with_for_update()
            )
            if recovery is None or recovery.state != RUNNING:
                return done
            before, lanes = recovery.done, _step(session, recovery)
            done += recovery.done - before
            is_over = not recovery.is_open
        queues.wake(lanes)
        if is_over:
            return done
        if time.monotonic() >= end:
            break
        if rest:
            time.sleep(max(time.monotonic() - began, REST_SECONDS))
    _hand_on(recovery_id, token)
    return done


def _hand_on(recovery_id: str, token: int) -> None:
    with writing() as session:
        handed_on = hand_on(
            session,
            _recovery,
            token,
            _recovery.c.id == recovery_id,
            _recovery.c.state == RUNNING_LITERAL,
        )
    if handed_on is not None:
        queues.enqueue_recovery(recovery_id, handed_on)


def _step(session: scoped_session[Any], recovery: Recovery) -> list[int]:
    """Take one batch and move on, inside the running transaction; the lanes with new work."""
    wanted = Selection.of(recovery)
    place = recovery.place or {"webhook": "", "part": len(PARTS)}
    recovery.worked_at = now()
    webhooks = selection.webhooks(recovery.merchant_id, wanted).limit(1)
    webhook = None
    if place["part"] < len(PARTS):
        webhook = session.scalar(webhooks.where(Webhook.id == place["webhook"]))
    if webhook is None:
        # The next one: this one is done, or was deleted or disabled meanwhile.
        webhook = session.scalar(webhooks.where(Webhook.id > place["webhook"]))
        if webhook is None:
            recovery.end(FINISHED)
            return []
        place = {"webhook": webhook.id, "part": 0}
    part = PARTS[place["part"]]
    if selection.has_part(part, wanted, webhook):
        looked, taken = _take(session, part, wanted, webhook, place)
        recovery.done += taken
        if looked is not None:
            recovery.place = place | {"key": looked.key, "id": looked.id}
            return [webhook.lane]
    recovery.place = {"webhook": webhook.id, "part": place["part"] + 1}
    if place["part"] + 1 < len(PARTS):
        return [webhook.lane]
    if wanted.action == SEND and HELD in wanted.states and (webhook.holds or webhook.failures):
        session.refresh(webhook, with_for_update=True)
        # Without its secrets it could only be held again, and people told again.
        if not webhook.unreadable(now()):
            webhook.enable()
    return [webhook.lane]


def _take(
    session: scoped_session[Any],
    part: IndexedPart,
    wanted: Selection,
    webhook: Webhook,
    place: dict[str, Any],
) -> tuple[sa.Row[Any] | None, int]:
    """Change the next BATCH of a part; the last row that was looked at where there may be more,
    and how many were taken."""
    query = selection.rows(part, wanted, webhook)
    if "key" in place:
        query = query.where(
            sa.tuple_(part.key, _delivery.c.id) > sa.tuple_(place["key"], place["id"])
        )
    found = session.execute(query.order_by(part.key, _delivery.c.id).limit(BATCH)).all()
    ids = [row.id for row in found if row.is_wanted]
    taken = len(ids)
    if wanted.action != SEND:
        taken = _update(session, PENDING, ids, given_up("Discarded by a person.", now()))
    elif part.state == FAILED:
        # A moment for each batch: what failed first is sent first.
        taken = _update(
            session,
            FAILED,
            ids,
            {
                "state": "pending",
                "step": 0,
                "is_retry": True,
                "trigger": "manual",
                "hurries": 0,
                "reason": None,
                "finished_at": None,
                "next_attempt_at": now(),
            },
        )
    else:
        # They go out when the webhook sends again; none of them waits for its next retry then.
        # Those that are brought forward fall behind the place: rows are in order of that time.
        moment = now()
        later = [row.id for row in found if row.key > moment]
        _update(session, PENDING, later, {"next_attempt_at": moment, "trigger": "manual"})
    return (found[-1] if len(found) == BATCH else None), taken


def _update(
    session: scoped_session[Any], state: str, ids: list[str], values: dict[str, Any]
) -> int:
    if not ids:
        return 0
    changed = session.execute(
        sa.update(_delivery).where(_delivery.c.id.in_(ids), still(state)).values(values)
    )
    return int(changed.rowcount)  # type: ignore[attr-defined]
