"""What is new is announced, and moves nothing that one is reading."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.live import LivePortal, Store


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
