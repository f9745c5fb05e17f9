"""Who reads times of the own zone means them when typing a period, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import sign_in
from tests.browser.live import LivePortal, Store

NEW_YORK = "America/New_York"


@pytest.fixture
def page(open_browser: Callable[..., BrowserContext], store: Store) -> Page:
    page = open_browser(timezone_id=NEW_YORK).new_page()
    sign_in(page, store.email)
    return page


def choose_local(page: Page) -> None:
    page.get_by_role("button", name="Times: UTC").click()
    expect(page.get_by_role("button", name="Times: local")).to_be_visible()


def test_a_period_is_of_the_zone_that_times_are_shown_in(
    live: LivePortal, store: Store, page: Page
) -> None:
    live.send_order(store, "1")
    page.goto(f"/m/{store.slug}/events")
    zone = page.locator("[name=zone]")
    expect(zone).to_have_value("")
    choose_local(page)
    expect(zone).to_have_value(NEW_YORK)
    page.get_by_label("From", exact=True).fill("2025-11-23")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.wait_for_url("**since=2025-11-23**")
    assert "zone=America%2FNew_York" in page.url or "zone=America/New_York" in page.url
    page.reload()
    expect(zone).to_have_value(NEW_YORK)
    assert "America" in str(page.get_by_role("link", name="CSV").get_attribute("href"))


def test_without_local_times_and_with_an_address_that_says_otherwise_it_is_as_before(
    live: LivePortal, store: Store, page: Page
) -> None:
    page.goto(f"/m/{store.slug}/events")
    choose_local(page)
    zone = page.locator("[name=zone]")
    # No period, no zone in the address.
    page.get_by_label("Object ID").fill("1")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.wait_for_url("**object_id=1**")
    assert "zone" not in page.url
    # Somebody's link means UTC, and one's own zone is left.
    page.goto(f"/m/{store.slug}/events?since=2025-11-23")
    expect(zone).to_have_value("")
    page.goto(f"/m/{store.slug}/events?since=2025-11-23&zone=Asia/Tokyo")
    expect(zone).to_have_value("Asia/Tokyo")
    page.get_by_role("button", name="Times: local").click()
    expect(zone).to_have_value("Asia/Tokyo")
    # Back in Unix time, what was filled in goes.
    page.goto(f"/m/{store.slug}/events")
    expect(zone).to_have_value("")


@pytest.mark.parametrize("place", ["recover", "attempts"])
def test_each_page_with_a_period_knows_the_zone(store: Store, page: Page, place: str) -> None:
    page.goto(f"/m/{store.slug}/{place}")
    choose_local(page)
    expect(page.locator("[data-zone]")).to_have_value(NEW_YORK)


def test_no_name_of_a_zone_is_cut(
    live: LivePortal, store: Store, open_browser: Callable[..., BrowserContext]
) -> None:
    live.send_order(store, "1")
    page = open_browser(timezone_id="Pacific/Chatham").new_page()
    sign_in(page, store.email)
    page.goto(f"/m/{store.slug}/events")
    choose_local(page)
    cell = page.locator("#log tbody tr td").first
    expect(cell.locator("abbr")).to_contain_text("GMT+1")
    assert cell.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
