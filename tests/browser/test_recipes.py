"""Each recipe as people use it: chosen, given an address, tried out; the service gets its shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Page, expect

from portal.webhooks.recipes import Recipe, all_recipes
from tests.browser.live import Store
from tests.receiver import Received, Receiver

SENTENCE = "New order SO-1042 for 99.50 EUR"


def body(request: Received) -> Any:
    return json.loads(request.body)


def asked(request: Received) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))


def is_event(kind: str = "") -> Callable[[Received], bool]:
    return lambda request: (
        body(request)["type"].startswith(kind)
        and body(request)["data"]
        and request.headers["webhook-signature"].startswith("v1,")
    )


def is_card(request: Received) -> bool:
    (attachment,) = body(request)["attachments"]
    card = attachment["content"]
    return (
        attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        and card["type"] == "AdaptiveCard"
        and card["body"][0]["text"] == SENTENCE
    )


SHAPES: dict[str, Callable[[Received], bool]] = {
    "erp": is_event("customer.created"),
    "mailing-list": lambda request: {"email", "list", "subscribed"} <= body(request).keys(),
    "order-processing": is_event("order."),
    "slack": lambda request: body(request) == {"text": SENTENCE},
    "teams": is_card,
    "discord": lambda request: (
        body(request) == {"content": SENTENCE, "allowed_mentions": {"parse": []}}
    ),
    "telegram": lambda request: (
        body(request) == {"text": SENTENCE} and asked(request) == {"chat_id": "filled in"}
    ),
    "google-chat": lambda request: body(request) == {"text": SENTENCE},
    "smart-speaker": lambda request: (
        request.method == "GET"
        and asked(request) == {"token": "filled in", "device": "filled in", "text": SENTENCE}
    ),
    "zapier": is_event("order.created"),
    "make": is_event("order.created"),
    "own-code": is_event(),
}


@pytest.mark.parametrize("recipe", all_recipes().values(), ids=lambda recipe: recipe.key)
def test_a_recipe_is_chosen_and_its_service_gets_what_it_takes(
    store: Store, page: Page, receiver: Receiver, recipe: Recipe
) -> None:
    page.goto(f"/m/{store.slug}/webhooks/new")
    page.get_by_role("link", name=recipe.title).click()
    page.get_by_label("URL").fill(receiver.url("/in"))
    for field in page.get_by_label("Value", exact=True).all():
        if not field.input_value():
            field.fill("filled in")
    if not page.locator("[name=events]:checked").count():
        page.get_by_role("checkbox", name="All events").check()
    page.get_by_role("button", name="Create webhook").last.click()
    page.get_by_role("button", name="Send test event").click()
    expect(page.locator("#test-result .badge")).to_have_text("200")
    (request,) = receiver.ledger
    assert SHAPES[recipe.key](request), (request.path, request.body)
