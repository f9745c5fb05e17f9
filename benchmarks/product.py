"""Rows 3, 4, 5, 8, 12 and 13: the product's processes, over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
import sqlalchemy as sa

from benchmarks import load
from benchmarks.load import Load, median, percentile
from benchmarks.result import Row, interleaved, ratio
from benchmarks.stand import Stand, free_port, order
from portal.db import bulk
from portal.db.session import db, table, writing
from portal.events import ingest
from portal.events.rows import EVENT, EVENT_PAYLOAD, event_row, payload_row
from portal.events.rules import clean_events
from portal.ids import new_id
from portal.models import ApiKey, Event, EventPayload, Merchant

AT_ONCE = 8
PORTAL = "wsgi:front"


@contextlib.contextmanager
def web(
    stand: Stand, application: str = PORTAL, processes: int = 1, **environment: str
) -> Iterator[str]:
    """The address of an application on the product's own server, with its settings."""
    port = free_port()
    with stand.process(
        "-m",
        "granian",
        "--interface",
        "rsgi" if application == PORTAL else "wsgi",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        str(processes),
        *(() if application == PORTAL else ("--blocking-threads", "8")),
        "--http",
        "1",
        "--no-ws",
        "--log-level",
        "error",
        application,
        **environment,
    ):
        url = f"http://127.0.0.1:{port}/api/v1/events"
        end = time.monotonic() + 60
        while True:
            try:
                post(stand, url, [b'{"type":"order.created"}'], at_once=1)
                break
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        yield url


def post(stand: Stand, url: str, bodies: Sequence[bytes], **how: float | int) -> Load:
    """POST every body with the merchant's key, as benchmarks.load does."""
    return load.post(
        url,
        [("Authorization", f"Bearer {stand.key}"), ("Content-Type", "application/json")],
        bodies,
        **how,  # type: ignore[arg-type]
    )


def bodies_of(count: int) -> list[bytes]:
    """So many events, each as the body of a request."""
    return [json.dumps(order(number)).encode() for number in range(count)]


def single_ingest(stand: Stand, events: int, repeats: int) -> Row:
    """Row 3: durable ingest one by one, against a bare Flask JSON POST on the same server."""
    stand.clear()
    stand.webhooks(1)
    bodies = bodies_of(events)
    tails: list[list[float]] = [[], []]
    with web(stand) as ours, web(stand, "benchmarks.baselines:bare") as bare:

        def rate(url: str, place: int) -> Callable[[], float]:
            def measure() -> float:
                done = post(stand, url, bodies, at_once=AT_ONCE)
                tails[place].append(percentile(done.milliseconds, 99))
                return done.rate

            return measure

        mine, others = interleaved(repeats, rate(ours, 0), rate(bare, 1))
        stored = db.session.scalar(sa.text("SELECT count(*) FROM event")) or 0
        db.session.rollback()
        if stored < events * repeats:
            raise RuntimeError(f"{events * repeats} were answered 202, {stored} are stored")
    row = ratio(
        "3",
        f"Durable ingest by single POST ÷ bare Flask JSON POST, {AT_ONCE} at once",
        stand.kind,
        mine,
        others,
        0.45,
    )
    slower = statistics.median(tail / calm for tail, calm in zip(*tails, strict=True))
    row.target = "≥ 0.45, p99 ≤ 5×"
    row.detail |= {"p99_ratio": slower, "p99_ms": median(tails[0])}
    row.reached = row.reached and slower <= 5
    return row


