"""What is new is announced, and moves nothing that one is reading."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.live import LivePortal, Store
from tests.receiver import Receiver


def test_new_events_are_announced_and_no_row_moves(
    live: LivePortal, store: Store, page: Page
) -> None:
    live.send_order(store, "1")
    page.goto(f"/m/{store.slug}/events")
    row = page.locator("#log tbody tr").first
    place = row.bounding_box()
    first = row.inner_text()
    live.send_order(store, "2")
    news = page.get_by_role("button", name="1 new – show")
    expect(news).to_be_visible(timeout=15_000)
    assert (row.bounding_box(), row.inner_text()) == (place, first)
    news.click()
    expect(page.locator("#log tbody tr").first).to_contain_text("order 2")


def test_live_rows_come_on_top_and_keep_to_the_filters(
    live: LivePortal, store: Store, page: Page
) -> None:
    page.goto(f"/m/{store.slug}/events?type=order.*")
    page.get_by_role("button", name="Live").click()
    expect(page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "true")
    # The first row of an empty log comes with its table.
    rows = page.locator("#log tbody tr")
    live.send_order(store, "1")
    expect(rows).to_have_count(1)
    live.api("POST", "events", store.key, {"type": "cart.created", "object_id": "9"})
    live.send_order(store, "2")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("order 2")
    assert "live=1" in page.url
    # Another filter goes on live, and the old stream ends.
    page.get_by_label("Object ID").fill("77")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.get_by_text("No event like that")).to_be_visible()
    live.send_order(store, "3")
    live.send_order(store, "77")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("order 77")
    page.get_by_role("button", name="Live").click()
    expect(page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "false")


def test_live_deliveries_change_before_ones_eyes(
    live: LivePortal, store: Store, page: Page, receiver: Receiver
) -> None:
    receiver.delay = 3
    live.make_webhook(store, receiver.url())
    page.goto(f"/m/{store.slug}/events?live=1")
    live.send_order(store, "5")
    row = page.locator("#log tbody tr").first
    expect(row).to_contain_text("pending")
    expect(row).to_contain_text("succeeded")
    page.goto(f"/m/{store.slug}/attempts?live=1")
    expect(page.locator("#log tbody tr")).to_have_count(1)
    live.send_order(store, "6")
    expect(page.locator("#log tbody tr")).to_have_count(2)


def test_live_rows_wait_while_one_reads(live: LivePortal, store: Store, page: Page) -> None:
    live.send_order(store, "1")
    page.goto(f"/m/{store.slug}/events?live=1")
    rows = page.locator("#log tbody tr")
    page.keyboard.press("j")
    expect(rows.first.locator("[data-open]")).to_be_focused()
    live.send_order(store, "2")
    news = page.get_by_role("button", name="1 new – show")
    expect(news).to_be_visible()
    expect(rows).to_have_count(1)
    # With the focus elsewhere they come by themselves.
    page.evaluate("document.activeElement.blur()")
    expect(rows).to_have_count(2)
    expect(news).to_be_hidden()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#log tbody td'))")
    live.send_order(store, "3")
    expect(news).to_be_visible()
    news.click()
    expect(rows).to_have_count(3)


def test_without_a_place_for_a_stream_the_rows_come_by_asking(
    live: LivePortal, store: Store, page: Page
) -> None:
    live.send_order(store, "1")
    # One web process with eight threads has two places.
    readers = [page.context.new_page() for _ in range(3)]
    for reader in readers:
        reader.goto(f"/m/{store.slug}/events?live=1")
        expect(reader.locator("#log tbody tr")).to_have_count(1)
    live.send_order(store, "2")
    for reader in readers:
        expect(reader.locator("#log tbody tr")).to_have_count(2)
    # Pages answer while every stream is taken.
    for _ in range(5):
        page.goto(f"/m/{store.slug}/events")
        expect(page.locator("#log tbody tr")).to_have_count(2)
