"""Row 16: what one merchant does as hard as it can, and what another one notices of it.

The whole portal, with as many processes as `bin/run` starts. The other merchant posts events, has
them delivered and opens pages, alone and beside each attack in turn. Attacks run in a process of
their own, so that they take no time from who measures.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import requests
import sqlalchemy as sa

from benchmarks.load import median, percentile
from benchmarks.product import web
from benchmarks.result import Row
from benchmarks.stand import RECORD, ROOT, Stand, order
from portal.config import SETTINGS
from portal.events import ingest
from portal.extensions import db, writing
from portal.models import ApiKey, Membership, Merchant, User

PASSWORD = "correct horse battery"
MOST = 2.0
"""What the slowest in a hundred may take beside an attack, as a multiple of what it takes alone."""
POSTS, PAGES = 25.0, 5.0
"""What each of the other merchant's two senders, and its reader, do a second."""
LEAST_MS = 10.0
"""Less than this counts as this: a machine that has something else to do takes as long."""
SLOW = (
    f"{{% assign all = '{','.join(map(str, range(400)))}' | split: ',' %}}"
    "{% for i in (1..1000) %}{% assign some = all | uniq %}{% endfor %}"
)


# ── The one that attacks, in a process of its own ─────────────────────────────────────────


def _sign_in(base: str, email: str) -> requests.Session:
    session = requests.Session()
    token = _token(session.get(f"{base}/sign-in").text)
    answer = session.post(
        f"{base}/sign-in", {"email": email, "password": PASSWORD, "csrf_token": token},
        headers={"Referer": f"{base}/sign-in"}, allow_redirects=False,
    )
    if answer.status_code != 303 and answer.status_code != 302:
        raise RuntimeError(f"Signing in was answered {answer.status_code}.")
    return session


def _token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def batches(base: str, key: str, **_: str) -> Callable[[], requests.Response]:
    """Batches of 1,000 events, each of which a hundred webhooks want."""
    body = json.dumps({"events": [order(1)] * 1_000}).encode()
    return lambda: _api(base, key).post("/events", body)


def large(base: str, key: str, **_: str) -> Callable[[], requests.Response]:
    """Batches of 16 MB that no webhook wants."""
    event = {"type": "order.paid", "data": {"text": "x" * 900_000}}
    body = json.dumps({"events": [event] * 17}).encode()
    return lambda: _api(base, key).post("/events", body)


def searches(base: str, key: str, **_: str) -> Callable[[], requests.Response]:
    """Searches for a text that nearly is in every record of a megabyte."""
    return lambda: _api(base, key).get("/events", text="x" * 250 + "y")


def exports(base: str, email: str, **_: str) -> Callable[[], requests.Response]:
    """Downloads of the whole log."""
    session = _sign_in(base, email)
    return lambda: session.get(f"{base}/m/hostile/export/events.jsonl")


def previews(base: str, email: str, **_: str) -> Callable[[], requests.Response]:
    """Previews of a template that takes as long as it may."""
    session = _sign_in(base, email)
    token = _token(session.get(f"{base}/m/hostile/webhooks/new").text)
    form = {
        "csrf_token": token, "url": "http://127.0.0.1:9/", "events": "order.created",
        "method": "POST", "body_template": SLOW, "include_object_record": "1",
    }
    return lambda: session.post(
        f"{base}/m/hostile/webhooks/preview", form,
        headers={"Referer": base, "HX-Request": "true", "HX-Request-Type": "partial"},
    )


def tests(base: str, key: str, webhook_id: str, **_: str) -> Callable[[], requests.Response]:
    """Tests of a webhook whose receiver never answers."""
    body = b'{"type": "order.created"}'
    return lambda: _api(base, key).post(f"/webhooks/{webhook_id}/test", body)


ATTACKS = {
    one.__name__: one for one in (batches, large, searches, exports, previews, tests)
}
AT_ONCE = {"batches": 4, "large": 4, "searches": 16, "exports": 8, "previews": 16, "tests": 24}
"""How many of each are on their way at the same time."""


