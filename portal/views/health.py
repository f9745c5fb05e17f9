"""For machines that watch the portal: alive, ready, and numbers."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from portal import queues
from portal.clock import MILLISECOND, MINUTE, now
from portal.extensions import db
from portal.models import Attempt, Delivery, Event

bp = Blueprint("health", __name__)

BACKLOG_CAP = 100_000
"""A backlog gauge stops counting here, so that a scrape stays cheap while one grows."""
NEARLY_FULL = 0.95
"""The part of maxmemory from which Redis counts as full."""


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Whether this process answers; asks nothing else."""
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    """200 while events are accepted, 503 when the database is away.

    Redis away or full is `degraded`: events are accepted and deliveries wait for the next sweep.
    """
    database = _database()
    redis = _redis()
    status = "unavailable" if database != "ok" else "ok" if redis == "ok" else "degraded"
    return jsonify(status=status, database=database, redis=redis), 200 if database == "ok" else 503


@bp.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Numbers for Prometheus, read from the database: the same from every process."""
    registry = CollectorRegistry()
    events = Gauge(
        "portal_events_accepted_last_minute", "Events accepted in the last minute.",
        registry=registry,
    )
    attempts = Gauge(
        "portal_attempts_last_minute", "Attempts of the last minute by what came of them.",
        ["outcome"], registry=registry,
    )
    backlog = Gauge(
        "portal_deliveries", f"Deliveries that wait; counted up to {BACKLOG_CAP}.", ["state"],
        registry=registry,
    )
    moment = now()
    events.set(_events_since(moment - MINUTE))
    for outcome, count in _attempts_since(moment - MINUTE).items():
        attempts.labels(outcome).set(count)
    for state, count in _backlog(moment).items():
        backlog.labels(state).set(count)
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _database() -> str:
    try:
        db.session.execute(db.select(1))
    except DBAPIError as error:
        db.session.rollback()
        current_app.logger.warning("database unavailable: %s", error.orig)
        return "unavailable"
    return "ok"


def _redis() -> str:
    try:
        memory = queues.client().info("memory")
    except RedisError:
        return "unavailable"
    limit = memory.get("maxmemory", 0)
    return "full" if limit and memory["used_memory"] >= limit * NEARLY_FULL else "ok"


def _events_since(moment: int) -> int:
    # A range of ix_event_received: one minute of it, however long the log is.
    return db.session.scalar(
        db.select(db.func.count()).select_from(Event).where(Event.received_at >= moment)
    ) or 0


def _attempts_since(moment: int) -> dict[str, int]:
    # Request IDs begin with their millisecond (UUIDv7), so the newest are a range of the key.
    first = f"req_{moment // MILLISECOND:012x}"
    counts = {"succeeded": 0, "failed": 0}
    for ok, count in db.session.execute(
        db.select(Attempt.ok, db.func.count()).where(Attempt.id >= first).group_by(Attempt.ok)
    ):
        counts["succeeded" if ok else "failed"] = count
    return counts


def _backlog(moment: int) -> dict[str, int]:
    # Partial indexes hold just these rows.
    waits = {
        "due": (Delivery.state == "pending", Delivery.next_attempt_at <= moment),
        "scheduled": (Delivery.state == "pending", Delivery.next_attempt_at > moment),
        "held": (Delivery.state == "held",),
    }
    counts = {}
    for state, conditions in waits.items():
        rows = db.select(Delivery.id).where(*conditions).limit(BACKLOG_CAP).subquery()
        counts[state] = db.session.scalar(db.select(db.func.count()).select_from(rows)) or 0
    return counts
