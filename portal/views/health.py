"""For machines that watch the portal: alive, ready, and numbers."""

from __future__ import annotations

import math
import time

from flask import Blueprint, Response, jsonify
from flask.typing import ResponseReturnValue
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)

from portal import clock_watch, runtime
from portal.db import wal
from portal.db.session import write_turns
from portal.db.turns import LONG_SECONDS
from portal.redis_trouble import RedisTrouble
from portal.storage import allowance
from portal.upkeep import readiness, vitals

bp = Blueprint("health", __name__)
# Made anew for each answer, a counter would say that it began to count just now.
disable_created_metrics()
_LOG_STEP = 8 * 1024 * 1024


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Whether this process answers; asks nothing else."""
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    """200 while an event can be stored, 503 when none can, with the cause
    (portal.upkeep.readiness).

    Redis away, full or slow is `degraded`: events are accepted and deliveries wait for the next
    sweep; `redis_trouble` says what this process met with. So it is when no worker delivers: they
    wait until one does; and while the clock is in doubt (portal.clock_watch).
    """
    trouble, redis = readiness.trouble(), vitals.redis_known()
    if trouble is not None:
        return jsonify(
            status="unavailable",
            database="unavailable",
            redis=redis,
            cause=trouble.name,
            detail=trouble.sentence,
        ), 503
    state = {"database": "ok", "redis": redis, "workers": vitals.workers_state()}
    is_well = set(state.values()) == {"ok"}
    if redis != "ok" and (matter := runtime.part(RedisTrouble).latest):
        state["redis_trouble"] = matter
    if clock_watch.doubt() is not None:
        # A warning: events are taken and delivered all the same.
        is_well, state["clock"] = False, "doubted"
    return jsonify(status="ok" if is_well else "degraded", **state)


@bp.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Numbers for Prometheus, read from the database: the same whichever process answers."""
    registry = CollectorRegistry()
    Gauge(
        "portal_events_accepted_last_minute",
        "Events accepted in the last minute.",
        registry=registry,
    ).set(vitals.events_last_minute())
    attempts = Gauge(
        "portal_attempts_last_minute",
        "Attempts of the last minute by what came of them.",
        ["outcome"],
        registry=registry,
    )
    for outcome, count in vitals.attempts_last_minute().items():
        attempts.labels(outcome).set(count)
    waiting = Gauge(
        "portal_deliveries_waiting",
        f"Deliveries that wait, counted up to {vitals.BACKLOG_CAP}.",
        ["kind"],
        registry=registry,
    )
    for kind, count in vitals.backlog().items():
        waiting.labels(kind).set(count)
    Gauge(
        "portal_csp_reports_last_hour",
        "Browsers' reports about the Content-Security-Policy, written down in the last hour.",
        registry=registry,
    ).set(vitals.policy_reports_last_hour())
    Counter(
        "portal_audit_entries_total",
        "Entries of the audit log, but for those that strangers bring about.",
        registry=registry,
    ).inc(vitals.audit_entries())
    stored, full = allowance.in_all()
    Gauge(
        "portal_stored_bytes",
        "What the logs hold of all merchants, as it is measured.",
        registry=registry,
    ).set(stored)
    Gauge(
        "portal_merchants_full",
        "Merchants whose events are refused: they have stored what they may.",
        registry=registry,
    ).set(full)
    _add_turns(registry)
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _add_turns(registry: CollectorRegistry) -> None:
    if (length := wal.size()) is not None:
        Gauge(
            "portal_write_log_bytes",
            "How long the SQLite database's write-ahead log is, in steps of 8 MiB.",
            registry=registry,
        ).set(math.ceil(length / _LOG_STEP) * _LOG_STEP)
    record = write_turns()
    if record is None:
        return
    # In whole seconds, and the log in steps: how long one turn was kept, or how much was written,
    # would tell whether somebody has an account, since of tries to sign in those into accounts
    # that exist alone write something.
    kept, waited = math.ceil(record.kept_seconds), math.ceil(record.waited_seconds)
    for name, what, value in (
        ("turns", "Turns to write into the SQLite database.", record.turns),
        ("turns_long", f"Of these, turns of {LONG_SECONDS:g} s or more.", record.long),
        ("turns_kept_seconds", "How long writers kept their turns.", kept),
        ("turns_waited_seconds", "How long writers waited for their turns.", waited),
    ):
        Counter(f"portal_write_{name}", what, registry=registry).inc(value)
    Gauge(
        "portal_write_turn_held_seconds",
        "For how long a writer has had its turn by now.",
        registry=registry,
    ).set(time.monotonic() - record.since if record.process else 0)