class _api:
    def __init__(self, base: str, key: str):
        self._base, self._headers = base, {"Authorization": f"Bearer {key}"}

    def post(self, path: str, body: bytes) -> requests.Response:
        headers = self._headers | {"Content-Type": "application/json"}
        return requests.post(f"{self._base}/api/v1{path}", body, headers=headers, timeout=120)

    def get(self, path: str, **values: str) -> requests.Response:
        return requests.get(
            f"{self._base}/api/v1{path}", values, headers=self._headers, timeout=120
        )


def attack(name: str, values: dict[str, str]) -> None:
    """Do it until standard input ends; then print how often each status was answered."""
    ends, counts = threading.Event(), dict[int, int]()
    once = ATTACKS[name](**values)

    def work() -> None:
        while not ends.is_set():
            try:
                answer = once()
            except requests.RequestException:
                counts[0] = counts.get(0, 0) + 1
                continue
            counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
            if answer.status_code == 429:
                # As hard as it may: it comes again at once, but not in a loop of its own.
                time.sleep(0.1)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(AT_ONCE[name])]
    for thread in threads:
        thread.start()
    print("started", flush=True)
    sys.stdin.read()
    print(json.dumps(counts), flush=True)


# ── The one that measures ─────────────────────────────────────────────────────────────────


