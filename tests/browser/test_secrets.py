"""A signing secret is revealed, rotated, and a receiver can check both signatures meanwhile."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.browser.live import LivePortal, Store, wait_for
from tests.receiver import Received, Receiver


def reveal(page: Page) -> str:
    page.get_by_role("button", name="Reveal").click()
    return page.locator("#secret .secret-text code").inner_text()


def verify(secret: str, received: Received) -> None:
    headers = {name.lower(): value for name, value in received.headers.items()}
    Webhook(secret).verify(received.body, headers)


def test_receivers_can_check_with_either_secret_while_it_rotates(
    live: LivePortal, store: Store, page: Page, receiver: Receiver
) -> None:
    webhook_id = live.make_webhook(store, receiver.url())
    page.goto(f"/m/{store.slug}/webhooks/{webhook_id}")
    expect(page.locator("#secret")).not_to_contain_text("whsec_A")
    old = reveal(page)
    assert old not in page.request.get(page.url).text()

    page.get_by_text("Rotate the secret").first.click()
    page.get_by_role("button", name="Rotate the secret").click()
    expect(page.get_by_text("Requests carry the signatures of 2 secrets.")).to_be_visible()
    new = reveal(page)
    assert new != old

    event_id = live.send_order(store)
    wait_for(lambda: event_id in receiver.ids())
    verify(old, receiver.ledger[-1])
    verify(new, receiver.ledger[-1])

    page.get_by_text("Rotate the secret").first.click()
    page.get_by_label("Hours in which the old secret signs too").fill("0")
    page.get_by_role("button", name="Rotate the secret").click()
    expect(page.get_by_role("status").first).to_contain_text("new signing secret")
    newest = reveal(page)
    event_id = live.send_order(store)
    wait_for(lambda: event_id in receiver.ids())
    verify(newest, receiver.ledger[-1])
    with pytest.raises(WebhookVerificationError):
        verify(new, receiver.ledger[-1])
