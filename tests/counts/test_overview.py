"""The first page's numbers are a merchant's own, and bounded."""

from __future__ import annotations

import pytest
from flask import Flask

from portal.clock import DAY, HOUR, MINUTE, now
from portal.counts import attention, counting, overview, statistics
from portal.counts.statistics import SPANS, Tally
from portal.db.session import db
from portal.errors import NotFound
from portal.ids import request_id_at
from portal.models import AttemptCount, CountedUntil, EventCount, Merchant, Notice
from tests import factories
from tests.conftest import on_both_databases

pytestmark = on_both_databases

DAY_SPAN = SPANS["24h"]


def test_a_new_merchant_has_all_steps_before_it(merchant: Merchant) -> None:
    shown = overview.overview(merchant.id, DAY_SPAN)
    assert not shown.steps.done
    assert (shown.steps.webhook, shown.steps.key, shown.steps.event) == (False, False, False)
    assert (shown.history.total, shown.pending, shown.held) == (Tally(), 0, 0)
    assert (shown.attempts, shown.concerns) == ([], [])


def test_steps_are_done_one_by_one(merchant: Merchant, api_key: str) -> None:
    factories.make_webhook(merchant)
    factories.make_event(merchant)
    assert overview.overview(merchant.id, DAY_SPAN).steps.done


def test_the_last_day_is_counted_before_and_after_the_counting(merchant: Merchant) -> None:
    webhook = factories.make_webhook(merchant)
    for state, status in (("succeeded", 200), ("succeeded", 200), ("pending", 503)):
        event = factories.make_event(merchant, received_at=now() - 10 * MINUTE)
        delivery = factories.make_delivery(event, webhook, state)
        moment = now() - 10 * MINUTE
        factories.make_attempt(
            delivery, status, id=request_id_at(moment) + delivery.id[-20:], attempted_at=moment
        )
    before = overview.overview(merchant.id, DAY_SPAN).history.total
    assert (before.events, before.successes, before.failures) == (3, 2, 1)
    counting.count_new()
    db.session.rollback()
    shown = overview.overview(merchant.id, DAY_SPAN)
    assert shown.history.total == before
    assert (shown.pending, shown.held) == (1, 0)


def test_the_day_before_is_what_is_compared_with(merchant: Merchant) -> None:
    factories.make_event(merchant, received_at=now() - DAY - 2 * HOUR)
    factories.make_event(merchant, received_at=now() - 2 * HOUR)
    factories.make_event(merchant, received_at=now() - 2 * HOUR)
    counting.count_new()
    history = overview.overview(merchant.id, DAY_SPAN).history
    assert (history.total.events, history.recent.events, history.before.events) == (2, 2, 1)


@pytest.mark.parametrize("fields", [{"held_at": 1, "failures": 20}, {"enabled": False}])
def test_what_a_held_or_disabled_webhook_owes_is_held(
    merchant: Merchant, fields: dict[str, object]
) -> None:
    webhook = factories.make_webhook(merchant, **fields)
    factories.make_delivery(factories.make_event(merchant), webhook, "pending")
    shown = overview.overview(merchant.id, DAY_SPAN)
    assert (shown.pending, shown.held) == (0, 1)


def test_what_waits_is_counted_to_the_cap(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "CAP", 3)
    webhook, other = factories.make_webhook(merchant), factories.make_webhook(merchant)
    for _ in range(5):
        factories.make_delivery(factories.make_event(merchant), webhook, "pending")
    factories.make_delivery(factories.make_event(merchant), other, "pending")
    assert attention.waiting(merchant.id) == {webhook.id: 3, other.id: 1}


def test_only_webhooks_in_trouble_need_attention(merchant: Merchant) -> None:
    factories.make_webhook(merchant, description="well")
    factories.make_webhook(merchant, description="switched off", enabled=False)
    factories.make_webhook(merchant, description="failing", failures=3, failing_since=1)
    factories.make_webhook(merchant, description="held", failures=20, held_at=2, failing_since=1)
    factories.make_webhook(merchant, description="given up", enabled=False, failing_since=1)
    factories.make_webhook(merchant, description="gone", failures=3, deleted_at=1)
    shown = [
        concern.webhook.description
        for concern in overview.overview(merchant.id, DAY_SPAN).concerns
        if concern.webhook
    ]
    assert shown == ["held", "given up", "failing"]


