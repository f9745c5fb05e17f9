"""The list of webhooks and the page of one: how they do, what can be done, who did what."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from portal.db.session import db
from portal.models import Merchant, Webhook
from portal.webhooks import setup
from tests import factories

SignIn = Callable[[str], FlaskClient]
PART = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture
def webhook(merchant: Merchant) -> Webhook:
    return setup.create_webhook(
        merchant.id,
        {"url": "http://127.0.0.1:9/hook", "events": ["*"], "description": "ERP"},
        "user:ann@example.com",
    )


def tried(merchant: Merchant, webhook: Webhook) -> None:
    db.session.rollback()
    delivery = factories.make_delivery(factories.make_event(merchant), webhook)
    factories.make_attempt(delivery, 200, duration_us=40_000)
    factories.make_attempt(delivery, 503)


def test_the_list_says_how_each_does(
    signed_in: SignIn, merchant: Merchant, webhook: Webhook
) -> None:
    factories.make_webhook(merchant, description="<i>Idle</i>")
    tried(merchant, webhook)
    page = signed_in("viewer").get("/m/alice/webhooks").text
    assert "2 attempts" in page
    assert "50 %" in page
    assert "no attempt" in page
    assert "&lt;i&gt;Idle&lt;/i&gt;" in page


def test_the_list_is_sorted_and_searched_by_its_address(
    signed_in: SignIn, merchant: Merchant
) -> None:
    for number in range(9):
        factories.make_webhook(merchant, description=f"Shop {9 - number}")
    client = signed_in("viewer")
    page = client.get("/m/alice/webhooks?sort=name").text
    assert page.index("Shop 1<") < page.index("Shop 9<")
    assert "Find a webhook" in page
    page = client.get("/m/alice/webhooks?sort=name&search=shop+7").text
    assert "Shop 7<" in page
    assert "Shop 8<" not in page
    page = client.get("/m/alice/webhooks?search=%3Cu%3E").text
    assert "No webhook like that" in page
    assert "<u>" not in page
    assert client.get("/m/alice/webhooks?sort=nonsense&search=%00%").status_code == 200


def test_a_webhooks_page_shows_its_health_and_what_people_did(
    signed_in: SignIn, merchant: Merchant, webhook: Webhook
) -> None:
    client = signed_in("editor")
    address = f"/m/alice/webhooks/{webhook.id}"
    assert "No attempt yet" in client.get(address).text
    tried(merchant, webhook)
    setup.disable(webhook.merchant_id, webhook.id, "Moving <house>", "user:bob@example.com")
    page = client.get(f"{address}?span=7d").text
    assert "Last 7 days" in page
    assert "1 succeeded and 1 failed in 7 days" in page
    assert "<b>ann@example.com</b> created" in page
    assert "<b>bob@example.com</b> disabled: Moving &lt;house&gt;" in page
    assert "1 of its deliveries still wait and will be discarded" in page


def test_the_part_that_renews_itself_is_what_the_page_holds(
    signed_in: SignIn, merchant: Merchant, webhook: Webhook
) -> None:
    tried(merchant, webhook)
    client = signed_in("viewer")
    address = f"/m/alice/webhooks/{webhook.id}?span=30d"
    part = client.get(address, headers=PART).text
    assert "Last 30 days" in part
    assert part.strip() in client.get(address).text


def test_what_was_done_to_another_merchants_webhook_is_not_shown(
    signed_in: SignIn, merchant: Merchant, webhook: Webhook
) -> None:
    bob = factories.make_merchant("bob")
    theirs = factories.make_webhook(bob, description="Theirs")
    tried(bob, theirs)
    setup.disable(theirs.merchant_id, theirs.id, "Secret reason", "user:bob@example.com")
    client = signed_in("owner")
    for path in ("/m/alice/", "/m/alice/webhooks", f"/m/alice/webhooks/{webhook.id}"):
        page = client.get(path).text
        assert "Theirs" not in page
        assert "Secret reason" not in page
    assert client.get(f"/m/alice/webhooks/{theirs.id}").status_code == 404
