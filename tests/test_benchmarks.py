"""What the benchmarks take for granted about the log that they have filled."""

from __future__ import annotations

import sqlalchemy as sa

from benchmarks import history, retention
from portal.clock import DAY, HOUR, now
from portal.counts import counting
from portal.db.session import db
from portal.models import Merchant
from portal.storage import measuring
from tests.conftest import on_both_databases
from tests.factories import make_webhook


@on_both_databases
def test_a_filled_log_is_quiet_once_it_was_counted_and_measured(merchant: Merchant) -> None:
    history.fill(make_webhook(merchant), 3_000, days=1, payload_days=1)
    assert retention._counted() == 0
    while counting.count_new() < now() - HOUR:
        pass
    assert retention._counted() == 0, "it is not measured"
    while measuring.measure():
        pass
    assert now() - retention._counted() < retention.SETTLED


@on_both_databases
def test_autovacuum_finds_nothing_to_do_in_a_filled_log(merchant: Merchant) -> None:
    history.fill(make_webhook(merchant), 3_000, days=1, payload_days=1)
    db.session.rollback()
    retention._settle()
    if db.engine.dialect.name == "postgresql":
        visible = db.session.execute(
            sa.text(
                "SELECT relname, relpages, relallvisible FROM pg_class WHERE relname IN "
                "('event', 'event_payload', 'delivery', 'attempt', 'attempt_payload')"
            )
        ).all()
        assert len(visible) == 5
        # A page that was added and is empty yet is not marked, and nothing is to do in it.
        assert all(0 < row.relpages <= row.relallvisible + 1 for row in visible), visible


def test_what_row_15_sends_again_keeps_its_record_all_along() -> None:
    assert retention.RECOVERED * 4 <= (retention.PAYLOAD_DAYS - retention.NIGHTS) * DAY
