"""What became of an event, said in words, and sending again what failed."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.db.session import db
from portal.delivery import actions
from portal.diagnosis import outcomes
from portal.errors import Conflict, NotFound
from portal.events import ingest
from portal.logs import stories
from portal.models import AuditEntry, Delivery, Event, EventPayload, Merchant
from portal.people import accounts
from portal.webhooks import setup
from tests import factories
from tests.conftest import on_both_databases


def story_of(merchant: Merchant, event: Event) -> stories.EventStory:
    return stories.event_story(merchant, event.id)


def verdicts(merchant: Merchant, event: Event) -> dict[str, outcomes.Verdict]:
    return {
        place.webhook.description: outcomes.verdict(place)
        for place in story_of(merchant, event).destinations
        if place.webhook
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


def left_out(merchant: Merchant, event_id: str) -> tuple[str, str, bool]:
    """Why the only webhook did not get an event, what to do, and whether that is judged by its
    settings of now."""
    (place,) = stories.event_story(merchant, event_id).destinations
    assert place.delivery is None
    said = outcomes.verdict(place)
    return said.why, said.remedy, place.is_judged_by_now


def sent(merchant: Merchant) -> str:
    """The ID of an event that the merchant sends now."""
    return ingest.ingest_events(
        merchant.id, [{"type": "order.created", "object_id": "1"}], batch=False
    )[0].id


@on_both_databases
def test_what_came_while_a_webhook_was_disabled_is_never_promised(app: Flask, merchant: Merchant):
    webhook = factories.make_webhook(merchant)
    setup.disable(webhook.merchant_id, webhook.id, "A pause.", "cli")
    event_id = sent(merchant)
    assert left_out(merchant, event_id) == (
        "It was disabled.",
        "Enable it, so that it gets the next ones; this one is not sent to it later.",
        False,
    )
    setup.enable(webhook.merchant_id, webhook.id, "cli")
    assert db.session.scalars(sa.select(Delivery)).all() == []
    maybe_disabled = left_out(merchant, event_id)
    assert "it was disabled" in maybe_disabled[0]
    assert maybe_disabled[1:] == ("", True)
    # Disabled anew, which was not the reason.
    setup.disable(webhook.merchant_id, webhook.id, "Another pause.", "cli")
    assert left_out(merchant, event_id) == maybe_disabled


@on_both_databases
def test_a_reason_says_when_it_is_judged_by_settings_that_came_later(
    app: Flask, merchant: Merchant
):
    webhook = factories.make_webhook(merchant, events=["customer.*"])
    event_id = sent(merchant)
    assert left_out(merchant, event_id)[::2] == ("It is not triggered by this type.", False)
    setup.update_webhook(webhook.merchant_id, webhook.id, {"events": ["order.*"]}, "cli")
    why, remedy, is_judged_by_now = left_out(merchant, event_id)
    assert why.startswith("Its events and its filter of now take it.")
    assert (remedy, is_judged_by_now) == ("", True)
    setup.update_webhook(
        webhook.merchant_id, webhook.id, {"events": ["order.*"], "only_sources": ["erp"]}, "cli"
    )
    why, _, is_judged_by_now = left_out(merchant, event_id)
    assert "source filter" in why
    assert is_judged_by_now


@on_both_databases
def test_a_merchant_that_was_not_active_is_told_what_helps_now(app: Flask, merchant: Merchant):
    webhook = factories.make_webhook(merchant)
    accounts.deactivate(merchant, "cli")
    event_id = sent(merchant)
    why, remedy, _ = left_out(merchant, event_id)
    assert why == "The merchant’s webhooks are not active."
    assert "activate them" in remedy
    accounts.activate(merchant, "cli")
    was_inactive = "The merchant’s webhooks were not active when it came."
    assert left_out(merchant, event_id) == (was_inactive, "", False)
    # With a change of the webhook's own it may have been that.
    setup.update_webhook(webhook.merchant_id, webhook.id, {"description": "ERP, anew"}, "cli")
    why, remedy, is_judged_by_now = left_out(merchant, event_id)
    assert "or the merchant’s webhooks were not active" in why
    assert (remedy, is_judged_by_now) == ("", True)


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
        deliveries["failed"]: "pending",
        deliveries["succeeded"]: "succeeded",
        deliveries["discarded"]: "discarded",
        asleep: "failed",
        other: "failed",
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
