"""Without JavaScript, by keyboard alone, and when people do what they should not."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Watch, keep_still, sign_in
from tests.browser.live import LivePortal, Store, wait_for
from tests.receiver import Receiver


def test_a_webhook_is_set_up_and_its_log_read_without_javascript(
    live: LivePortal, store: Store, receiver: Receiver, open_browser: Callable[..., BrowserContext]
) -> None:
    page = open_browser(java_script_enabled=False).new_page()
    sign_in(page, store.email)
    page.goto(f"/m/{store.slug}/webhooks/new")
    page.get_by_role("link", name="Start blank").click()
    page.get_by_label("Description").fill("Without scripts")
    page.get_by_label("URL").fill(receiver.url("/plain"))
    page.get_by_role("checkbox", name="All events").check()
    page.get_by_text("method, query parameters, headers").click()
    page.get_by_role("button", name="Add header").click()
    row = page.get_by_role("group", name="Header 1")
    row.get_by_label("Name").fill("X-Plain")
    row.get_by_label("Value").fill("yes")
    expect(page.get_by_label("Description")).to_have_value("Without scripts")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text("X-Plain")
    page.get_by_role("button", name="Create webhook").last.click()
    expect(page.get_by_role("status").first).to_contain_text("The webhook is created.")

    page.get_by_role("button", name="Send test event").click()
    expect(page.locator("#test-result .badge")).to_have_text("200")
    assert receiver.ledger[-1].headers["X-Plain"] == "yes"
    page.get_by_role("link", name="Open the attempt").click()
    expect(page.get_by_role("region", name="Response body")).to_have_text("ok")

    event_id = live.send_order(store, "2001")
    live.send_order(store, "2002")
    wait_for(lambda: len(receiver.ledger) == 3)
    page.get_by_role("link", name="Events", exact=True).first.click()
    page.get_by_label("Object ID").fill("2001")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#log tbody tr")).to_have_count(1)
    assert "object_id=2001" in page.url
    page.get_by_role("link", name=event_id).click()
    expect(page.locator("#destinations")).to_contain_text("succeeded")


def tab_to(page: Page, role: str, name: str) -> None:
    """Press Tab until it has the focus, as somebody without a mouse does."""
    wanted = page.get_by_role(role, name=re.compile(f"^{name}")).last  # type: ignore[arg-type]
    for _ in range(150):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {role} {name}")


def tab_to_summary(page: Page, name: str) -> None:
    """Press Tab until what opens a folded part has the focus."""
    wanted = page.locator("summary", has_text=name).last
    for _ in range(150):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {name}")


def test_the_set_up_needs_no_mouse(
    live: LivePortal, store: Store, receiver: Receiver, open_browser: Callable[..., BrowserContext]
) -> None:
    page = open_browser().new_page()
    page.goto("/sign-in")
    keyboard = page.keyboard
    expect(page.get_by_label("E-mail address")).to_be_focused()
    keyboard.type(store.email)
    keyboard.press("Tab")
    keyboard.type("correct horse battery")
    keyboard.press("Enter")
    page.wait_for_url("**/m/**")

    keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    tab_to(page, "link", "New webhook")
    keyboard.press("Enter")
    page.wait_for_url("**/webhooks/new")
    tab_to(page, "link", "Start blank")
    keyboard.press("Enter")
    # The URL has the focus at once.
    expect(page.get_by_label("URL")).to_be_focused()
    keyboard.type(receiver.url("/keys"))
    tab_to(page, "textbox", "Description")
    keyboard.type("By keyboard")
    tab_to(page, "checkbox", "All events")
    keyboard.press("Space")
    tab_to_summary(page, "Request")
    keyboard.press("Enter")
    tab_to(page, "button", "Add header")
    keyboard.press("Enter")
    expect(page.get_by_role("group", name="Header 1").get_by_label("Name")).to_be_focused()
    keyboard.type("X-Keys")
    keyboard.press("Tab")
    keyboard.type("1")
    tab_to(page, "button", "Create webhook")
    keyboard.press("Enter")
    expect(page.get_by_role("heading", name="By keyboard")).to_be_visible()
    tab_to(page, "button", "Send test event")
    keyboard.press("Enter")
    expect(page.locator("#test-result .badge")).to_have_text("200")
    tab_to(page, "link", "Open the attempt")
    keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Attempt 1")).to_be_visible()


def test_what_is_sent_after_the_sign_in_ended_stays_and_is_sent_after_the_next(
    live: LivePortal, store: Store, page: Page, watch: Watch, receiver: Receiver
) -> None:
    watch.allow("401")
    watch.allow("419")
    webhook_id = live.make_webhook(store, receiver.url())
    page.goto(f"/m/{store.slug}/webhooks/{webhook_id}")
    keep_still(page)
    page.context.clear_cookies(name="portal_session")
    page.get_by_role("button", name="Send test event").click()
    message = page.locator("#messages")
    expect(message).to_contain_text("You are signed out")
    with page.context.expect_page() as opened:
        message.get_by_role("link", name="Sign in").click()
    other = opened.value
    expect(other.get_by_role("main")).to_have_count(1)
    other.get_by_label("E-mail address").fill(store.email)
    other.get_by_label("Password").fill("correct horse battery")
    other.get_by_role("button", name="Sign in").click()
    expect(other.get_by_role("heading", name="Orders to the ERP")).to_be_visible()
    assert receiver.ledger == []
    # The page's token was of the sign-in before; the first click renews it.
    page.get_by_role("button", name="Send test event").click()
    expect(message).to_contain_text("Send it again")
    page.get_by_role("button", name="Send test event").click()
    expect(page.locator("#test-result .badge")).to_have_text("200")
    assert len(receiver.ledger) == 1


def test_sending_the_form_twice_makes_one_webhook(
    live: LivePortal, store: Store, page: Page, receiver: Receiver
) -> None:
    page.goto(f"/m/{store.slug}/webhooks/new?recipe=blank")
    page.get_by_label("URL").fill(receiver.url())
    page.get_by_role("checkbox", name="All events").check()
    page.get_by_role("button", name="Create webhook").last.dblclick()
    page.wait_for_url("**/webhooks/wh_*")
    assert len(live.api("GET", "webhooks", store.key)["data"]) == 1


def test_two_people_who_edit_at_once_see_both_texts(
    live: LivePortal,
    store: Store,
    page: Page,
    watch: Watch,
    receiver: Receiver,
    open_browser: Callable[..., BrowserContext],
) -> None:
    watch.allow("409")
    webhook_id = live.make_webhook(store, receiver.url())
    edit = f"/m/{store.slug}/webhooks/{webhook_id}/edit"
    other = open_browser().new_page()
    sign_in(other, store.email)
    for one in (page, other):
        one.goto(edit)
    other.get_by_label("Description").fill("Said the other")
    other.get_by_role("button", name="Save").last.click()
    other.wait_for_url(f"**/{webhook_id}")
    page.get_by_label("Description").fill("Said the first")
    page.get_by_role("button", name="Save").last.click()
    expect(page.get_by_text("Someone changed this webhook after you opened it.")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="Description")
    expect(row).to_contain_text("Said the other")
    expect(row).to_contain_text("Said the first")
    page.get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("heading", name="Said the first")).to_be_visible()
