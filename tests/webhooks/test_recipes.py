"""Recipes: each one, sent to a real receiver, has the shape that its service takes."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from standardwebhooks import Webhook as Verifier

from portal.db.session import db
from portal.delivery import drain
from portal.delivery.paces import Paces
from portal.events import catalogue, ingest
from portal.models import Merchant
from portal.webhooks import checking, recipes, setup
from portal.webhooks.url_rules import UrlContext, clean_url
from tests.receiver import Received, Receiver

PACES = Paces(linger_seconds=0.3)

RECIPES = list(recipes.all_recipes().values())
SENTENCE = "New order SO-1042 for 99.50 EUR"
HOSTILE = '<!channel> & <users/all> @everyone "}\n'


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


def sent(
    merchant: Merchant, receiver: Receiver, key: str, event_type: str = "", **changes: Any
) -> Received:
    """What the receiver gets of a recipe's first event, or of another type."""
    recipe = recipes.all_recipes()[key]
    fields = {"events": ["order.created"], **recipe.fields, "url": receiver.url("/in")}
    webhook = setup.create_webhook(merchant.id, fields, "test")
    name = event_type or fields["events"][0]
    record = catalogue.known_types(merchant.id)[name].example
    event = {
        "type": name,
        "object_id": "1042",
        "data": {**record, **changes},
        "source_user_type": "storefront",
    }
    ingest.ingest_events(merchant.id, [event], batch=False)
    assert drain.drain(0, paces=PACES) == 1
    (request,) = receiver.ledger
    if request.body:
        # Raises unless the signature is right.
        Verifier(webhook.secret).verify(request.body.decode(), dict(request.headers))
    return request


def text_of(body: bytes) -> Any:
    return json.loads(body)


def test_every_recipe_says_what_to_do(merchant: Merchant) -> None:
    assert len(RECIPES) == 12
    for recipe in RECIPES:
        assert 2 <= len(recipe.steps) <= 4, recipe.key
        assert recipe.summary.endswith("."), recipe.key
        assert clean_url(recipe.url.replace("…", "x"), UrlContext()), recipe.key
        # All but own code come with their events, and nothing of them fires twice.
        events = recipe.fields.get("events", [])
        assert (recipe.key == "own-code") == (not events)
        assert catalogue.fires_together(events) == [], recipe.key


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.key)
def test_the_form_takes_every_recipe_as_it_is(merchant: Merchant, recipe: recipes.Recipe) -> None:
    fields = {"events": ["order.created"], **recipe.fields, "url": "https://receiver.example/"}
    cleaned = checking.validate(merchant.id, fields, resolve=False)
    assert cleaned["events"] == fields["events"]


@pytest.mark.parametrize("key", ["zapier", "make", "own-code", "order-processing"])
def test_code_and_systems_get_the_event_with_its_record(
    merchant: Merchant, receiver: Receiver, key: str
) -> None:
    body = text_of(sent(merchant, receiver, key).body)
    assert body["type"] == "order.created"
    assert body["data"]["number"] == "SO-1042"
    assert body["data"]["lines"]


def test_the_erp_gets_customers_but_not_its_own_changes(
    merchant: Merchant, receiver: Receiver
) -> None:
    assert text_of(sent(merchant, receiver, "erp").body)["type"] == "customer.created"
    echo = {"type": "customer.updated", "object_id": "7", "source_user_type": "erp"}
    (answer,) = ingest.ingest_events(merchant.id, [echo], batch=False)
    assert answer.deliveries == 0


@pytest.mark.parametrize(
    ("event_type", "subscribed"), [("user.subscribed", True), ("user.unsubscribed", False)]
)
def test_a_mailing_list_hears_who_comes_and_who_goes(
    merchant: Merchant, receiver: Receiver, event_type: str, subscribed: bool
) -> None:
    request = sent(merchant, receiver, "mailing-list", event_type)
    assert text_of(request.body) == {
        "email": "tomas.vale@example.com",
        "first_name": "Tomas",
        "last_name": "Vale",
        "list": "newsletter",
        "subscribed": subscribed,
    }


def test_slack_gets_text_in_which_nobody_is_called(merchant: Merchant, receiver: Receiver) -> None:
    assert text_of(sent(merchant, receiver, "slack").body) == {"text": SENTENCE}


def test_hostile_text_of_a_customer_stays_text(merchant: Merchant, receiver: Receiver) -> None:
    body = text_of(sent(merchant, receiver, "slack", number=HOSTILE).body)
    assert body["text"].startswith("New order &lt;!channel&gt; &amp; &lt;users/all&gt; @everyone")


def test_google_chat_gets_text_without_the_brackets_that_call_people(
    merchant: Merchant, receiver: Receiver
) -> None:
    request = sent(merchant, receiver, "google-chat", number=HOSTILE)
    assert request.headers["Content-Type"] == "application/json; charset=UTF-8"
    body = text_of(request.body)
    assert list(body) == ["text"]
    assert not re.search("[<>]", body["text"])


def test_teams_gets_an_adaptive_card(merchant: Merchant, receiver: Receiver) -> None:
    body = text_of(sent(merchant, receiver, "teams").body)
    assert body["type"] == "message"
    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert card["body"] == [{"type": "TextBlock", "wrap": True, "text": SENTENCE}]


def test_discord_gets_content_that_mentions_nobody(merchant: Merchant, receiver: Receiver) -> None:
    assert text_of(sent(merchant, receiver, "discord").body) == {
        "content": SENTENCE,
        "allowed_mentions": {"parse": []},
    }


def test_telegram_gets_the_text_and_the_chat(merchant: Merchant, receiver: Receiver) -> None:
    request = sent(merchant, receiver, "telegram")
    assert text_of(request.body) == {"text": SENTENCE}
    assert [name for name, _ in parse_qsl(urlsplit(request.path).query, True)] == ["chat_id"]


def test_a_speaker_gets_its_text_in_the_address(merchant: Merchant, receiver: Receiver) -> None:
    request = sent(merchant, receiver, "smart-speaker")
    assert (request.method, request.body) == ("GET", b"")
    assert dict(parse_qsl(urlsplit(request.path).query, True)) == {
        "token": "",
        "device": "",
        "text": SENTENCE,
    }


def test_another_type_of_event_is_named_in_a_chat(merchant: Merchant, receiver: Receiver) -> None:
    recipe = recipes.all_recipes()["slack"]
    fields = recipe.fields | {"events": ["order.cancelled"], "url": receiver.url("/in")}
    setup.create_webhook(merchant.id, fields, "test")
    event = {"type": "order.cancelled", "object_id": "77"}
    ingest.ingest_events(merchant.id, [event], batch=False)
    db.session.rollback()
    drain.drain(0, paces=PACES)
    assert text_of(receiver.ledger[0].body) == {"text": "order.cancelled 77"}
