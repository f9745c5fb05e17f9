"""What became of an event, said in words, and sending again what failed."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.delivery import actions
from portal.errors import Conflict, NotFound
from portal.extensions import db
from portal.logs import outcomes, stories
from portal.models import AuditEntry, Delivery, Event, EventPayload, Merchant
from tests import factories
from tests.conftest import on_both_databases


def story_of(merchant: Merchant, event: Event) -> stories.EventStory:
    return stories.event_story(merchant, event.id)


def verdicts(merchant: Merchant, event: Event) -> dict[str, outcomes.Verdict]:
    return {
        place.webhook.description: outcomes.verdict(place)
        for place in story_of(merchant, event).destinations if place.webhook
    }


def test_the_headline_counts_what_arrived_and_what_did_not(merchant: Merchant):
    event = factories.make_event(merchant)
    for state in ("succeeded", "succeeded", "failed", "pending"):
        factories.make_delivery(event, factories.make_webhook(merchant), state)
    glance = outcomes.glance(story_of(merchant, event).destinations)
    assert glance.title == "Delivered to 2 of 4 webhooks"
    assert glance.kind == "bad"
    assert glance.counts == {"succeeded": 2, "failed": 1, "pending": 1}
    assert glance.next_attempt_at == event.received_at


def test_the_headline_is_calm_when_all_is_well_and_when_nobody_listens(merchant: Merchant):
    event = factories.make_event(merchant)
    assert outcomes.glance([]).title == "No webhook was told"
    factories.make_delivery(event, factories.make_webhook(merchant), "succeeded")
    assert outcomes.glance(story_of(merchant, event).destinations).title == "Delivered"
    factories.make_delivery(event, factories.make_webhook(merchant), "succeeded")
    glance = outcomes.glance(story_of(merchant, event).destinations)
    assert (glance.title, glance.kind) == ("Delivered to all 2 webhooks", "good")


def test_each_webhook_has_its_reason_and_its_remedy(merchant: Merchant):
    make = factories.make_webhook
    make(merchant, description="customers", events=["customer.*"])
    make(merchant, description="filtered", except_sources=["erp"])
    off = make(merchant, description="off", enabled=False)
    failing = make(merchant, description="failing")
    asleep = make(merchant, description="asleep", enabled=False)
    fine = make(merchant, description="fine")
    event = factories.make_event(merchant, source_user_type="erp")
    factories.make_attempt(factories.make_delivery(event, failing, "failed"), 401)
    factories.make_delivery(event, asleep)
    factories.make_attempt(factories.make_delivery(event, fine, "succeeded", attempts=3), 200)
    said = verdicts(merchant, event)
    assert said["customers"].why == "It is not triggered by this type."
    assert said["customers"].mend == "edit"
    assert "source filter" in said["filtered"].why
    assert "disabled" in said[off.description].why
    assert "Enable" in said[off.description].remedy
    assert said["failing"].why == "The receiver wants credentials. No attempt is left."
    assert "marked as secret" in said["failing"].remedy
    assert "Enable the webhook" in said["asleep"].remedy
    assert said["fine"].why == "It got it, on attempt 3."
    assert said["fine"].remedy == ""


# ── Sending again what failed ─────────────────────────────────────────────────────────────


@on_both_databases
def test_what_failed_is_sent_again_and_nothing_else(app: Flask, merchant: Merchant):
    event = factories.make_event(merchant)
    deliveries = {
        state: factories.make_delivery(event, factories.make_webhook(merchant), state).id
        for state in ("failed", "succeeded", "discarded")
    }
    disabled = factories.make_webhook(merchant, enabled=False)
    asleep = factories.make_delivery(event, disabled, "failed").id
    other = factories.make_delivery(
        factories.make_event(merchant), factories.make_webhook(merchant), "failed"
    ).id
    assert actions.resend_failed(merchant.id, event.id, "cli") == 1
    states = {one.id: one.state for one in db.session.scalars(sa.select(Delivery))}
    assert states == {
        deliveries["failed"]: "pending", deliveries["succeeded"]: "succeeded",
        deliveries["discarded"]: "discarded", asleep: "failed", other: "failed",
    }
    noted = db.session.scalars(sa.select(AuditEntry.target)).all()
    assert noted == [deliveries["failed"]]


def test_nothing_to_send_again_is_said(app: Flask, merchant: Merchant):
    event = factories.make_event(merchant)
    with pytest.raises(Conflict, match="nothing was sent again"):
        actions.resend_failed(merchant.id, event.id, "cli")
    factories.make_delivery(event, factories.make_webhook(merchant), "failed")
    db.session.execute(sa.delete(EventPayload))
    db.session.commit()
    with pytest.raises(Conflict, match="past its days"):
        actions.resend_failed(merchant.id, event.id, "cli")
    bob = factories.make_merchant("bob")
    with pytest.raises(NotFound):
        actions.resend_failed(bob.id, event.id, "cli")
