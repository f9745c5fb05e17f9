"""How quickly each log page answers over a million events and a million attempts.

    .venv/bin/python -m benchmarks.log_pages [--rows 1000000] [--directory DIR] [--only TEXT]

Makes the database once (SQLite, some minutes) and asks for each page several times, in this
process, so that the figures are the server's own. Ends with status 1 when one takes longer than
its limit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal import create_app
from portal.clock import DAY, now
from portal.config import load_config
from portal.counts import counting
from portal.db.session import db, writing
from portal.models import Membership, Merchant, User, Webhook
from portal.models.webhook import lane_of
from portal.run import first_start

LIMIT_MS = 200
TRIES = 5
PASSWORD = "correct horse battery"
SLUGS = ("big", "small", "calm", "tiny", "quiet")
HOT_RECORD, HOT_ACTION = "sku-hot", "import-1"

_NUMBERS = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows),
row AS (
  SELECT i, :start + i * (:span / :rows) AS at,
         CASE WHEN i % 10 < 6 THEN 1 ELSE i % 10 - 4 END AS merchant
  FROM n
)
"""
"""Six of ten rows are the first merchant's; one in ten each of the others'."""
_STATEMENTS = (
    _NUMBERS
    + """
INSERT INTO event (merchant_id, id, type, object_type, object_id, source_user_type,
  source_user_id, correlation_id, occurred_at, received_at, deliveries, is_test)
SELECT merchant, printf('evt_%012x%020x', at / 1000, i),
  CASE i % 7 WHEN 0 THEN 'customer.updated' WHEN 1 THEN 'inventory.updated'
             ELSE 'order.updated' END,
  CASE i % 7 WHEN 0 THEN 'customer' WHEN 1 THEN 'inventory' ELSE 'order' END,
  CASE WHEN i % 14 = 1 THEN 'sku-hot' ELSE CAST(i / 40 AS TEXT) END,
  'storefront', CAST(i % 1000 AS TEXT),
  CASE WHEN i % 20 = 3 THEN 'import-1' WHEN i % 3 = 0 THEN 'act-' || (i / 3) END,
  at, at, 1, 0
FROM row""",
    _NUMBERS
    + """
INSERT INTO event_payload (merchant_id, event_id, head, data, previous, received_at)
SELECT merchant, printf('evt_%012x%020x', at / 1000, i), '{"id":"x"}',
  '{"number":"SO-' || i || '","total":"' || (i % 900) || '.50","email":"kim' || (i % 50000)
  || '@example.com","status":"' || (i % 5) || '"}', NULL, at
FROM row WHERE at > :payloads_since""",
    _NUMBERS
    + """
INSERT INTO delivery (id, merchant_id, event_id, webhook_id, state, attempts, step, is_retry,
  trigger, created_at, finished_at)
SELECT printf('dlv_%012x%020x', at / 1000, i), merchant,
  printf('evt_%012x%020x', at / 1000, i), 'wh_' || merchant || '_' || (i % 3),
  CASE WHEN merchant = 1 AND i % 200 = 0 THEN 'failed' ELSE 'succeeded' END, 1, 1, 0,
  'scheduled', at, at
FROM row""",
    _NUMBERS
    + """
INSERT INTO attempt (id, merchant_id, event_id, webhook_id, delivery_id, number, trigger,
  attempted_at, method, uri, status, error, ok, duration_us)
SELECT printf('req_%012x%020x', at / 1000, i), merchant,
  printf('evt_%012x%020x', at / 1000, i), 'wh_' || merchant || '_' || (i % 3),
  printf('dlv_%012x%020x', at / 1000, i), 1, 'scheduled', at, 'POST',
  'https://erp.example.com/hook', CASE WHEN merchant = 1 AND i % 200 = 0 THEN 503 ELSE 200 END,
  NULL, NOT (merchant = 1 AND i % 200 = 0), 20000 + i * 7919 % 90000
FROM row""",
)


def fill(rows: int) -> None:
    """Merchants, webhooks and `rows` events, each with a delivery and an attempt, over 60 days;
    record data for the last 15 of them."""
    with writing() as session:
        for number, slug in enumerate(SLUGS, 1):
            session.add(Merchant(id=number, slug=slug, name=slug, active=True))
            session.flush()
            for place in range(3):
                webhook_id = f"wh_{number}_{place}"
                webhook = Webhook(
                    id=webhook_id,
                    merchant_id=number,
                    url="https://erp.example.com/hook",
                    events=["*"],
                    description=f"ERP {place}",
                    lane=lane_of(webhook_id, 4),
                )
                webhook.set_secret("whsec_x")
                session.add(webhook)
        for email, role in (("staff@example.com", "auditor"), ("owner@example.com", None)):
            user = User(email=email, name=email, staff_role=role)
            user.set_password(PASSWORD)
            if role is None:
                user.memberships = [Membership(merchant_id=1, role="owner")]
            session.add(user)
    span = 60 * DAY
    values = {"rows": rows, "span": span, "start": now() - span, "payloads_since": now() - 15 * DAY}
    for statement in _STATEMENTS:
        started = time.monotonic()
        with writing() as session:
            session.execute(sa.text(statement), values)
        print(f"  {statement.split('INTO ')[1].split()[0]}: {time.monotonic() - started:.0f} s")