class _Other:
    """The other merchant: what it waits for, in ms, by what it is."""

    def __init__(self, stand: Stand, base: str, key: str, email: str):
        self._stand, self._base, self._key = stand, base, key
        self._session = _sign_in(base, email)

    def measure(self, seconds: float) -> dict[str, list[float]]:
        """What it waits for its 202s, its deliveries and its pages, for so many seconds."""
        posts: list[float] = []
        pages: list[float] = []
        accepted: dict[str, int] = {}
        received: dict[str, int] = {}
        end = time.monotonic() + seconds

        def send() -> None:
            with requests.Session() as session:
                for started in _paced(POSTS, end):
                    answer = session.post(
                        f"{self._base}/api/v1/events", json=order(1), timeout=60,
                        headers={"Authorization": f"Bearer {self._key}"},
                    )
                    answer.raise_for_status()
                    posts.append((time.perf_counter() - started) * 1_000)
                    accepted[answer.json()["id"]] = time.time_ns() // 1_000

        def read() -> None:
            for started in _paced(PAGES, end):
                self._session.get(f"{self._base}/m/calm/events", timeout=60).raise_for_status()
                pages.append((time.perf_counter() - started) * 1_000)

        threads = [threading.Thread(target=work) for work in (send, send, read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until = time.monotonic() + 60
        while not accepted.keys() <= received.keys():
            if time.monotonic() > until:
                raise RuntimeError(f"{len(accepted.keys() - received.keys())} did not arrive.")
            received.update(self._stand.receiver.news())
            time.sleep(0.1)
        waits = [max(0, received[name] - moment) / 1_000 for name, moment in accepted.items()]
        return {"posts": posts, "deliveries": waits, "pages": pages}


def _paced(per_second: float, end: float) -> Iterator[float]:
    while time.monotonic() < end:
        started = time.perf_counter()
        yield started
        time.sleep(max(0.0, started + 1 / per_second - time.perf_counter()))


@contextlib.contextmanager
def _attacking(name: str, values: dict[str, str], counts: dict[str, int]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.hostile", name, json.dumps(values)], cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        process.stdout.readline()
        time.sleep(1.0)
        yield
        process.stdin.close()
        counts |= json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def neighbours(stand: Stand, seconds: float, only: tuple[str, ...] = ()) -> list[Row]:
    """Row 16, a row for each attack."""
    stand.clear()
    hostile, calm = _merchant("hostile"), _merchant("calm")
    config = stand.app.config["PORTAL"]
    stand.webhooks(1, "/calm", merchant=calm[0])
    rows = []
    with contextlib.ExitStack() as parts:
        url = parts.enter_context(
            web(stand, processes=config.web_processes, **_limits())
        )
        base = url.removesuffix("/api/v1/events")
        for command in (
            ("deliver", "--processes", str(config.workers)), ("maintenance",), ("cron",)
        ):
            parts.enter_context(stand.process("worker.py", "--part", *command))
        other = _Other(stand, base, calm[1], calm[2])
        other.measure(2)
        for name in only or ATTACKS:
            values = {"base": base, "key": hostile[1], "email": hostile[2]}
            hooks = _prepare(stand, name, hostile[0])
            values["webhook_id"] = hooks[0] if hooks else ""
            time.sleep(1)
            alone = other.measure(seconds)
            counts: dict[str, int] = {}
            with _attacking(name, values, counts):
                beside = other.measure(seconds)
            rows.append(_row(stand, name, alone, beside, counts))
            _end(hostile[0])
    return rows


def _limits() -> dict[str, str]:
    # As they come; the other rows measure how much there can be.
    return {
        f"PORTAL_{one.name}": one.default for one in SETTINGS if one.name.startswith("API_")
    }


def _merchant(slug: str) -> tuple[Merchant, str, str]:
    merchant = Merchant(slug=slug, name=slug, active=True)
    db.session.add(merchant)
    db.session.commit()
    key, text = ApiKey.make(merchant, "write")
    user = User(email=f"{slug}@example.com", name=slug)
    user.set_password(PASSWORD)
    user.memberships = [Membership(merchant_id=merchant.id, role="owner")]
    db.session.add_all([key, user])
    db.session.commit()
    return merchant, text, user.email


def _end(merchant: Merchant) -> None:
    """Take the merchant's webhooks and what is owed to them away, and let the rest settle."""
    mine = {"merchant_id": merchant.id}
    db.session.rollback()
    for statement in (
        "UPDATE webhook SET enabled = false WHERE merchant_id = :merchant_id",
        "DELETE FROM delivery WHERE merchant_id = :merchant_id AND state = 'pending'",
    ):
        with writing(60) as session:
            session.execute(sa.text(statement), mine)
    time.sleep(3)


def _prepare(stand: Stand, name: str, merchant: Merchant) -> list[str]:
    """What an attack needs beforehand; its webhooks."""
    if name == "searches":
        record = {"type": "order.paid", "data": {"text": "x" * 1_000_000}}
        for _ in range(60):
            ingest.ingest_events(merchant.id, [record], batch=False)
    elif name == "exports":
        for _ in range(40):
            ingest.ingest_events(
                merchant.id, [{"type": "order.paid", "data": RECORD}] * 500, batch=True
            )
    db.session.rollback()
    made: list[Any] = []
    if name == "batches":
        made = stand.webhooks(100, "/hostile", merchant=merchant)
    elif name == "tests":
        made = stand.webhooks(1, "/hang", merchant=merchant)
    return [webhook.id for webhook in made]


def _row(
    stand: Stand, name: str, alone: dict[str, list[float]], beside: dict[str, list[float]],
    counts: dict[str, int],
) -> Row:
    ratios: dict[str, float] = {}
    detail: dict[str, Any] = {}
    for what, waits in beside.items():
        usual, now = percentile(alone[what], 99), percentile(waits, 99)
        ratios[what] = max(now, LEAST_MS) / max(usual, LEAST_MS)
        detail |= {
            f"{what}_ratio": ratios[what], f"{what}_p99_alone_ms": usual, f"{what}_p99_ms": now,
            f"{what}_p50_ms": median(waits),
        }
    detail["answers"] = ", ".join(f"{count} × {code}" for code, count in sorted(counts.items()))
    return Row(
        "16", f"A merchant beside one that attacks by {name}: p99 ÷ alone, the worst of posts, "
        "deliveries and pages", stand.kind, max(ratios.values()), "×", f"≤ {MOST:g}",
        max(ratios.values()) <= MOST, [], detail,
    )


if __name__ == "__main__":
    attack(sys.argv[1], json.loads(sys.argv[2]))
