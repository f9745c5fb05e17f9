"""Signing in as people do, with what they have beside the password."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import give_password, sign_in
from tests.browser.live import PASSWORD, LivePortal, Store


def test_a_passkey_is_added_used_and_removed(
    live: LivePortal, store: Store, open_browser: Callable[..., BrowserContext]
) -> None:
    page = open_browser(base_url=live.url.replace("127.0.0.1", "localhost")).new_page()
    device = page.context.new_cdp_session(page)
    device.send("WebAuthn.enable")
    device.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
    sign_in(page, store.email)
    page.goto("/account/second-factor")
    form = page.locator("#passkeys")
    form.get_by_label("Name").fill("phone")
    form.get_by_label("Current password").fill(PASSWORD)
    form.get_by_role("button", name="Add a passkey").click()
    expect(page.locator("#codes li")).to_have_count(10)

    page.get_by_role("button", name="Sign out").click()
    give_password(page, store.email)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(lambda url: "/sign-in" not in url)

    page.goto("/account/second-factor")
    page.get_by_text("Remove", exact=True).first.click()
    form.locator("li").get_by_label("Current password").fill(PASSWORD)
    form.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("The passkey is removed.")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, store.email)