def pages(rows: int) -> dict[str, list[str]]:
    """The addresses to ask for, by who asks: `staff`, `owner`."""
    number = rows // 2 // 40
    middle = rows // 2
    found = db.session.execute(
        sa.text("SELECT id FROM event WHERE merchant_id = 1 ORDER BY received_at DESC LIMIT 1")
    ).scalar_one()
    logs = [
        "events",
        "events?type=order.*",
        "events?type=refund.created",
        "events?type=inventory.updated&since=7d",
        f"events?object_id={number}",
        f"events?object_id={HOT_RECORD}",
        f"events?correlation_id=act-{middle // 3}",
        f"events?correlation_id={HOT_ACTION}",
        "events?since=15m",
        "events?since=24h",
        "events?since=2020-01-01&until=2020-01-02",
        f"events?event_id={found}",
        "events?schema=flagged",
        "events?test=yes",
        "events?source_user_id=nobody",
        "attempts",
        "attempts?outcome=failed",
        "attempts?status=5xx",
        "attempts?status=404",
        "attempts?since=24h&outcome=failed",
        f"attempts?event_id={found}",
        "attempts?error=connect_timeout",
        "attempts?method=GET",
        "attempts?trigger=manual",
    ]
    searches = [
        str(number),
        f"order {number}",
        HOT_RECORD,
        HOT_ACTION,
        found,
        "erp",
        "nothing at all",
    ]
    return {
        "owner": [
            *(f"/m/big/{log}" for log in logs),
            "/m/big/attempts?webhook_id=wh_1_0",
            "/m/big/attempts?webhook_id=wh_1_0&outcome=failed",
            f"/m/big/records/order/{number}",
            f"/m/big/records/inventory/{HOT_RECORD}",
            f"/m/big/events/{found}",
            "/m/big/",
            "/m/big/?span=7d",
            "/m/big/?span=30d",
            "/m/big/webhooks",
            "/m/big/webhooks/wh_1_0",
            "/m/big/webhooks/wh_1_0?span=30d",
            *(f"/search?all&q={text}" for text in searches),
        ],
        "staff": [
            *(f"/staff/{log}" for log in logs),
            "/m/calm/attempts?outcome=failed",
            *(f"/search?all&q={text}" for text in searches),
        ],
    }


def sign_in(app: Flask, name: str) -> FlaskClient:
    """A browser of one of the two users."""
    client = app.test_client()
    client.post("/sign-in", data={"email": f"{name}@example.com", "password": PASSWORD})
    return client


def main() -> int:
    """Make the database where there is none, ask for every page, print, judge."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--directory", default=f"{tempfile.gettempdir()}/portal-log-pages")
    arguments.add_argument("--only", default="", help="ask for addresses that hold this text")
    given = arguments.parse_args()
    directory = Path(given.directory)
    app = create_app(load_config({"PORTAL_DATA_DIR": str(directory)}, first_start=True))
    app.config["WTF_CSRF_ENABLED"] = False
    slow = 0
    with app.app_context():
        first_start.prepare()
        if db.session.scalar(sa.select(Merchant.id).limit(1)) is None:
            print(f"Making {given.rows:,} events in {directory}")
            fill(given.rows)
        started = time.monotonic()
        while counting.count_new() < now() - 2 * counting.SETTLED:
            db.session.rollback()
        print(f"  counting: {time.monotonic() - started:.0f} s")
        asked = pages(given.rows)
        db.session.rollback()
    print(f"{'median':>8} {'worst':>8}  page (ms, of {TRIES})")
    for name, addresses in asked.items():
        client = sign_in(app, name)
        for address in addresses:
            if given.only not in address:
                continue
            times = []
            for _ in range(TRIES):
                started = time.perf_counter()
                answer = client.get(address)
                times.append((time.perf_counter() - started) * 1_000)
                assert answer.status_code == 200, (address, answer.status_code)
            middle = statistics.median(times)
            slow += middle > LIMIT_MS
            mark = "  SLOW" if middle > LIMIT_MS else ""
            print(f"{middle:8.1f} {max(times):8.1f}  {name} {address}{mark}", flush=True)
    print(f"{slow} over {LIMIT_MS} ms")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