def test_nothing_of_another_merchant_is_seen(merchant: Merchant) -> None:
    bob = factories.make_merchant("bob")
    webhook = factories.make_webhook(bob, failures=3)
    delivery = factories.make_delivery(factories.make_event(bob), webhook, "succeeded")
    factories.make_attempt(delivery)
    db.session.add(Notice(merchant_id=bob.id, kind="held", message="Bob's"))
    db.session.commit()
    shown = overview.overview(merchant.id, DAY_SPAN)
    assert (shown.history.total, shown.pending) == (Tally(), 0)
    assert (shown.notices, shown.attempts, shown.concerns, shown.webhooks) == ([], [], [], {})
    assert overview.webhook_rows(merchant.id) == []
    counting.count_new(now() + HOUR)
    assert overview.overview(merchant.id, DAY_SPAN).history.total == Tally()
    assert statistics.by_webhook(merchant.id) == {}
    assert statistics.by_webhook(bob.id)[webhook.id][-1].tally.attempts == 1


def test_a_notice_is_shown_until_it_is_dismissed(app: Flask, merchant: Merchant) -> None:
    notice = Notice(merchant_id=merchant.id, kind="held", message="Held.")
    db.session.add(notice)
    db.session.commit()
    assert overview.open_notices(merchant.id) == [notice]
    overview.dismiss_notice(merchant.id, notice.id)
    assert overview.open_notices(merchant.id) == []


def test_the_notice_of_another_merchant_does_not_exist(merchant: Merchant) -> None:
    bob = factories.make_merchant("bob")
    notice = Notice(merchant_id=bob.id, kind="held", message="Bob's")
    db.session.add(notice)
    db.session.commit()
    with pytest.raises(NotFound):
        overview.dismiss_notice(merchant.id, notice.id)
    assert overview.open_notices(bob.id) == [notice]


def busy_until(merchant: Merchant, webhook_id: str, hours: int) -> None:
    start = now() - now() % HOUR
    for hour in range(hours, hours + 48):
        db.session.add(EventCount(merchant_id=merchant.id, starts_at=start - hour * HOUR, events=9))
        db.session.add(
            AttemptCount(
                merchant_id=merchant.id,
                starts_at=start - hour * HOUR,
                webhook_id=webhook_id,
                took=5,
                attempts=9,
                successes=9,
            )
        )
    db.session.add(CountedUntil(id=1, moment=now() - MINUTE))
    db.session.commit()


def test_a_store_that_falls_silent_needs_attention_until_an_event_comes(merchant: Merchant) -> None:
    webhook = factories.make_webhook(merchant)
    busy_until(merchant, webhook.id, 8)
    (concern,) = overview.overview(merchant.id, DAY_SPAN).concerns
    assert (concern.kind, concern.webhook) == ("silent", None)
    factories.make_event(merchant)
    (concern,) = overview.overview(merchant.id, DAY_SPAN).concerns
    assert (concern.kind, concern.webhook) == ("silent", webhook)
    factories.make_attempt(factories.make_delivery(factories.make_event(merchant), webhook))
    assert overview.overview(merchant.id, DAY_SPAN).concerns == []


def test_a_page_looks_through_few_rows_and_says_up_to_when(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "UNCOUNTED", 2)
    for minutes in (50, 40, 30, 20):
        factories.make_event(merchant, received_at=now() - minutes * MINUTE)
    history = overview.overview(merchant.id, DAY_SPAN).history
    assert history.total.events == 2
    assert history.until == pytest.approx(now() - 30 * MINUTE, abs=MINUTE)


def test_the_list_says_how_each_webhook_does(merchant: Merchant) -> None:
    erp = factories.make_webhook(merchant, description="erp", held_at=1, failures=9)
    zoo = factories.make_webhook(merchant, description="Zoo", url="https://zoo.example/")
    delivery = factories.make_delivery(factories.make_event(merchant), erp)
    factories.make_attempt(delivery, 503)
    factories.make_attempt(delivery, 200, duration_us=41_000)
    (line,) = overview.webhook_rows(merchant.id, search="ERP hook")
    assert (line.webhook, line.waiting, line.total.rate) == (erp, 1, 0.5)
    assert line.total.p95 == pytest.approx(41_000, rel=0.2)
    assert [one.webhook for one in overview.webhook_rows(merchant.id, "name")] == [erp, zoo]
    assert [one.webhook for one in overview.webhook_rows(merchant.id, "state")] == [erp, zoo]
    assert [one.webhook for one in overview.webhook_rows(merchant.id)] == [zoo, erp]
    assert overview.webhook_rows(merchant.id, search="nowhere") == []
