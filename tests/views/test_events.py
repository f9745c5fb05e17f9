"""The page of one event: what became of it first, then why, then the record."""

from __future__ import annotations

from collections.abc import Callable

from flask.testing import FlaskClient

from portal.db.session import db
from portal.models import Delivery, Merchant
from tests import factories

SignIn = Callable[[str], FlaskClient]


def test_the_page_begins_with_what_became_of_the_event(signed_in: SignIn, merchant: Merchant):
    event = factories.make_event(merchant)
    webhook = factories.make_webhook(merchant, description="ERP <b>")
    factories.make_attempt(factories.make_delivery(event, webhook, "failed"), 401)
    factories.make_webhook(merchant, description="Mailing", events=["customer.*"])
    page = signed_in("editor").get(f"/m/alice/events/{event.id}").text
    order = [
        page.index(text)
        for text in (
            "Delivered to 0 of 1 webhook",
            "Send again to all that failed",
            "ERP &lt;b&gt;",
            "The receiver wants credentials",
            "Not sent to 1 other webhook",
            "Mailing",
            'id="record-title"',
        )
    ]
    assert order == sorted(order)


def test_the_record_shows_what_changed_field_by_field(signed_in: SignIn, merchant: Merchant):
    event = factories.make_event(merchant, data='{"total":"99.50","note":"<i>"}')
    payload = db.session.get_one(factories.EventPayload, (merchant.id, event.id))
    payload.previous = '{"total":"89.50"}'
    db.session.commit()
    page = signed_in("viewer").get(f"/m/alice/events/{event.id}").text
    assert "<del>&#34;89.50&#34;</del>" in page
    assert "<ins>&#34;99.50&#34;</ins>" in page
    assert "<h3>previous</h3>" not in page


def test_no_related_events_take_one_line_and_no_empty_boxes(signed_in: SignIn, merchant: Merchant):
    event = factories.make_event(merchant)
    client = signed_in("viewer")
    page = client.get(f"/m/alice/events/{event.id}").text
    assert "No other event in the log is of the same record or action." in page
    assert "Related events" not in page
    db.session.rollback()
    factories.make_event(merchant)
    page = client.get(f"/m/alice/events/{event.id}").text
    assert "Related events" in page
    assert "Same record" in page
    assert "Same action" not in page


def test_a_flag_of_the_schema_is_explained(signed_in: SignIn, merchant: Merchant):
    event = factories.make_event(merchant, schema_error="/total: 5 is not of type 'string'")
    page = signed_in("viewer").get(f"/m/alice/events/{event.id}").text
    assert "does not fit the schema" in page
    assert "no event may be lost for a schema" in page


def test_sending_again_all_that_failed(signed_in: SignIn, merchant: Merchant):
    event = factories.make_event(merchant)
    webhook = factories.make_webhook(merchant)
    delivery = factories.make_delivery(event, webhook, "failed")
    url = f"/m/alice/events/{event.id}/resend-failed"
    viewer = signed_in("viewer")
    db.session.rollback()
    client = signed_in("editor")
    assert viewer.post(url).status_code == 403
    answer = client.post(url)
    assert (answer.status_code, answer.location) == (303, f"/m/alice/events/{event.id}")
    db.session.rollback()
    assert db.session.get_one(Delivery, delivery.id).state == "pending"
    assert "One more attempt is on the way" in client.get(answer.location).text
    assert client.post(url).status_code == 409


def test_anothers_event_is_as_none_at_all(signed_in: SignIn, merchant: Merchant):
    foreign = factories.make_event(factories.make_merchant("bob"))
    client = signed_in("editor")
    assert client.get(f"/m/alice/events/{foreign.id}").status_code == 404
    assert client.post(f"/m/alice/events/{foreign.id}/resend-failed").status_code == 404


def test_a_held_delivery_says_when_the_next_probe_is(signed_in: SignIn, merchant: Merchant):
    event = factories.make_event(merchant)
    webhook = factories.make_webhook(
        merchant, held_at=event.received_at, next_probe_at=1_763_930_000_000_000, failures=20
    )
    factories.make_attempt(factories.make_delivery(event, webhook, attempts=1), 503)
    page = signed_in("viewer").get(f"/m/alice/events/{event.id}").text
    assert "1 held until its webhook recovers or is enabled" in page
    assert "Next probe" in page
    assert "2025-11-23 20:33:20" in page
