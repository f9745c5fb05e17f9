"""Lanes: webhooks are divided into lanes, and a lease in the database gives each one owner at a
time.

So a webhook's requests in flight, its order and its health need no other coordination, on SQLite
and on PostgreSQL. A lease is a row with a fencing token: an owner that has lost it cannot write.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from flask import current_app

from portal import queues
from portal.clock import MINUTE, SECOND, now
from portal.db.session import db, insert_into, reading, table, writing
from portal.delivery.health import LONGEST_ASKED_PAUSE
from portal.models import Delivery, Lane, Webhook
from portal.models.delivery import PENDING_LITERAL
from portal.models.webhook import lane_of

LEASE = 10 * SECOND
"""How long an owner keeps its lane without a sign of life (µs)."""

_EVER = 2**62
"""A moment later than any other."""

_log = logging.getLogger(__name__)
_lane = table(Lane)
_delivery = table(Delivery)
_webhook = table(Webhook)
MOMENT = sa.bindparam("moment", type_=sa.BigInteger)
"""The moment (Unix µs) in statements that are made once: each is executed many times a second, and
making it takes longer than executing it."""


class LeaseLost(Exception):
    """Another worker owns the lane now, and will send what could not be written."""

    def __init__(self, lanes: set[int]):
        super().__init__(f"lanes {sorted(lanes)} have another owner")
        self.lanes = lanes


def prepare_lanes() -> None:
    """Make a row for each of PORTAL_LANES lanes and put every webhook into its lane.

    Called at the start, and safe to repeat: it changes nothing unless the setting has changed.
    """
    count = current_app.config["PORTAL"].lanes
    with writing() as session:
        there = set(session.scalars(sa.select(Lane.id)))
        for lane in sorted(set(range(count)) - there):
            # Another process that is starting may make it at the same moment.
            session.execute(insert_into(session, _lane).values(id=lane).on_conflict_do_nothing())
        for webhook in session.execute(sa.select(Webhook.id, Webhook.lane)):
            if webhook.lane != lane_of(webhook.id, count):
                session.execute(
                    sa.update(Webhook)
                    .where(Webhook.id == webhook.id)
                    .values(lane=lane_of(webhook.id, count), updated_at=Webhook.updated_at)
                )


def _free(moment: int | sa.BindParameter[int]) -> sa.ColumnElement[bool]:
    # A lease that ends far in the future was made before the clock was set back.
    return sa.or_(_lane.c.leased_until < moment, _lane.c.leased_until - 2 * LEASE > moment)


def lease(lane: int, owner: str) -> int | None:
    """Take a lane that nobody owns; its fencing token, or None when it is owned."""
    moment = now()
    # An owner whose lease has ended may still hold the row in a transaction, or its dead machine
    # may; a drain that waited for that would lose its own lanes.
    free = sa.select(_lane.c.id).where(_lane.c.id == lane, _free(moment))
    with writing() as session:
        token: int | None = session.scalar(
            sa.update(_lane)
            .where(_lane.c.id == free.with_for_update(skip_locked=True).scalar_subquery())
            .values(owner=owner, token=_lane.c.token + 1, leased_until=moment + LEASE)
            .returning(_lane.c.token)
        )
        return token


def renew(tokens: dict[int, int]) -> None:
    """Renew leases inside the running transaction, which fences it: raises LeaseLost, naming the
    lanes, if any has another owner."""
    if not tokens:
        return
    renewed = db.session.scalars(_RENEW, {"leases": sorted(tokens.items()), "until": now() + LEASE})
    lost = tokens.keys() - set(renewed)
    if lost:
        raise LeaseLost(lost)


_RENEW = (
    sa.update(_lane)
    .where(sa.tuple_(_lane.c.id, _lane.c.token).in_(sa.bindparam("leases", expanding=True)))
    .values(leased_until=sa.bindparam("until"))
    .returning(_lane.c.id)
)


def release(tokens: dict[int, int], *, rest_seconds: float = 0) -> None:
    """Give lanes back, so that the next owner need not wait for the lease to end; nobody takes them
    for `rest_seconds`. From then on the owner can write nothing more, nor renew the lease."""
    if not tokens:
        return
    free_from = now() + int(rest_seconds * SECOND) if rest_seconds else 0
    with writing() as session:
        for lane, token in sorted(tokens.items()):
            session.execute(
                sa.update(_lane)
                .where(_lane.c.id == lane, _lane.c.token == token)
                .values(owner=None, token=_lane.c.token + 1, leased_until=free_from)
            )


def has_owner() -> bool:
    """Whether any lane has an owner now. Raises Unavailable."""
    owned = sa.select(_lane.c.id).where(_lane.c.owner.is_not(None), sa.not_(_free(now())))
    with reading(each_alone=True) as session:
        return session.scalar(owned.limit(1)) is not None


def has_due(is_retry: bool, moment: int | sa.BindParameter[int] = MOMENT) -> sa.ColumnElement[bool]:
    """Whether the webhook of the enclosing query has a first attempt, or a retry, that is due at a
    moment (Unix µs): one look into the index for each webhook, whatever the planner knows of the
    table.

    Not EXISTS, which the planner may turn into a join that goes through everything that is pending,
    once for each webhook; and ordered, or it may go through the table until it finds a row.
    """
    first = (
        sa.select(_delivery.c.id)
        .where(
            _delivery.c.webhook_id == _webhook.c.id,
            _delivery.c.state == PENDING_LITERAL,
            _delivery.c.is_retry == is_retry,
            _delivery.c.next_attempt_at <= moment,
        )
        .order_by(_delivery.c.next_attempt_at)
        .limit(1)
    )
    return first.correlate(_webhook).scalar_subquery().is_not(None)


_RESTS = sa.and_(
    # As health.Health.rests.
    _webhook.c.held_at <= MOMENT,
    _webhook.c.next_probe_at > MOMENT,
    _webhook.c.next_probe_at - LONGEST_ASKED_PAUSE <= MOMENT,
)
OWES = sa.or_(has_due(False, _EVER), has_due(True, _EVER))
"""Whether anything of the webhook of the enclosing query is pending, even if it is not due yet."""
MAY_PROBE = sa.and_(_webhook.c.held_at.is_not(None), sa.not_(_RESTS), OWES)
"""Whether the webhook of the enclosing query is held, may be probed at MOMENT, and owes
anything."""


def forgotten() -> list[int]:
    """Lanes that have due work and no living owner. Costs one look into an index for each webhook,
    never a scan of the deliveries."""
    with reading(each_alone=True) as session:
        return list(session.scalars(_FORGOTTEN, {"moment": now()}))


_HAS_DUE_WORK = sa.exists().where(
    _webhook.c.lane == _lane.c.id,
    _webhook.c.enabled,
    _webhook.c.deleted_at.is_(None),
    sa.or_(
        sa.and_(
            _webhook.c.held_at.is_(None),
            sa.or_(has_due(False), has_due(True), _webhook.c.catch_up_from.is_not(None)),
        ),
        MAY_PROBE,
    ),
)
_FORGOTTEN = sa.select(_lane.c.id).where(_free(MOMENT), _HAS_DUE_WORK).order_by(_lane.c.id)


def sweep() -> int:
    """Wake every forgotten lane. Returns how many there were. Cron calls it every few seconds: it
    finds retries that have come due, and work whose owner or wake-up call was lost."""
    _bring_forward(now())
    lanes = forgotten()
    for lane in lanes:
        queues.replace_drain(lane)
    return len(lanes)


def _bring_forward(moment: int) -> None:
    """Make first attempts due that were accepted before the clock was set back, and would otherwise
    wait until the clock reaches that moment again."""
    ahead = (
        _delivery.c.created_at > moment + MINUTE,
        _delivery.c.state == PENDING_LITERAL,
        _delivery.c.is_retry.is_(False),
        _delivery.c.next_attempt_at > moment,
        # Events that came since are numbered on from those, but are due by the clock.
        _delivery.c.next_attempt_at >= _delivery.c.created_at,
    )
    with reading(each_alone=True) as session:
        if session.scalar(sa.select(_delivery.c.id).where(*ahead).limit(1)) is None:
            return
    with writing() as session:
        session.execute(sa.update(_delivery).where(*ahead).values(next_attempt_at=moment))
