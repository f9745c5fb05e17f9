"""A log of months in seconds or minutes: events with their deliveries, attempts and payloads, made
by the database itself, on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from portal.clock import DAY, now
from portal.db.session import db, writing
from portal.models import Webhook

TOGETHER = 100_000
"""Events of one transaction."""

_NUMBERS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE "
    "i + 1 < :last)",
    "postgresql": "WITH n(i) AS (SELECT * FROM generate_series(CAST(:first AS BIGINT), "
    "CAST(:last AS BIGINT) - 1) AS i)",
}
_IDS = {
    "sqlite": "printf('%012x%020x', at / 1000, i)",
    "postgresql": "lpad(to_hex(at / 1000), 12, '0') || lpad(to_hex(i), 20, '0')",
}
_ROWS = """, row AS (SELECT i, CAST(:start AS BIGINT) + i * CAST(:step AS BIGINT) AS at FROM n)
, named AS (SELECT i, at, {id} AS id FROM row)"""
_STATEMENTS = (
    """INSERT INTO event (merchant_id, id, type, object_type, object_id, source_user_type,
  source_user_id, correlation_id, occurred_at, received_at, deliveries, is_test)
{rows} SELECT :merchant, 'evt_' || id, 'order.updated', 'order', CAST(i / 4 AS TEXT), 'storefront',
  CAST(i % 1000 AS TEXT), 'act-' || CAST(i / 3 AS TEXT), at, at, 1, {no} FROM named""",
    """INSERT INTO delivery (id, merchant_id, event_id, webhook_id, state, attempts, step, is_retry,
  trigger, created_at, finished_at)
{rows} SELECT 'dlv_' || id, :merchant, 'evt_' || id, :webhook,
  CASE WHEN i % 200 = 0 THEN 'failed' ELSE 'succeeded' END, 1, 1, {no}, 'scheduled', at, at
FROM named""",
    """INSERT INTO attempt (id, merchant_id, event_id, webhook_id, delivery_id, number, trigger,
  attempted_at, method, uri, status, ok, duration_us)
{rows} SELECT 'req_' || id, :merchant, 'evt_' || id, :webhook, 'dlv_' || id, 1, 'scheduled', at,
  'POST', 'https://erp.example.com/hook', CASE WHEN i % 200 = 0 THEN 503 ELSE 200 END,
  i % 200 <> 0, 20000 + i % 90000 FROM named""",
    """INSERT INTO event_payload (merchant_id, event_id, head, data, received_at)
{rows} SELECT :merchant, 'evt_' || id, '{{"id":"x"}}',
  '{{"number":"SO-' || CAST(i AS TEXT) || '"}}', at FROM named WHERE at >= :payloads_since""",
    """INSERT INTO attempt_payload (attempt_id, merchant_id, request_headers, body_kind,
  response_headers, response_body, truncated)
{rows} SELECT 'req_' || id, :merchant, '[["content-type","application/json"]]', 'record',
  '[["server","nginx"]]', NULL, {no} FROM named WHERE at >= :payloads_since""",
)


def fill(webhook: Webhook, events: int, days: float, payload_days: float) -> None:
    """`events` of the webhook's merchant, evenly over the last `days`, each delivered to it by one
    attempt (one in 200 failed); payloads of the last `payload_days`."""
    moment, span = now(), round(days * DAY)
    values: dict[str, Any] = {
        "merchant": webhook.merchant_id,
        "webhook": webhook.id,
        "start": moment - span,
        "step": span // events,
        "payloads_since": moment - round(payload_days * DAY),
    }
    dialect = db.engine.dialect.name
    rows = _NUMBERS[dialect] + _ROWS.format(id=_IDS[dialect])
    no = "0" if dialect == "sqlite" else "false"
    for first in range(0, events, TOGETHER):
        for statement in _STATEMENTS:
            with writing() as session:
                session.execute(
                    sa.text(statement.format(rows=rows, no=no)),
                    values | {"first": first, "last": min(first + TOGETHER, events)},
                )
    if dialect == "postgresql":
        with db.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("ANALYZE"))
