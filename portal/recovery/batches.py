"""The work of a recovery, a batch at a time: by its job, and for few deliveries by the request.

A batch of deliveries is changed together with the recovery's row, in one transaction that locks it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal import queues
from portal.clock import SECOND, now
from portal.db.session import reading, table, writing
from portal.db.slices import hand_on
from portal.errors import Unavailable
from portal.models import Delivery, Recovery, Webhook
from portal.models.delivery import FAILED, HELD, PENDING, given_up, still
from portal.models.recovery import FINISHED, RUNNING, RUNNING_LITERAL, SEND
from portal.notices import notices
from portal.recovery import selection
from portal.recovery.selection import PARTS, IndexedPart, Selection

BATCH = 500
"""Deliveries looked at in one transaction: some milliseconds of the write lock."""
REST_SECONDS = 0.02
"""Pause between batches, in which ingest and workers write; as long as the batch took at least."""
RUN_SECONDS = 3.0
"""How long one job works before the next in the queue has its turn; all that a merchant has running
together, so that another's waits for no more than that."""
STALE = 30 * SECOND
"""A running recovery without a sign of life for so long has lost its worker."""

_delivery, _recovery = table(Delivery), table(Recovery)
_log = logging.getLogger(__name__)


def run(recovery_id: str, token: int, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Work on a recovery for its part of RUN_SECONDS, or until `should_stop`, and queue what is
    left; how many deliveries it has taken. Entry point of the job; with an old `token` it does
    nothing."""
    try:
        if not (together := _running_beside(recovery_id, token)):
            return 0
        _count(recovery_id, token)
        done = work(recovery_id, token, RUN_SECONDS / together, should_stop=should_stop)
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


def work(
    recovery_id: str,
    token: int,
    seconds: float,
    *,
    rest: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Take batches for `seconds`, or until `should_stop`, and queue what is left; how many
    deliveries. With `rest`, pause after each for as long as it took. Raises Unavailable."""
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
    cursor = recovery.cursor or {"webhook": "", "part": len(PARTS)}
    recovery.worked_at = now()
    webhooks = selection.webhooks(recovery.merchant_id, wanted).limit(1)
    webhook = None
    if cursor["part"] < len(PARTS):
        webhook = session.scalar(webhooks.where(Webhook.id == cursor["webhook"]))
    if webhook is None:
        # The next one: this one is done, or was deleted or disabled meanwhile.
        webhook = session.scalar(webhooks.where(Webhook.id > cursor["webhook"]))
        if webhook is None:
            recovery.end(FINISHED)
            return []
        cursor = {"webhook": webhook.id, "part": 0}
    part = PARTS[cursor["part"]]
    if selection.has_part(part, wanted, webhook):
        looked, taken = _take(session, part, wanted, webhook, cursor)
        recovery.done += taken
        if looked is not None:
            recovery.cursor = cursor | {"key": looked.key, "id": looked.id}
            return [webhook.lane]
    recovery.cursor = {"webhook": webhook.id, "part": cursor["part"] + 1}
    if cursor["part"] + 1 < len(PARTS):
        return [webhook.lane]
    if wanted.action == SEND and HELD in wanted.states and (webhook.holds or webhook.failures):
        session.refresh(webhook, with_for_update=True)
        # Without its secrets it could only be held again, and people told again.
        if not webhook.unreadable(now()):
            webhook.enable()
            notices.withdraw(session, webhook.merchant_id, webhook.id)
    return [webhook.lane]


def _take(
    session: scoped_session[Any],
    part: IndexedPart,
    wanted: Selection,
    webhook: Webhook,
    cursor: dict[str, Any],
) -> tuple[sa.Row[Any] | None, int]:
    """Change the next BATCH of a part; the last row that was looked at where there may be more,
    and how many were taken."""
    query = selection.rows(part, wanted, webhook)
    if "key" in cursor:
        query = query.where(
            sa.tuple_(part.key, _delivery.c.id) > sa.tuple_(cursor["key"], cursor["id"])
        )
    found = session.execute(query.order_by(part.key, _delivery.c.id).limit(BATCH)).all()
    ids = [row.id for row in found if row.is_wanted]
    taken = len(ids)
    if wanted.action != SEND:
        taken = update(session, PENDING, ids, given_up("Discarded by a person.", now()))
    elif part.state == FAILED:
        # A moment for each batch: what failed first is sent first.
        taken = update(
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
        # Those that are brought forward fall behind the cursor: rows are in order of that time.
        moment = now()
        later = [row.id for row in found if row.key > moment]
        update(session, PENDING, later, {"next_attempt_at": moment, "trigger": "manual"})
    return (found[-1] if len(found) == BATCH else None), taken


def update(session: scoped_session[Any], state: str, ids: list[str], values: dict[str, Any]) -> int:
    """Change so many deliveries as are still in a state; how many that were."""
    if not ids:
        return 0
    changed = session.execute(
        sa.update(_delivery).where(_delivery.c.id.in_(ids), still(state)).values(values)
    )
    return int(changed.rowcount)  # type: ignore[attr-defined]
