"""Each error as it really comes about: its page says what to do, leads on, and is readable."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from portal.db.session import db
from tests.browser.conftest import Watch, keep_still, sign_in
from tests.browser.live import LivePortal, Store
from tests.browser.test_pages import AXE
from tests.receiver import Receiver

MAKE_FORM = """([address, fields]) => {
  const form = document.querySelector('form[action="/sign-out"]').cloneNode(true);
  form.action = address;
  for (const [name, value] of Object.entries(fields)) {
    const field = document.createElement('input');
    Object.assign(field, {name, value, type: 'hidden'});
    form.append(field);
  }
  document.body.append(form);
  form.submit();
}"""


def post(page: Page, address: str, **fields: str) -> None:
    """Send a form from the page, as a button of an older version of it would."""
    with page.expect_navigation():
        page.evaluate(MAKE_FORM, [address, fields])


def forbidden(live: LivePortal, store: Store, page: Page) -> None:
    """A viewer opens the form that is for editors."""
    viewer = live.member(store, "Vic Viewer", "viewer")
    keep_still(page)
    page.context.clear_cookies()
    sign_in(page, viewer)
    page.goto(f"/m/{store.slug}/webhooks/new")


def not_found(live: LivePortal, store: Store, page: Page) -> None:
    """An address of something that is deleted."""
    page.goto(f"/m/{store.slug}/webhooks/wh_gone")


def conflict(live: LivePortal, store: Store, page: Page) -> None:
    """A recovery that ended is cancelled from a page opened before."""
    webhook_id = live.make_webhook(store, "https://erp.example/")
    started = live.api("POST", f"webhooks/{webhook_id}/recover", store.key, {"since": 0})
    address = f"/m/{store.slug}/recover/{started['recovery_id']}"
    page.goto(address)
    expect(page.locator("#progress")).to_contain_text("finished")
    post(page, f"{address}/cancel")


def expired(live: LivePortal, store: Store, page: Page) -> None:
    """The reader has signed in anew in another tab."""
    page.goto(f"/m/{store.slug}/settings")
    page.get_by_label("Days for events").fill("30")
    other = page.context.new_page()
    other.goto(f"/m/{store.slug}/")
    other.get_by_role("button", name="Sign out").click()
    sign_in(other, store.email)
    other.close()
    page.get_by_role("button", name="Save").click()


def too_many(live: LivePortal, store: Store, page: Page) -> None:
    """A password is guessed again and again."""
    page.goto("/account/second-factor")
    token = page.locator("[name=csrf_token]").first.input_value()
    for _ in range(10):
        page.request.post(
            "/account/second-factor/off",
            form={"password": "a guess", "csrf_token": token},
            headers={"Referer": live.url},
        )
    post(page, "/account/second-factor/off", password="a guess")


def defect(live: LivePortal, store: Store, page: Page) -> None:
    """A table that the page reads is not there."""
    put_away(live, "saved_filter", "saved_filter_away")
    try:
        page.goto(f"/m/{store.slug}/events")
    finally:
        put_away(live, "saved_filter_away", "saved_filter")


def put_away(live: LivePortal, name: str, new_name: str) -> None:
    with live.app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE {name} RENAME TO {new_name}"))


ERRORS: dict[int, tuple[Callable[[LivePortal, Store, Page], None], str]] = {
    403: (forbidden, "Go to the first page"),
    404: (not_found, "Go to the first page"),
    409: (conflict, "Back to the page"),
    419: (expired, "Send it again"),
    429: (too_many, "Back to the page"),
    500: (defect, "Try again"),
}
"""How each comes about, and the first way on from it."""


@pytest.mark.parametrize("status", ERRORS)
def test_each_error_page_leads_on_and_is_readable(
    live: LivePortal, store: Store, page: Page, watch: Watch, status: int
) -> None:
    watch.allow(str(status))
    happen, way_on = ERRORS[status]
    happen(live, store, page)
    expect(page.locator(".error-code")).to_have_text(str(status))
    assert_readable(page)
    with page.expect_navigation() as moved:
        page.get_by_role("main").get_by_role("button", name=way_on).click()
    assert moved.value is not None
    assert moved.value.ok, moved.value.status
    expect(page.locator(".error-code")).to_have_count(0)


def assert_readable(page: Page) -> None:
    """No violation that axe finds in either theme, and nothing wider than a small phone."""
    for theme in ("light", "dark"):
        # Without motion, or colours would still be on their way from the other theme.
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        found = Axe().run(page, options=AXE).response["violations"]
        assert not found, [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
    window = page.viewport_size
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert window is not None
    page.set_viewport_size(window)


def test_a_portal_out_of_reach_is_said_once_and_taken_back(
    live: LivePortal, store: Store, page: Page, watch: Watch, receiver: Receiver
) -> None:
    watch.allow("ERR_INTERNET_DISCONNECTED|Failed to fetch")
    webhook_id = live.make_webhook(store, receiver.url())
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/m/{store.slug}/webhooks/{webhook_id}")
    go_offline(page)
    assert_readable(page)
    page.context.set_offline(False)
    page.get_by_role("button", name="Send test event").click()
    expect(page.locator("#test-result .badge")).to_have_text("200")
    expect(page.locator("#messages").get_by_role("alert")).to_have_count(0)
    assert len(receiver.ledger) == 1


def go_offline(page: Page) -> None:
    """Press a button twice without a network."""
    page.context.set_offline(True)
    for _ in range(2):
        page.get_by_role("button", name="Send test event").click()
        expect(page.locator("#messages").get_by_role("alert")).to_have_count(1)
        expect(page.locator("#messages").get_by_role("alert")).to_be_in_viewport()


def test_an_error_in_a_part_leaves_the_page_as_it_is(
    live: LivePortal, store: Store, page: Page, watch: Watch, receiver: Receiver
) -> None:
    watch.allow("404")
    webhook_id = live.make_webhook(store, receiver.url())
    page.goto(f"/m/{store.slug}/webhooks/{webhook_id}")
    live.api("DELETE", f"webhooks/{webhook_id}", store.key)
    page.get_by_role("button", name="Send test event").click()
    expect(page.locator("#messages").get_by_role("alert")).to_contain_text("no such webhook")
    expect(page.get_by_role("heading", name="Orders to the ERP")).to_be_visible()
    assert_readable(page)


def test_an_error_under_a_filter_moves_no_other(store: Store, page: Page, watch: Watch) -> None:
    watch.allow("422")
    page.goto(f"/m/{store.slug}/attempts?status=abc")
    expect(page.get_by_text("Give a status such as")).to_have_count(2)
    fields = page.locator("form.filters > .field > :is(input, select)").all()
    tops = {round(box["y"]) for field in fields if (box := field.bounding_box())}
    assert len(fields) == 5
    assert len(tops) == 1
