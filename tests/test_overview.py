"""The first page's numbers are a merchant's own, and bounded."""

from __future__ import annotations

import pytest
from flask import Flask

from portal.clock import DAY, now
from portal.errors import NotFound
from portal.extensions import db
from portal.logs import overview
from portal.models import Merchant, Notice
from tests import factories
from tests.conftest import on_both_databases

pytestmark = on_both_databases


def test_a_new_merchant_has_all_steps_before_it(merchant: Merchant) -> None:
    shown = overview.overview(merchant.id)
    assert not shown.steps.done
    assert (shown.steps.webhook, shown.steps.key, shown.steps.event) == (False, False, False)
    assert (shown.events, sum(shown.deliveries.values()), shown.attempts) == (0, 0, [])


def test_steps_are_done_one_by_one(merchant: Merchant, api_key: str) -> None:
    factories.make_webhook(merchant)
    factories.make_event(merchant)
    assert overview.overview(merchant.id).steps.done


def test_today_is_counted_by_state(merchant: Merchant) -> None:
    webhook = factories.make_webhook(merchant)
    for state in ("succeeded", "succeeded", "failed", "pending", "discarded"):
        factories.make_delivery(factories.make_event(merchant), webhook, state)
    shown = overview.overview(merchant.id)
    assert shown.events == 5
    assert shown.deliveries == {"succeeded": 2, "failed": 1, "pending": 1, "held": 0}


def test_yesterday_is_not_counted(merchant: Merchant) -> None:
    webhook = factories.make_webhook(merchant)
    event = factories.make_event(merchant, received_at=now() - DAY - 1)
    factories.make_delivery(event, webhook, "succeeded")
    shown = overview.overview(merchant.id)
    assert (shown.events, shown.deliveries["succeeded"]) == (0, 0)


@pytest.mark.parametrize("fields", [{"held_at": 1, "failures": 20}, {"enabled": False}])
def test_what_a_held_or_disabled_webhook_owes_is_held(
    merchant: Merchant, fields: dict[str, object]
) -> None:
    webhook = factories.make_webhook(merchant, **fields)
    factories.make_delivery(factories.make_event(merchant), webhook, "pending")
    assert overview.overview(merchant.id).deliveries["held"] == 1


def test_counts_end_at_the_cap(merchant: Merchant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "CAP", 3)
    webhook = factories.make_webhook(merchant)
    for _ in range(5):
        factories.make_delivery(factories.make_event(merchant), webhook, "succeeded")
    shown = overview.overview(merchant.id)
    assert (shown.events, shown.deliveries["succeeded"]) == (3, 3)


def test_only_webhooks_in_trouble_need_attention(merchant: Merchant) -> None:
    factories.make_webhook(merchant, description="well")
    factories.make_webhook(merchant, description="switched off", enabled=False)
    factories.make_webhook(merchant, description="failing", failures=3, failing_since=1)
    factories.make_webhook(merchant, description="held", failures=20, held_at=2, failing_since=1)
    factories.make_webhook(merchant, description="given up", enabled=False, failing_since=1)
    factories.make_webhook(merchant, description="gone", failures=3, deleted_at=1)
    shown = {webhook.description for webhook in overview.overview(merchant.id).attention}
    assert shown == {"failing", "held", "given up"}


def test_nothing_of_another_merchant_is_seen(merchant: Merchant) -> None:
    bob = factories.make_merchant("bob")
    webhook = factories.make_webhook(bob, failures=3)
    delivery = factories.make_delivery(factories.make_event(bob), webhook, "succeeded")
    factories.make_attempt(delivery)
    db.session.add(Notice(merchant_id=bob.id, kind="held", message="Bob's"))
    db.session.commit()
    shown = overview.overview(merchant.id)
    assert (shown.events, sum(shown.deliveries.values())) == (0, 0)
    assert (shown.notices, shown.attempts, shown.attention, shown.webhooks) == ([], [], [], {})


def test_a_notice_is_shown_until_it_is_dismissed(app: Flask, merchant: Merchant) -> None:
    notice = Notice(merchant_id=merchant.id, kind="held", message="Held.")
    db.session.add(notice)
    db.session.commit()
    assert overview.open_notices(merchant.id) == [notice]
    overview.dismiss_notice(merchant, notice.id)
    assert overview.open_notices(merchant.id) == []


def test_the_notice_of_another_merchant_does_not_exist(merchant: Merchant) -> None:
    bob = factories.make_merchant("bob")
    notice = Notice(merchant_id=bob.id, kind="held", message="Bob's")
    db.session.add(notice)
    db.session.commit()
    with pytest.raises(NotFound):
        overview.dismiss_notice(merchant, notice.id)
    assert overview.open_notices(bob.id) == [notice]
