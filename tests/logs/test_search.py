"""The search box: what people type, and what it finds."""

from __future__ import annotations

import pytest

from portal.logs import search
from portal.logs.search import Action, Record
from portal.models import Merchant
from tests import factories
from tests.conftest import on_both_databases

pytestmark = on_both_databases


@pytest.mark.parametrize(
    "text", ["1042", "#1042", "order 1042", "order:1042", "Order #1042", "order/1042", " 1042 "]
)
def test_an_order_is_found_by_its_number(merchant: Merchant, text: str):
    factories.make_event(merchant, object_id="1042")
    factories.make_event(merchant, object_id="1042", type="order.paid")
    found = search.find(text, [merchant.id])
    assert found.all == [Record(merchant.id, "order", "1042")]


def test_records_of_several_types_may_have_one_number(merchant: Merchant):
    for object_type in ("order", "invoice"):
        factories.make_event(merchant, object_id="7", object_type=object_type)
    assert [record.object_type for record in search.find("7", [merchant.id]).records] == [
        "invoice",
        "order",
    ]
    assert search.find("invoice 7", [merchant.id]).records == [Record(merchant.id, "invoice", "7")]


def test_everything_with_an_id_is_found_by_it(merchant: Merchant):
    webhook = factories.make_webhook(merchant)
    event = factories.make_event(merchant, correlation_id="checkout-77")
    delivery = factories.make_delivery(event, webhook)
    attempt = factories.make_attempt(delivery)
    own = [merchant.id]
    assert search.find(event.id, own).all == [event]
    assert search.find(delivery.id, own).all == [event]
    assert search.find(attempt.id, own).all == [attempt]
    assert search.find(webhook.id, own).all == [webhook]
    assert search.find("checkout-77", own).all == [Action(merchant.id, "checkout-77")]


def test_a_webhook_is_found_by_a_part_of_its_name_or_address(merchant: Merchant):
    webhook = factories.make_webhook(merchant, description="Orders to ERP 100%")
    factories.make_webhook(merchant, description="CRM", url="https://crm.example.com/in")
    for text in ("erp", "100%", "ERP.example.com"):
        assert search.find(text, [merchant.id]).webhooks == [webhook]
    assert search.find("%", [merchant.id]).all == []
    assert search.find("10_%", [merchant.id]).all == []


def test_nobody_finds_what_is_another_merchants(merchant: Merchant):
    bob = factories.make_merchant("bob")
    webhook = factories.make_webhook(bob, description="secret plan")
    event = factories.make_event(bob, correlation_id="c-1", object_id="77")
    attempt = factories.make_attempt(factories.make_delivery(event, webhook))
    for text in (event.id, attempt.id, webhook.id, "c-1", "77", "secret plan", "bob"):
        assert search.find(text, [merchant.id]).all == []
        assert search.find(text, []).all == []
        assert len(search.find(text, None).all) == 1


def test_staff_find_an_order_of_every_merchant(merchant: Merchant):
    bob = factories.make_merchant("bob")
    for owner in (merchant, bob):
        factories.make_event(owner, object_id="1042")
    found = search.find("1042", None)
    assert [record.merchant_id for record in found.records] == [merchant.id, bob.id]
    assert found.merchants == {merchant.id: merchant, bob.id: bob}


@pytest.mark.parametrize("text", ["", "   ", "\x00", "x" * 5_000, "' OR 1=1 --", "\u202e", "#"])
def test_what_cannot_be_found_is_nothing(merchant: Merchant, text: str):
    factories.make_event(merchant)
    assert search.find(text, None).all == []
