"""Somebody without a target: by clicks alone to a delivered event whose signature is verified."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import sign_in
from tests.browser.live import LivePortal, running


@pytest.fixture(scope="module")
def alone() -> Iterator[LivePortal]:
    """The product as it comes: no private network may be reached."""
    with running(EGRESS_ALLOW="", RETRY_SCHEDULE="0 1 1 1 1 1", SWEEP_SECONDS="1") as live:
        yield live


@pytest.fixture
def live(alone: LivePortal) -> LivePortal:
    return alone


@pytest.mark.parametrize("with_scripts", [True, False], ids=["scripts", "plain"])
def test_the_first_event_is_delivered_and_verified_by_clicks_alone(
    live: LivePortal, open_browser: Callable[..., BrowserContext], with_scripts: bool
):
    store = live.store()
    page = open_browser(java_script_enabled=with_scripts).new_page()
    sign_in(page, store.email)
    page.get_by_role("link", name="New webhook").first.click()
    page.get_by_role("button", name="No target yet?").click()
    page.get_by_role("button", name="Create webhook").last.click()
    page.get_by_role("button", name="Send test event").click()
    expect(page.locator("#test-result .badge")).to_have_text("200")
    page.get_by_role("link", name="Watch what comes").click()
    expect(page.get_by_text("signature verified")).to_be_visible()
    # A real one, by the workers.
    live.send_order(store)
    if not with_scripts:
        page.wait_for_timeout(3_000)
        page.reload()
    expect(page.locator(".came li")).to_have_count(2)
    expect(page.get_by_text("signature verified")).to_be_visible()
    page.get_by_role("link", name="Open the event").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("order.created")


def test_a_failure_is_chosen_and_the_retries_are_watched_live(
    live: LivePortal, open_browser: Callable[..., BrowserContext]
):
    store = live.store()
    page = open_browser().new_page()
    sign_in(page, store.email)
    page.goto(f"/m/{store.slug}/webhooks/new")
    page.get_by_role("button", name="No target yet?").click()
    page.get_by_role("button", name="Create webhook").last.click()
    page.get_by_role("link", name="Watch what comes").click()
    page.get_by_label("Answers").select_option("500")
    page.get_by_role("button", name="Answer so").click()
    expect(page.get_by_text("answers so from now on")).to_be_visible()
    live.send_order(store)
    failed = page.locator(".came li", has_text="500")
    expect(failed.nth(1)).to_be_visible()
    page.get_by_label("Answers").select_option("200")
    page.get_by_role("button", name="Answer so").click()
    expect(page.locator(".came li").first).to_contain_text("200")
    # One that is looked at stays while others come in.
    page.locator(".came a").last.click()
    expect(page.get_by_text("Follow the newest")).to_be_visible()
    before = page.locator(".came li").count()
    live.send_order(store, "1043")
    expect(page.locator(".came li")).to_have_count(before + 1)
    expect(page.locator(".came a").last).to_have_attribute("aria-current", "true")
    expect(page.locator("dl.facts", has_text="Answered")).to_contain_text("500")


def test_the_form_takes_the_inspector_and_keeps_what_was_typed(
    live: LivePortal, open_browser: Callable[..., BrowserContext]
):
    store = live.store()
    page = open_browser().new_page()
    sign_in(page, store.email)
    page.goto(f"/m/{store.slug}/webhooks/new?recipe=blank")
    page.get_by_label("Description").fill("Orders to nobody yet")
    page.get_by_role("button", name="Send to the inspector").click()
    expect(page.get_by_label("URL")).to_have_value(re.compile(f"^{live.url}/inspect/.{{43}}$"))
    expect(page.get_by_label("Description")).to_have_value("Orders to nobody yet")
