"""Row 16: what one merchant does as hard as it can, and what another one notices of it.

The whole portal, with as many processes as `bin/run` starts. The other merchant posts events, has
them delivered and opens pages, in windows without and with an attack in turn; each attack is by a
merchant that has used nothing of its limits yet. Attacks run in a process of their own, so that
they take no time from who measures.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
import sqlalchemy as sa

from benchmarks.load import median, percentile
from benchmarks.product import web
from benchmarks.result import Row
from benchmarks.stand import RECORD, ROOT, Stand, order
from portal.config import SETTINGS
from portal.db.session import db, writing
from portal.events import ingest
from portal.models import ApiKey, Membership, Merchant, User

PASSWORD = "correct horse battery"
MOST = 2.0
"""What the slowest in a hundred may take beside an attack, as a multiple of what it takes alone."""
POSTS, PAGES = 50.0, 8.0
"""How many the other merchant sends and opens a second."""
SENDERS, READERS = 8, 4
"""Who do it, each with a connection: one that waits keeps the others from nothing, so that as many
are asked while it is slow."""
LEAST_MS = 10.0
"""Less than this counts as this: a machine that has something else to do takes as long."""
SETTLE_SECONDS = 1.0
"""How long nothing is asked before and after an attack."""
SLOW = (
    f"{{% assign all = '{','.join(map(str, range(400)))}' | split: ',' %}}"
    "{% for i in (1..1000) %}{% assign some = all | uniq %}{% endfor %}"
)


# ── The one that attacks, in a process of its own ─────────────────────────────────────────


def _sign_in(base: str, email: str) -> requests.Session:
    session = requests.Session()
    token = _token(session.get(f"{base}/sign-in").text)
    answer = session.post(
        f"{base}/sign-in",
        {"email": email, "password": PASSWORD, "csrf_token": token},
        headers={"Referer": f"{base}/sign-in"},
        allow_redirects=False,
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


def exports(base: str, slug: str, email: str, **_: str) -> Callable[[], requests.Response]:
    """Downloads of the whole log."""
    session = _sign_in(base, email)
    return lambda: session.get(f"{base}/m/{slug}/export/events.jsonl")


def previews(base: str, slug: str, email: str, **_: str) -> Callable[[], requests.Response]:
    """Previews of a template that takes as long as it may."""
    session = _sign_in(base, email)
    token = _token(session.get(f"{base}/m/{slug}/webhooks/new").text)
    form = {
        "csrf_token": token,
        "url": "http://127.0.0.1:9/",
        "events": "order.created",
        "method": "POST",
        "body_template": SLOW,
        "include_object_record": "1",
    }
    return lambda: session.post(
        f"{base}/m/{slug}/webhooks/preview",
        form,
        headers={"Referer": base, "HX-Request": "true", "HX-Request-Type": "partial"},
    )


def tests(base: str, key: str, webhook_id: str, **_: str) -> Callable[[], requests.Response]:
    """Tests of a webhook whose receiver never answers."""
    body = b'{"type": "order.created"}'
    return lambda: _api(base, key).post(f"/webhooks/{webhook_id}/test", body)


ATTACKS = {one.__name__: one for one in (batches, large, searches, exports, previews, tests)}
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
        self._stand, self._place = stand, base.removeprefix("http://")
        cookies = _sign_in(base, email).cookies
        self._post_headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._page_headers = {"Cookie": "; ".join(f"{one.name}={one.value}" for one in cookies)}
        self._event = json.dumps(order(1)).encode()

    def measure(self, seconds: float) -> dict[str, list[float]]:
        """What it waits for its 202s, its deliveries and its pages, for so many seconds."""
        found: dict[str, list[float]] = {"posts": [], "deliveries": [], "pages": []}
        accepted: dict[str, int] = {}
        received: dict[str, int] = {}
        begin = time.perf_counter()

        def send(place: int) -> None:
            connection = http.client.HTTPConnection(self._place, timeout=60)
            for moment in _moments(begin, seconds, POSTS, place, SENDERS):
                connection.request("POST", "/api/v1/events", self._event, self._post_headers)
                content = _content(connection, 202)
                found["posts"].append((time.perf_counter() - moment) * 1_000)
                accepted[json.loads(content)["id"]] = time.time_ns() // 1_000
            connection.close()

        def read(place: int) -> None:
            connection = http.client.HTTPConnection(self._place, timeout=60)
            for moment in _moments(begin, seconds, PAGES, place, READERS):
                connection.request("GET", "/m/calm/events", headers=self._page_headers)
                _content(connection, 200)
                found["pages"].append((time.perf_counter() - moment) * 1_000)
            connection.close()

        with ThreadPoolExecutor(SENDERS + READERS) as threads:
            done = [threads.submit(send, place) for place in range(SENDERS)]
            done += [threads.submit(read, place) for place in range(READERS)]
        for one in done:
            one.result()
        until = time.monotonic() + 60
        while not accepted.keys() <= received.keys():
            if time.monotonic() > until:
                raise RuntimeError(f"{len(accepted.keys() - received.keys())} did not arrive.")
            received.update(self._stand.receiver.news())
            time.sleep(0.1)
        found["deliveries"] = [
            max(0, received[name] - moment) / 1_000 for name, moment in accepted.items()
        ]
        return found


def _moments(
    begin: float, seconds: float, per_second: float, place: int, of: int
) -> Iterator[float]:
    """When the one at a place begins, and is asked to go on: so many a second of all."""
    step = of / per_second
    for number in range(int(seconds / step)):
        planned = begin + place / per_second + number * step
        time.sleep(max(0.0, planned - time.perf_counter()))
        yield time.perf_counter()


def _content(connection: http.client.HTTPConnection, status: int) -> bytes:
    with connection.getresponse() as answer:
        content = answer.read()
        if answer.status != status:
            raise RuntimeError(f"The other merchant was answered {answer.status}.")
    return content


@contextlib.contextmanager
def _attacking(name: str, values: dict[str, str], counts: dict[str, int]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.hostile", name, json.dumps(values)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        process.stdout.readline()
        time.sleep(1.0)
        yield
        process.stdin.close()
        for status, count in json.loads(process.stdout.readline()).items():
            counts[status] = counts.get(status, 0) + count
    finally:
        process.kill()
        process.wait()


def neighbours(stand: Stand, seconds: float, windows: int, only: tuple[str, ...] = ()) -> list[Row]:
    """Row 16, a row for each attack: so many windows of so many seconds without and with it."""
    stand.clear()
    calm = _merchant("calm")
    config = stand.app.config["PORTAL"]
    stand.webhooks(1, "/calm", merchant=calm[0])
    rows = []
    with contextlib.ExitStack() as parts:
        url = parts.enter_context(web(stand, processes=config.web_processes, **_limits()))
        base = url.removesuffix("/api/v1/events")
        for command in (
            ("deliver", "--processes", str(config.workers)),
            ("maintenance",),
            ("cron",),
        ):
            parts.enter_context(stand.process("worker.py", "--part", *command))
        other = _Other(stand, base, calm[1], calm[2])
        other.measure(2)
        for name in only or ATTACKS:
            found: dict[bool, list[dict[str, list[float]]]] = {False: [], True: []}
            counts: dict[str, int] = {}
            for window in range(windows):
                merchant, key, email = _merchant(f"{name}-{window}")
                hooks = _prepare(stand, name, merchant)
                values = {
                    "base": base,
                    "slug": merchant.slug,
                    "key": key,
                    "email": email,
                    "webhook_id": hooks[0] if hooks else "",
                }
                # A snapshot that stays open here would keep SQLite's log from beginning again.
                db.session.rollback()
                time.sleep(SETTLE_SECONDS)
                found[False].append(other.measure(seconds))
                with _attacking(name, values, counts):
                    found[True].append(other.measure(seconds))
                _end(merchant)
            rows.append(_row(stand, name, found[False], found[True], counts))
    return rows


def _limits() -> dict[str, str]:
    # As they come; the other rows measure how much there can be.
    return {f"PORTAL_{one.name}": one.default for one in SETTINGS if one.name.startswith("API_")}


def _merchant(slug: str) -> tuple[Merchant, str, str]:
    user = User(email=f"{slug}@example.com", name=slug)
    user.set_password(PASSWORD)
    # With the portal's processes, in turn.
    with writing(60) as session:
        merchant = Merchant(slug=slug, name=slug, active=True)
        session.add(merchant)
        session.flush()
        key, text = ApiKey.make(merchant, "write")
        user.memberships = [Membership(merchant_id=merchant.id, role="owner")]
        session.add_all([key, user])
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
    time.sleep(SETTLE_SECONDS)


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
    stand: Stand,
    name: str,
    alone: list[dict[str, list[float]]],
    beside: list[dict[str, list[float]]],
    counts: dict[str, int],
) -> Row:
    ratios: dict[str, float] = {}
    detail: dict[str, Any] = {}
    for what in alone[0]:
        # Of all windows together: of one there are too few for the slowest in a hundred.
        usual, now = (
            [wait for window in windows for wait in window[what]] for windows in (alone, beside)
        )
        usual_p99, now_p99 = percentile(usual, 99), percentile(now, 99)
        ratios[what] = max(now_p99, LEAST_MS) / max(usual_p99, LEAST_MS)
        detail |= {
            f"{what}": len(now),
            f"{what}_ratio": ratios[what],
            f"{what}_p99_alone_ms": usual_p99,
            f"{what}_p99_ms": now_p99,
            f"{what}_p50_alone_ms": median(usual),
            f"{what}_p50_ms": median(now),
        }
    detail["answers"] = ", ".join(f"{count} × {code}" for code, count in sorted(counts.items()))
    return Row(
        "16",
        f"A merchant beside one that attacks by {name}: p99 ÷ alone, the worst of posts, "
        "deliveries and pages",
        stand.kind,
        max(ratios.values()),
        "×",
        f"≤ {MOST:g}",
        max(ratios.values()) <= MOST,
        [],
        detail,
    )


if __name__ == "__main__":
    attack(sys.argv[1], json.loads(sys.argv[2]))
