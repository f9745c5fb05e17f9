"""The first page: where people land, what they must know, what to do next."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from portal.db.session import db
from portal.models import Merchant, Notice
from portal.people import accounts
from tests import factories
from tests.conftest import PASSWORD

SignIn = Callable[[str], FlaskClient]
PART = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture
def settings() -> dict[str, str]:
    return {"CONTACT": "Kim <kim@platform.example>"}


@pytest.fixture
def notice(merchant: Merchant) -> Notice:
    notice = Notice(merchant_id=merchant.id, kind="held", message="“ERP” <b>is held.")
    db.session.add(notice)
    db.session.commit()
    return notice


@pytest.mark.parametrize("role", ["operator", "auditor"])
def test_staff_land_on_all_merchants(signed_in: SignIn, role: str) -> None:
    assert signed_in(role).get("/").location == "/staff/merchants"


def test_a_member_lands_on_their_merchant(signed_in: SignIn) -> None:
    assert signed_in("viewer").get("/").location == "/m/alice/"


def test_a_user_without_a_merchant_is_told_whom_to_ask(client: FlaskClient) -> None:
    user = factories.make_user("viewer")
    client.post("/sign-in", data={"email": user.email, "password": PASSWORD})
    page = client.get("/")
    assert page.status_code == 200
    assert user.email in page.text
    assert "Kim &lt;kim@platform.example&gt;" in page.text


def test_an_inactive_merchant_is_told_that_nothing_is_sent(
    signed_in: SignIn, merchant: Merchant
) -> None:
    client = signed_in("viewer")
    assert "nothing is sent" not in client.get("/m/alice/").text
    accounts.deactivate(merchant, "cli")
    page = client.get("/m/alice/").text
    assert "nothing is sent" in page
    assert "Kim &lt;kim@platform.example&gt;" in page


def test_an_empty_merchant_sees_the_first_steps(signed_in: SignIn) -> None:
    page = signed_in("editor").get("/m/alice/").text
    assert "First steps" in page
    assert "/m/alice/webhooks/new" in page
    assert "http://127.0.0.1:8000/api/v1/events" in page


def test_a_viewer_sees_no_button_that_is_not_theirs(signed_in: SignIn, notice: Notice) -> None:
    page = signed_in("viewer").get("/m/alice/").text
    assert "/webhooks/new" not in page
    assert "/dismiss" not in page


def test_steps_that_are_done_disappear(signed_in: SignIn, merchant: Merchant, api_key: str) -> None:
    factories.make_webhook(merchant)
    factories.make_event(merchant)
    assert "First steps" not in signed_in("editor").get("/m/alice/").text


def test_what_happened_is_listed_as_text(signed_in: SignIn, merchant: Merchant) -> None:
    webhook = factories.make_webhook(merchant, description="<i>ERP</i>", failures=4)
    delivery = factories.make_delivery(factories.make_event(merchant), webhook)
    factories.make_attempt(delivery, None, error="connect_timeout", uri="https://x/<u>\u202e")
    page = signed_in("viewer").get("/m/alice/").text
    assert "&lt;i&gt;ERP&lt;/i&gt;" in page
    assert "connect timeout" in page
    assert "https://x/&lt;u&gt;\\u202e" in page
    assert "Needs attention" in page


def test_the_live_part_is_what_the_page_holds(signed_in: SignIn, merchant: Merchant) -> None:
    client = signed_in("viewer")
    part = client.get("/m/alice/", headers=PART).text
    assert "<html" not in part
    assert part.strip() in client.get("/m/alice/").text


def test_a_notice_is_dismissed_in_place(signed_in: SignIn, notice: Notice) -> None:
    client = signed_in("editor")
    assert "“ERP” &lt;b&gt;is held." in client.get("/m/alice/").text
    answer = client.post(f"/m/alice/notices/{notice.id}/dismiss", headers=PART)
    assert (answer.status_code, answer.text) == (200, "")
    assert "is held" not in client.get("/m/alice/").text


def test_a_notice_is_dismissed_without_script_too(signed_in: SignIn, notice: Notice) -> None:
    answer = signed_in("owner").post(f"/m/alice/notices/{notice.id}/dismiss")
    assert (answer.status_code, answer.location) == (303, "/m/alice/")


def test_the_notice_of_another_merchant_is_not_found(signed_in: SignIn) -> None:
    bob = factories.make_merchant("bob")
    theirs = Notice(merchant_id=bob.id, kind="held", message="Bob's")
    db.session.add(theirs)
    db.session.commit()
    client = signed_in("owner")
    assert client.post(f"/m/alice/notices/{theirs.id}/dismiss").status_code == 404
    assert client.post(f"/m/bob/notices/{theirs.id}/dismiss").status_code == 404
    db.session.refresh(theirs)
    assert theirs.dismissed_at is None


def test_the_period_is_in_the_address(signed_in: SignIn, merchant: Merchant) -> None:
    factories.make_event(merchant)
    client = signed_in("viewer")
    for span, words in (("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days")):
        page = client.get(f"/m/alice/?span={span}").text
        assert f"Last {words}" in page
        assert f'aria-label="Events: 1 in {words}"' in page
        # What the page asks for again is the same period.
        assert f'hx-get="/m/alice/?span={span}"' in page
    assert "Last 24 hours" in client.get("/m/alice/?span=';--").text


def test_the_charts_numbers_stand_in_a_table_too(signed_in: SignIn, merchant: Merchant) -> None:
    webhook = factories.make_webhook(merchant)
    delivery = factories.make_delivery(factories.make_event(merchant), webhook)
    factories.make_attempt(delivery, 200)
    factories.make_attempt(delivery, 503)
    page = signed_in("viewer").get("/m/alice/").text
    assert "Show the numbers" in page
    assert "1 succeeded and 1 failed in 24 hours" in page
    assert "<td>1</td><td>1</td><td>1</td><td>50 %</td>" in page


def test_what_needs_attention_has_a_next_step(signed_in: SignIn, merchant: Merchant) -> None:
    held = factories.make_webhook(merchant, failures=20, failing_since=1, held_at=2)
    off = factories.make_webhook(
        merchant, enabled=False, failing_since=1, disabled_at=2, disabled_reason="410 <Gone>."
    )
    factories.make_delivery(factories.make_event(merchant), held)
    page = signed_in("viewer").get("/m/alice/").text
    assert f"/m/alice/attempts?webhook_id={held.id}&amp;outcome=failed" in page
    assert "1 delivery waits." in page
    assert "410 &lt;Gone&gt;." in page
    assert f'href="/m/alice/webhooks/{off.id}">Mend and enable' in page
