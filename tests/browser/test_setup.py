"""A merchant sets a webhook up, tries it out, and reads what happened to the first events."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Page, expect

from tests.browser.live import LivePortal, Store, wait_for
from tests.receiver import Receiver


def test_from_the_first_sign_in_to_a_second_attempt(
    live: LivePortal, store: Store, page: Page, receiver: Receiver
) -> None:
    expect(page.get_by_role("heading", name="First steps")).to_be_visible()
    for _ in range(3):
        live.send_order(store)

    page.get_by_role("link", name="New webhook").first.click()
    page.get_by_role("link", name="Start blank").click()
    page.get_by_label("Description").fill("Orders to the ERP")
    page.get_by_label("URL").fill(receiver.url("/orders"))
    page.get_by_role("main").get_by_label("Search").fill("order created")
    expect(page.get_by_role("checkbox", name="order.cancelled")).to_have_count(0)
    page.get_by_role("checkbox", name=re.compile("^order.created")).check()

    page.get_by_text("method, query parameters, headers").click()
    page.get_by_role("button", name="Add query parameter").click()
    row = page.get_by_role("group", name="Query parameter 1")
    expect(row.get_by_label("Name")).to_be_focused()
    row.get_by_label("Name").fill("shop")
    row.get_by_label("Value").fill("north & south")
    page.get_by_role("button", name="Add header").click()
    row = page.get_by_role("group", name="Header 1")
    row.get_by_label("Name").fill("X-Order")
    row.get_by_label("Value").fill("{{ event.object_id }}")

    preview = page.locator("#preview")
    expect(preview).to_contain_text("Made from the newest event that matches")
    expect(preview).to_contain_text("X-Order")
    address = preview.locator("dd").first.inner_text()
    body = json.loads(preview.locator("pre").inner_text())

    page.get_by_role("button", name="Create webhook").last.click()
    expect(page.get_by_role("status").first).to_contain_text(
        "3 events of the last 7 days would have matched"
    )

    page.get_by_role("button", name="Send test event").click()
    result = page.locator("#test-result")
    expect(result.locator(".badge")).to_have_text("200")
    expect(result.get_by_role("region", name="Body of the answer")).to_have_text("ok")
    assert receiver.ledger[-1].path == "/orders?shop=north+%26+south"
    # The table of attempts has it without a reload.
    attempts = page.get_by_role("region", name="Recent attempts").locator("tbody tr")
    expect(attempts).to_have_count(1)

    event_id = live.send_order(store)
    wait_for(lambda: event_id in receiver.ids())
    sent = receiver.ledger[-1]
    assert address == receiver.url(sent.path)
    assert sent.headers["X-Order"] == "1042"
    assert list(json.loads(sent.body)) == list(body)

    expect(attempts).to_have_count(2)
    attempts.first.get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Attempt 1")).to_be_visible()
    expect(page.get_by_role("region", name="Response body")).to_have_text("ok")
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("main").get_by_role("link", name="Attempt 2")).to_be_visible()
    assert receiver.ids().count(event_id) == 2