def batch_ingest(stand: Stand, events: int, repeats: int) -> Row:
    """Row 4: batches of 500 over HTTP, against the database's own bulk insert of the rows."""
    size = 500
    batches = max(2, events // size)
    body = json.dumps({"events": [order(number) for number in range(size)]}).encode()

    def theirs() -> float:
        stand.clear()
        ready = []
        for _ in range(batches):
            clean = clean_events(
                stand.merchant.id, [order(number) for number in range(size)], batch=True
            )
            moment = time.time_ns() // 1_000
            named = [(new_id("evt"), event) for event in clean]
            ready.append(
                (
                    [event_row(stand.merchant.id, name, event, moment, 0) for name, event in named],
                    [payload_row(stand.merchant.id, name, event, moment) for name, event in named],
                )
            )
        started = time.perf_counter()
        for rows in ready:
            with writing() as session:
                for model, columns, made in zip(
                    (Event, EventPayload), (EVENT, EVENT_PAYLOAD), rows, strict=True
                ):
                    bulk.insert(session.connection(), table(model), columns, made)
        return batches * size / (time.perf_counter() - started)

    stand.clear()
    with web(stand) as url:

        def ours() -> float:
            stand.clear()
            done = post(stand, url, [body] * batches, at_once=1)
            stored = db.session.scalar(sa.text("SELECT count(*) FROM event"))
            db.session.rollback()
            if stored != batches * size:
                raise RuntimeError(f"{batches * size} were sent, {stored} are stored")
            return batches * size / done.seconds

        mine, others = interleaved(repeats, ours, theirs)
    return ratio(
        "4",
        "Durable ingest by batches of 500 ÷ the database's own bulk insert, events a second",
        stand.kind,
        mine,
        others,
        0.4,
    )


def latency(stand: Stand, seconds: float) -> list[Row]:
    """Row 5: from the 202 to the receipt, at two loads."""
    stand.clear()
    stand.webhooks(4)
    rows = []
    trip = _round_trip(stand)
    with web(stand) as url, stand.process("worker.py", "--part", "deliver", "--processes", "1"):
        post(stand, url, bodies_of(20), at_once=1)
        time.sleep(2)
        saturation = _saturation(stand, url, max(100, int(100 * seconds)))
        for part in (0.2, 0.5):
            stand.receiver.news()
            rate = saturation * part
            bodies = bodies_of(max(50, int(rate * seconds)))
            done = post(stand, url, bodies, at_once=64, per_second=rate)
            ids = [json.loads(body)["id"] for body in done.bodies]
            accepted = dict(zip(ids, done.answered_at, strict=True))
            first = _receipts(stand, accepted, 4)
            waits = [(moment - accepted[event_id]) / 1_000 - trip for event_id, moment in first]
            p50, p99 = percentile(waits, 50), percentile(waits, 99)
            rows.append(
                Row(
                    "5",
                    f"202 → receipt above one bare round trip, at {part:.0%} of saturation",
                    stand.kind,
                    p50,
                    "ms (p50)",
                    "p50 ≤ 5 ms, p99 ≤ 25 ms",
                    p50 <= 5 and p99 <= 25,
                    detail={"p99_ms": p99, "events_per_second": rate, "receipts": len(waits)},
                )
            )
    return rows


def _saturation(stand: Stand, url: str, events: int) -> float:
    """Events a second that one web process and one worker take in and deliver at most."""
    stand.receiver.news()
    started = time.time_ns() // 1_000
    done = post(stand, url, bodies_of(events), at_once=AT_ONCE)
    accepted = {json.loads(body)["id"]: 0 for body in done.bodies}
    last = max(moment for _, moment in _receipts(stand, accepted, 4))
    return events / ((last - started) / 1e6)


def _round_trip(stand: Stand) -> float:
    done = load.post(stand.receiver.url(), [], [b"{}"] * 50, at_once=1)
    return median(done.milliseconds)


def _receipts(
    stand: Stand, accepted: dict[str, int], each: int, wait_seconds: float = 60
) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    end = time.monotonic() + wait_seconds
    while len(found) < len(accepted) * each:
        found += [one for one in stand.receiver.news() if one[0] in accepted]
        if time.monotonic() > end:
            raise RuntimeError(f"{len(found)} of {len(accepted) * each} requests arrived")
        time.sleep(0.1)
    return found


def two_workers(stand: Stand, events: int, repeats: int) -> Row:
    """Row 8: two delivering processes against one, and how many of the machine's cores are busy
    meanwhile: where one keeps them all busy, two cannot do more."""
    busy: dict[int, list[float]] = {1: [], 2: []}

    def rate(processes: int) -> float:
        stand.clear()
        stand.webhooks(20)
        owed = stand.owe(events // 20)
        # Due when all processes are there: the first one would take every lane.
        later = time.time_ns() // 1_000 + 6_000_000
        db.session.execute(sa.text(f"UPDATE delivery SET next_attempt_at = {later}"))
        db.session.commit()
        with (
            stand.process("worker.py", "--part", "deliver", "--processes", str(processes)),
            stand.process("worker.py", "--part", "maintenance"),
            stand.process("worker.py", "--part", "cron"),
        ):
            moments: list[int] = []
            end = time.monotonic() + 120
            while not moments and time.monotonic() < end:
                moments += [moment for _, moment in stand.receiver.news()]
                time.sleep(0.01)
            since, worked = time.monotonic(), _processor_seconds()
            while len(moments) < owed and time.monotonic() < end:
                moments += [moment for _, moment in stand.receiver.news()]
                time.sleep(0.05)
            busy[processes].append((_processor_seconds() - worked) / (time.monotonic() - since))
            if len(moments) < owed:
                raise RuntimeError(f"{len(moments)} of {owed} arrived")
        # From the first receipt: what starting a process takes is not the question.
        return owed / ((max(moments) - min(moments)) / 1e6)

    two, one = interleaved(repeats, lambda: rate(2), lambda: rate(1))
    return ratio(
        "8",
        "Two workers ÷ one",
        stand.kind,
        two,
        one,
        1.6,
        cores=os.cpu_count(),
        cores_busy_with_one=median(busy[1]),
        cores_busy_with_two=median(busy[2]),
    )


def _processor_seconds() -> float:
    """What all processes of this machine have had, since it started."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def backlog(stand: Stand, deliveries: int) -> Row:
    """Row 12: a backlog after an outage, and fresh events to other webhooks meanwhile."""
    stand.clear()
    stand.webhooks(20)
    owed = stand.owe(deliveries // 20)
    other = Merchant(slug=f"fresh-{deliveries}", name="Fresh", active=True)
    db.session.add(other)
    db.session.commit()
    stand.webhooks(2, "/fresh", merchant=other)
    with (
        stand.process("worker.py", "--part", "deliver", "--processes", "1"),
        stand.process("worker.py", "--part", "maintenance"),
        stand.process("worker.py", "--part", "cron"),
    ):
        moments: list[int] = []
        accepted: dict[str, int] = {}
        fresh: dict[str, int] = {}
        end = time.monotonic() + 300
        while len(moments) < owed and time.monotonic() < end:
            for event_id, moment in stand.receiver.news():
                if event_id in accepted:
                    fresh.setdefault(event_id, moment)
                else:
                    moments.append(moment)
            if moments:
                (answer,) = ingest.ingest_events(other.id, [order(1)], batch=False)
                accepted[answer.id] = time.time_ns() // 1_000
                db.session.rollback()
            time.sleep(0.05)
        time.sleep(1.0)
        for event_id, moment in stand.receiver.news():
            if event_id in accepted:
                fresh.setdefault(event_id, moment)
    if len(moments) < owed or len(fresh) < len(accepted):
        raise RuntimeError(
            f"{len(moments)} of {owed} and {len(fresh)} of {len(accepted)} fresh arrived"
        )
    waits = [(moment - accepted[event_id]) / 1_000 for event_id, moment in fresh.items()]
    p99 = percentile(waits, 99)
    seconds = (max(moments) - min(moments)) / 1e6
    return Row(
        "12",
        f"Fresh events while a backlog of {owed:,} drains",
        stand.kind,
        p99,
        "ms (p99)",
        "p99 ≤ 250 ms",
        p99 <= 250,
        detail={
            "seconds_to_drain": seconds,
            "deliveries_per_second": owed / seconds,
            "fresh_events": len(fresh),
            "p50_ms": percentile(waits, 50),
            "sqlite": sqlite3.sqlite_version if stand.kind == "sqlite" else None,
        },
    )


SMALL = 50
"""Merchants that send a few events each beside one that floods."""
PER_SECOND = 25.0
"""Events of all the small merchants together."""


def flood(stand: Stand, events: int, calm_events: int) -> Row:
    """Row 13: fifty merchants with a few events each, while one more floods; and `calm_events` of
    theirs without that."""
    stand.clear()
    stand.webhooks(1)
    keys = []
    for _ in range(SMALL):
        small = Merchant(slug=new_id("m")[-20:], name="Small", active=True)
        db.session.add(small)
        db.session.commit()
        stand.webhooks(1, "/small", merchant=small)
        key, text = ApiKey.make(small, "write")
        db.session.add(key)
        db.session.commit()
        keys.append(text)
    batches = [json.dumps({"events": [order(1)] * 500}).encode()] * (events // 500)
    accepted: dict[str, int] = {}
    received: dict[str, int] = {}
    posts: list[float] = []

    def send(goes_on: Callable[[int], bool]) -> list[float]:
        # What each waited from its 202 to its receipt, in ms.
        sent: list[str] = []
        with requests.Session() as session:
            while goes_on(len(sent)):
                started = time.perf_counter()
                headers = {"Authorization": f"Bearer {keys[len(sent) % SMALL]}"}
                answer = session.post(url, json=order(1), headers=headers, timeout=60)
                answer.raise_for_status()
                sent.append(answer.json()["id"])
                accepted[sent[-1]] = time.time_ns() // 1_000
                posts.append((time.perf_counter() - started) * 1_000)
                time.sleep(max(0.0, started + 1 / PER_SECOND - time.perf_counter()))
        wait_for(lambda: all(name in received for name in sent))
        return [max(0, received[name] - accepted[name]) / 1_000 for name in sent]

    def wait_for(arrived: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not arrived():
            if time.monotonic() > end:
                raise RuntimeError(f"{len(received)} of {events + len(accepted)} arrived")
            received.update(stand.receiver.news())
            time.sleep(0.05)

    def goes_on(_sent: int) -> bool:
        received.update(stand.receiver.news())
        # But for the last few, which are waited for below.
        return len(received) < events + len(accepted) - SMALL

    with (
        web(stand) as url,
        stand.process("worker.py", "--part", "deliver", "--processes", "2"),
        stand.process("worker.py", "--part", "maintenance"),
        stand.process("worker.py", "--part", "cron"),
    ):
        send(lambda sent: sent < SMALL)
        calm = send(lambda sent: sent < calm_events)
        with ThreadPoolExecutor(1) as beside:
            started = time.monotonic()
            flooding = beside.submit(post, stand, url, batches, at_once=2)
            busy = send(goes_on)
            seconds = time.monotonic() - started
            flooding.result()
        wait_for(lambda: len(received) >= events + len(accepted))
    return Row(
        "13",
        f"{SMALL} small merchants while one more floods with {events:,} events: 202 → receipt",
        stand.kind,
        percentile(busy, 99),
        "ms (p99)",
        "p99 ≤ 250 ms",
        percentile(busy, 99) <= 250,
        detail={
            "p50_ms": median(busy),
            "p50_without_flood_ms": median(calm),
            "p99_without_flood_ms": percentile(calm, 99),
            "their_events": len(busy),
            "their_posts_p50_ms": median(posts[-len(busy) :]),
            "their_posts_p99_ms": percentile(posts[-len(busy) :], 99),
            "seconds_of_flood": seconds,
            "flood_per_second": events / seconds,
        },
    )
