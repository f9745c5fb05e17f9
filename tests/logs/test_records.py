"""The story of one record."""

from __future__ import annotations

import pytest

from portal.clock import SECOND, now
from portal.db.listing import BadCursor
from portal.db.session import db
from portal.errors import NotFound
from portal.logs import records
from portal.models import EventPayload, Merchant
from tests import factories
from tests.conftest import on_both_databases

pytestmark = on_both_databases


def happened(merchant: Merchant, *records_data: str | None, **fields: str) -> list[str]:
    start = now() - 1_000 * SECOND
    return [
        factories.make_event(merchant, data=data, received_at=start + n * SECOND, **fields).id
        for n, data in enumerate(records_data)
    ]


def test_every_event_of_a_record_tells_what_it_changed(merchant: Merchant):
    ids = happened(merchant, '{"total":1}', '{"total":2}', '{"total":2}')
    factories.make_event(merchant, object_id="1001")
    factories.make_event(merchant, object_type="invoice")
    page = records.story(merchant.id, "order", "1000")
    assert [chapter.event.id for chapter in page.rows] == ids[::-1]
    last, second, first = (chapter.changes for chapter in page.rows)
    assert last
    assert second
    assert first
    assert last.unannounced == []
    assert [(one.path, one.before, one.after) for one in second.unannounced] == [
        ("total", "1", "2")
    ]
    assert first.unannounced == []
    assert [chapter.is_first for chapter in page.rows] == [False, False, True]


def test_the_record_is_compared_across_pages(merchant: Merchant, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "EVENTS_ON_A_PAGE", 2)
    happened(merchant, '{"n":1}', '{"n":2}', '{"n":3}', '{"n":4}')
    page = records.story(merchant.id, "order", "1000")
    older = records.story(merchant.id, "order", "1000", page.next_cursor)
    assert older.next_cursor is None
    found = [
        change.after
        for chapter in [*page.rows, *older.rows]
        for change in (chapter.changes.unannounced if chapter.changes else [])
    ]
    assert found == ["4", "3", "2"]


def test_an_event_without_a_record_does_not_break_the_comparison(merchant: Merchant):
    happened(merchant, '{"n":1}', None, '{"n":2}')
    last, silent, _ = records.story(merchant.id, "order", "1000").rows
    assert silent.changes is None
    assert last.changes
    assert [change.after for change in last.changes.unannounced] == ["2"]


def test_record_data_past_its_days_is_no_change(merchant: Merchant):
    (event_id,) = happened(merchant, '{"n":1}')
    payload = db.session.get_one(EventPayload, (merchant.id, event_id))
    db.session.delete(payload)
    db.session.commit()
    (only,) = records.story(merchant.id, "order", "1000").rows
    assert only.changes is None


def test_each_event_shows_its_deliveries_and_their_newest_attempts(merchant: Merchant):
    erp = factories.make_webhook(merchant, held_at=now())
    event = factories.make_event(merchant, deliveries=1)
    delivery = factories.make_delivery(event, erp, attempts=7)
    tried = [factories.make_attempt(delivery, 500, number=n) for n in range(1, 8)]
    (only,) = records.story(merchant.id, "order", "1000").rows
    (sent,) = only.sent
    assert (sent.webhook, sent.state) == (erp, "held")
    newest = tried[::-1][: records.SHOWN_ATTEMPTS]
    assert [attempt.id for attempt in sent.attempts] == [attempt.id for attempt in newest]


def test_what_else_the_same_action_did_is_named(merchant: Merchant):
    factories.make_event(merchant, correlation_id="checkout-7")
    other = factories.make_event(
        merchant, correlation_id="checkout-7", object_type="payment", object_id="p1"
    )
    factories.make_event(
        factories.make_merchant("bob"), correlation_id="checkout-7", object_id="b1"
    )
    (only,) = records.story(merchant.id, "order", "1000").rows
    assert [event.id for event in only.related] == [other.id]


def test_anothers_record_is_not_there(merchant: Merchant):
    factories.make_event(factories.make_merchant("bob"))
    with pytest.raises(NotFound):
        records.story(merchant.id, "order", "1000")


def test_a_cursor_of_another_list_is_refused(merchant: Merchant):
    happened(merchant, "{}")
    with pytest.raises(BadCursor):
        records.story(merchant.id, "order", "1000", "made up")
