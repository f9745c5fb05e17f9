"""How the portal itself is: what it depends on, and numbers for those who watch it.

Every number is cheap, however long the logs are: a range of an index, or a count with a cap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from redis.exceptions import NoPermissionError, OutOfMemoryError

from portal import queues, runtime, signs
from portal.clock import HOUR, MINUTE, SECOND, now
from portal.db.session import db, reading
from portal.delivery import lanes
from portal.errors import Unavailable
from portal.ids import request_id_at
from portal.models import (
    Attempt,
    AuditEntry,
    AuditHead,
    Delivery,
    Event,
    Lane,
    OperationsEntry,
    Webhook,
)
from portal.models.delivery import PENDING_LITERAL
from portal.people import resets, tries
from portal.redis_trouble import TROUBLE, RedisTrouble
from portal.upkeep import retention
from portal.web import policy_reports

BACKLOG_CAP = 100_000
"""A backlog is counted to here, so that looking at a growing one stays cheap."""
NEARLY_FULL = 0.95
"""The part of its maxmemory from which Redis counts as full."""
SLOW_SECONDS = 0.5
"""From when on Redis counts as slow: it is asked for four things at once."""
KNOWN_SECONDS = 1.0
"""How long it stands how Redis is, whoever asks."""


@dataclass
class KnownVitals:
    """What one process found out last: how Redis is, and when; and up to which entry of the audit
    log it has counted those that strangers bring about, with how many there were."""

    redis: str = ""
    redis_at: float = float("-inf")
    mutex: threading.Lock = field(default_factory=threading.Lock)
    strangers_entries: tuple[int, int] = 0, 0


def redis_state() -> str:
    """`ok`, `slow`, `full` or `unavailable`; without it deliveries wait for the next sweep. Found
    out by what the portal needs of it: a replica, and one whose disk is full, can be read."""
    try:
        pipeline = queues.client().pipeline(transaction=False)
        # Not a name of this installation's: that may have to be asked of the database.
        pipeline.set("portal:ready", "", px=1_000)
        pipeline.publish("portal:ready", "")
        pipeline.eval("return 1", 0)
        pipeline.info("memory")
        started = time.monotonic()
        *answers, memory = pipeline.execute(raise_on_error=False)
        took = time.monotonic() - started
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        written, heard, done = answers
        if not (written is True and type(heard) is int and done == 1):
            raise TypeError("of another kind than was asked for")
        # Who may not ask for it does without.
        limit = 0 if isinstance(memory, NoPermissionError) else memory.get("maxmemory", 0)
        is_full = bool(limit and memory["used_memory"] >= limit * NEARLY_FULL)
    except OutOfMemoryError:
        return "full"
    except TROUBLE as error:
        runtime.part(RedisTrouble).note(error, "/readyz says so")
        return "unavailable"
    if is_full:
        return "full"
    return "slow" if took > SLOW_SECONDS else "ok"


def redis_known() -> str:
    """The same, asked for once in KNOWN_SECONDS, whoever wants to know."""
    known = runtime.part(KnownVitals)
    with known.mutex:
        if time.monotonic() - known.redis_at > KNOWN_SECONDS:
            known.redis = redis_state()
            known.redis_at = time.monotonic()
        return known.redis


def workers_state() -> str:
    """`ok` while a worker delivers somewhere or waits for deliveries, `none`, or `unknown` without
    database, or without a Redis that takes their signs of life; without a worker what is accepted
    waits."""
    try:
        if lanes.has_owner():
            return "ok"
        if signs.is_delivering():
            return "ok"
    except (*TROUBLE, Unavailable):
        return "unknown"
    return "none" if redis_known() in ("ok", "slow") else "unknown"


def events_last_minute() -> int:
    """Events accepted in the last minute, of all merchants."""
    with reading() as session:
        return (
            session.scalar(
                sa.select(sa.func.count())
                .select_from(Event)
                .where(Event.received_at >= now() - MINUTE)
            )
            or 0
        )


def attempts_last_minute() -> dict[str, int]:
    """Attempts of the last minute, of all merchants: `succeeded` and `failed`."""
    # Request IDs begin with their millisecond (UUIDv7), so the newest are a range of the key.
    first = request_id_at(now() - MINUTE)
    counts = {"succeeded": 0, "failed": 0}
    with reading() as session:
        for ok, count in session.execute(
            sa.select(Attempt.ok, sa.func.count()).where(Attempt.id >= first).group_by(Attempt.ok)
        ):
            counts["succeeded" if ok else "failed"] = count
    return counts


def backlog() -> dict[str, int]:
    """Deliveries that wait, each counted up to BACKLOG_CAP: `due` now, `scheduled` for later,
    `held` because their webhook is held or disabled."""
    moment = now()
    sends = sa.and_(Webhook.enabled, Webhook.held_at.is_(None))
    kinds = {
        "due": sa.and_(sends, Delivery.next_attempt_at <= moment),
        "scheduled": sa.and_(sends, Delivery.next_attempt_at > moment),
        "held": sa.and_(sa.not_(sends), Webhook.deleted_at.is_(None)),
    }
    counts = {}
    with reading() as session:
        for kind, condition in kinds.items():
            waiting = (
                sa.select(Delivery.id)
                .join(Webhook, Webhook.id == Delivery.webhook_id)
                .where(Delivery.state == PENDING_LITERAL, condition)
                .limit(BACKLOG_CAP)
                .subquery()
            )
            counts[kind] = session.scalar(sa.select(sa.func.count()).select_from(waiting)) or 0
    return counts


@dataclass(frozen=True)
class CleanUpNow:
    """The clean-up that is under way, or the last one: how many rows it has deleted, how long it
    worked (seconds), when it began and when the last one ended (Unix µs)."""

    is_running: bool
    is_late: bool
    began_at: int
    finished_at: int | None
    removed: int
    seconds: float


def clean_up_now() -> CleanUpNow | None:
    """How the clean-up is; None before the portal first ran."""
    found = retention.latest()
    if found is None:
        return None
    return CleanUpNow(
        found.is_running,
        retention.is_late(found, now()),
        found.began_at,
        found.finished_at,
        sum(found.removed.values()),
        found.work_us / SECOND,
    )


def policy_reports_last_hour() -> int:
    """Reports of browsers about the Content-Security-Policy that were written down in the last
    hour (portal.web.policy_reports says which are)."""
    with reading() as session:
        return (
            session.scalar(
                sa.select(sa.func.count())
                .select_from(OperationsEntry)
                .where(
                    OperationsEntry.at >= now() - HOUR, OperationsEntry.kind == policy_reports.KIND
                )
            )
            or 0
        )


_OF_STRANGERS = (*tries.ACTIONS, resets.FORGOTTEN)
"""Entries that anybody brings about, and for accounts that exist alone."""


def audit_entries() -> int:
    """How many entries the audit log's chain has, ever, but for those that strangers bring about by
    trying to sign in or wishing for another password: anybody may be able to read this number, and
    would know who has an account."""
    counted = runtime.part(KnownVitals).strangers_entries
    with reading() as session:
        end = session.scalar(sa.select(AuditHead.number)) or 0
        if end < counted[0]:
            counted = (0, 0)
        seen, theirs = counted
        # From the second time on by the numbers of what is new, never by an index of all of them.
        action = AuditEntry.action + "" if seen else AuditEntry.action
        theirs += (
            session.scalar(
                sa.select(sa.func.count())
                .select_from(AuditEntry)
                .where(
                    action.in_(_OF_STRANGERS), AuditEntry.number > seen, AuditEntry.number <= end
                )
            )
            or 0
        )
    runtime.part(KnownVitals).strangers_entries = end, theirs
    return end - theirs


@dataclass(frozen=True)
class LaneNow:
    """A lane: who drains it and until when the lease holds (Unix µs), what it carries."""

    id: int
    owner: str | None
    leased_until: int
    webhooks: int
    held: int
    is_forgotten: bool
    """Work is due and nobody drains it; the sweep wakes it."""


def lanes_now() -> Sequence[LaneNow]:
    """Every lane, by number."""
    forgotten = set(lanes.forgotten())
    moment = now()
    found = db.session.execute(
        sa.select(
            Lane.id,
            Lane.owner,
            Lane.leased_until,
            sa.func.count(Webhook.id),
            sa.func.count(Webhook.id).filter(Webhook.enabled, Webhook.held_at.is_not(None)),
        )
        .outerjoin(Webhook, sa.and_(Webhook.lane == Lane.id, Webhook.deleted_at.is_(None)))
        .group_by(Lane.id, Lane.owner, Lane.leased_until)
        .order_by(Lane.id)
    )
    return [
        LaneNow(
            lane_id, owner if until > moment else None, until, webhooks, held, lane_id in forgotten
        )
        for lane_id, owner, until, webhooks, held in found
    ]
