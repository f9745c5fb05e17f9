"""Row 14: single POSTs into the whole portal, with as many processes as `bin/run` starts."""

from __future__ import annotations

import contextlib
import time

import sqlalchemy as sa

from benchmarks.load import median, percentile
from benchmarks.product import bodies_of, post, web
from benchmarks.result import Row
from benchmarks.stand import Stand
from portal.db.session import db
from portal.models import Delivery
from portal.models.delivery import PENDING_LITERAL

LOADS = (8, 32)
"""How many senders wait for their answers at once."""
MOST = 5.0
"""What the slowest in a hundred may wait, as a multiple of what half of them wait."""


def single_posts(stand: Stand, events: int, repeats: int) -> list[Row]:
    """Row 14: how evenly senders are answered while two web processes, the workers that deliver
    meanwhile, maintenance and cron all write; in turn with a bare Flask view on as many."""
    stand.clear()
    stand.webhooks(1)
    config = stand.app.config["PORTAL"]
    bodies = bodies_of(events)
    loads: dict[int, dict[str, list[float]]] = {
        at_once: {"rate": [], "p50": [], "p99": [], "bare": []} for at_once in LOADS
    }
    with contextlib.ExitStack() as parts:
        ours = parts.enter_context(web(stand, processes=config.web_processes))
        bare = parts.enter_context(
            web(stand, "benchmarks.baselines:bare", processes=config.web_processes)
        )
        for command in (
            ("deliver", "--processes", str(config.workers)),
            ("maintenance",),
            ("cron",),
        ):
            parts.enter_context(stand.process("worker.py", "--part", *command))
        # Workers have started, and have had something to do.
        post(stand, ours, bodies[:100])
        _wait_for_deliveries()
        for _ in range(repeats):
            for at_once, found in loads.items():
                done = post(stand, ours, bodies, at_once=at_once)
                found["rate"].append(done.rate)
                found["p50"].append(percentile(done.milliseconds, 50))
                found["p99"].append(percentile(done.milliseconds, 99))
                _wait_for_deliveries()
                calm = post(stand, bare, bodies, at_once=at_once).milliseconds
                found["bare"].append(percentile(calm, 99) / percentile(calm, 50))
    return [_row(stand, at_once, found) for at_once, found in loads.items()]


def _row(stand: Stand, at_once: int, found: dict[str, list[float]]) -> Row:
    samples = [slow / usual for slow, usual in zip(found["p99"], found["p50"], strict=True)]
    figure = median(samples)
    return Row(
        "14",
        f"The whole portal, single POSTs, {at_once} at once: p99 ÷ p50",
        stand.kind,
        figure,
        "×",
        f"≤ {MOST:g}",
        figure <= MOST,
        samples,
        {
            "per_second": median(found["rate"]),
            "p50_ms": median(found["p50"]),
            "p99_ms": median(found["p99"]),
            "bare_view_p99_to_p50": median(found["bare"]),
        },
    )


def _wait_for_deliveries(seconds: float = 60.0) -> None:
    """Until nothing is owed, so that no load meets the deliveries of the one before."""
    end = time.monotonic() + seconds
    pending = sa.select(sa.func.count()).where(Delivery.state == PENDING_LITERAL)
    while db.session.scalar(pending):
        db.session.rollback()
        if time.monotonic() > end:
            raise RuntimeError("Deliveries are still owed.")
        time.sleep(0.1)
    db.session.rollback()
