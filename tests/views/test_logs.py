"""The log pages: chips, periods, records, the search box."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from portal.clock import HOUR, MINUTE, now
from portal.db.session import db
from portal.models import Merchant
from tests import factories

SignIn = Callable[[str], FlaskClient]


def links(page: str, part: str) -> list[str]:
    found = re.search(rf'class="{part}".*?</(?:ul|nav)>', page, re.S)
    urls = re.findall(r'<a [^>]*?href="([^"]+)"', found[0]) if found else []
    return [html.unescape(url) for url in urls]


def test_each_filter_is_a_chip_that_drops_just_it(signed_in: SignIn):
    page = signed_in("viewer").get("/m/alice/events?type=order.*&object_id=1042").text
    assert "Type: <b>order.*</b>" in page
    assert "Object ID: <b>1042</b>" in page
    assert links(page, "chips") == [
        "/m/alice/events?object_id=1042",
        "/m/alice/events?type=order.*",
        "/m/alice/events",
    ]


def test_a_wrong_filter_can_be_dropped_too(signed_in: SignIn):
    page = signed_in("viewer").get("/m/alice/attempts?status=abc")
    assert page.status_code == 422
    assert links(page.text, "chips") == ["/m/alice/attempts"]


def test_a_page_without_filters_has_no_chips(signed_in: SignIn):
    assert 'class="chips"' not in signed_in("viewer").get("/m/alice/events").text


@pytest.mark.parametrize(("since", "ages"), [("15m", [5]), ("24h", [5, 600]), ("7d", [5, 600])])
def test_a_period_shows_what_is_that_young(
    signed_in: SignIn, merchant: Merchant, since: str, ages: list[int]
):
    ids = {
        minutes: factories.make_event(merchant, received_at=now() - minutes * MINUTE).id
        for minutes in (5, 600, 8 * 24 * 60)
    }
    page = signed_in("viewer").get(f"/m/alice/events?since={since}").text
    for minutes, event_id in ids.items():
        assert (event_id in page) == (minutes in ages)
    current = re.search(r'<a href="([^"]+)" aria-current="true">', page)
    assert current
    assert f"since={since}" in current[1]


def test_a_period_keeps_the_other_filters(signed_in: SignIn):
    page = signed_in("viewer").get("/m/alice/events?type=order.*&since=2025-11-24").text
    assert links(page, "presets")[:2] == [
        "/m/alice/events?type=order.*",
        "/m/alice/events?type=order.*&since=15m",
    ]


def test_staff_logs_have_chips_of_merchants(signed_in: SignIn):
    page = signed_in("auditor").get("/staff/attempts?merchant=alice").text
    assert "Merchant: <b>alice</b>" in page


def test_what_happened_to_an_order_is_one_page(signed_in: SignIn, merchant: Merchant):
    webhook = factories.make_webhook(merchant, description="Warehouse")
    factories.make_event(merchant, object_id="1042", data='{"total":1}', received_at=now() - HOUR)
    event = factories.make_event(
        merchant, object_id="1042", data='{"total":2}', type="order.paid", deliveries=1
    )
    attempt = factories.make_attempt(factories.make_delivery(event, webhook, "failed"), 503)
    client = signed_in("viewer")
    answer = client.get("/search?q=1042")
    assert (answer.status_code, answer.location) == (303, "/m/alice/records/order/1042")
    page = client.get(answer.location).text
    for text in ("order.created", "order.paid", "Warehouse", attempt.id, "<ins>2</ins>"):
        assert text in page
    assert "<del>1</del>" in page


@pytest.mark.parametrize(
    "object_id",
    [
        "a/b",
        "ä ö",
        "100%",
        "a?b#c",
        "<script>x</script>",
        ".",
        "..",
        "../../alice",
        "/a//b/",
        "a\\b",
        "\u202eabc\u200b",
    ],
)
def test_a_record_may_be_called_anything(signed_in: SignIn, merchant: Merchant, object_id: str):
    for number in range(2):
        # Another record is there, and is not shown.
        factories.make_event(merchant, object_id="alice", id=f"other-{number}", type="order.paid")
    factories.make_event(merchant, object_id=object_id)
    client = signed_in("viewer")
    log = client.get("/m/alice/events").text
    addresses = set(re.findall(r'href="(/m/alice/records/[^"]+)"', log))
    (address,) = addresses - {"/m/alice/records/order/alice"}
    # As a browser reads it.
    page = client.get(urljoin("http://localhost/m/alice/events", html.unescape(address)))
    assert page.status_code == 200
    assert "order.created" in page.text
    assert "order.paid" not in page.text
    assert "<script>x" not in page.text
    assert not set("\u202e\u200b") & set(page.text)


def test_what_a_record_is_called_is_seen_in_the_title_of_its_events(
    signed_in: SignIn, merchant: Merchant
):
    event_id = factories.make_event(merchant, object_id="\u202eabc\u200b").id
    page = signed_in("viewer").get(f"/m/alice/events/{event_id}").text
    assert "\\u202eabc\\u200b" in page.partition("</title>")[0]
    assert not set("\u202e\u200b") & set(page)


def test_hostile_record_data_is_text(signed_in: SignIn, merchant: Merchant):
    factories.make_event(
        merchant, data='{"<b>x</b>":"<script>alert(1)</script>\\u202e"}', received_at=now() - HOUR
    )
    factories.make_event(merchant, data="{}")
    page = signed_in("viewer").get("/m/alice/records/order/1000").text
    assert "<script>alert" not in page
    assert "<b>x</b>" not in page
    assert "\u202e" not in page


@pytest.mark.parametrize("path", ["order/none", "x" * 300 + "/1", "order/" + "1" * 300, "a%00/b"])
def test_a_record_that_cannot_be_is_not_there(signed_in: SignIn, merchant: Merchant, path: str):
    assert signed_in("viewer").get(f"/m/alice/records/{path}").status_code in (404, 422)


def test_the_search_box_is_on_each_page_and_keeps_what_was_typed(
    signed_in: SignIn, merchant: Merchant
):
    client = signed_in("viewer")
    assert 'action="/search"' in client.get("/m/alice/").text
    page = client.get("/search?q=nothing+<b>like+that")
    assert page.status_code == 200
    assert "Nothing is called that" in page.text
    assert 'value="nothing &lt;b&gt;like that"' in page.text


def test_several_matches_are_a_page_in_groups(signed_in: SignIn, merchant: Merchant):
    factories.make_event(merchant, object_id="erp")
    factories.make_webhook(merchant, description="ERP")
    page = signed_in("viewer").get("/search?q=erp").text
    assert "/m/alice/records/order/erp" in page
    assert "/m/alice/webhooks/wh_" in page


def test_members_find_only_what_is_theirs(signed_in: SignIn, merchant: Merchant):
    bob = factories.make_merchant("bob")
    event_id = factories.make_event(bob).id
    address = f"/search?q={event_id}"
    assert "Nothing is called that" in signed_in("owner").get(address).text
    db.session.rollback()
    assert signed_in("auditor").get(address).location == f"/m/bob/events/{event_id}"
