"""How people come to an account and keep it: invited, password forgotten, a code of an app."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from email.message import EmailMessage

from playwright.sync_api import BrowserContext, Page, expect

from portal.clock import SECOND, now
from portal.people.second_factor import STEP_SECONDS, code_at
from tests.browser.conftest import Watch, give_password, keep_still, sign_in
from tests.browser.live import PASSWORD, LivePortal, Store, wait_for
from tests.mailbox import Mailbox

NEW = "a horse of another colour"
PHONE = {"width": 390, "height": 844}
# The mail waits for cron, which looks each 20 seconds.
MAIL_SECONDS = 60


def link_in_mail(mailbox: Mailbox, to: str) -> str:
    """The address in the one mail that came to somebody."""

    def mails() -> list[EmailMessage]:
        return [mail for mail in mailbox.messages if mail["To"] == to]

    wait_for(mails, MAIL_SECONDS)
    (mail,) = mails()
    return re.findall(r"http://\S+", mail.get_content())[0]  # type: ignore[no-any-return]


def trouble_of(page: Page) -> Watch:
    return page.context.watch  # type: ignore[attr-defined, no-any-return]


def expect_within_window(page: Page) -> None:
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], (page.url, width)


def test_an_invited_colleague_comes_in_by_the_mail(
    store: Store, page: Page, mailbox: Mailbox, open_browser: Callable[..., BrowserContext]
) -> None:
    email = f"kim@{store.slug}.example"
    page.get_by_role("link", name="Settings").first.click()
    form = page.get_by_role("form", name="Invite someone")
    form.get_by_label("E-mail address").fill(email)
    form.get_by_label("Role").select_option("editor")
    form.get_by_role("button", name="Invite").click()
    expect(page.get_by_role("status")).to_contain_text("The link is on its way by mail.")
    link = link_in_mail(mailbox, email)

    kim = open_browser(viewport=PHONE).new_page()
    kim.goto(link)
    expect(kim.get_by_text("is invited, as an editor")).to_be_visible()
    expect_within_window(kim)
    kim.get_by_label("Your name").fill("Kim Editor")
    kim.get_by_label("Password").first.fill(PASSWORD)
    kim.get_by_label("Password, once more").fill(PASSWORD)
    kim.get_by_role("button", name="Join").click()
    expect(kim.get_by_role("status").first).to_contain_text("Welcome to Store")
    kim.goto("/account")
    expect(kim.get_by_role("definition").filter(has_text="editor")).to_be_visible()
    expect_within_window(kim)
    # An editor makes webhooks, and keys are for owners.
    kim.goto(f"/m/{store.slug}/webhooks")
    expect(kim.get_by_role("button", name="New webhook").first).to_be_visible()
    expect_within_window(kim)
    kim.goto(f"/m/{store.slug}/settings")
    expect(kim.get_by_role("button", name="Invite")).to_have_count(0)
    expect_within_window(kim)

    page.reload()
    row = page.locator("#members").get_by_role("row").filter(has_text=email)
    expect(row).to_contain_text("Kim Editor")
    expect(row.get_by_label(f"Role of {email}")).to_have_value("editor")
    expect(page.get_by_role("heading", name="Invited")).to_have_count(0)

    other = open_browser(viewport=PHONE).new_page()
    trouble_of(other).allow("404")
    other.goto(link)
    expect(other.get_by_role("heading", name="Not found")).to_be_visible()
    expect(other.get_by_text("was used already")).to_be_visible()
    expect_within_window(other)
    other.get_by_role("button", name="Go to the first page").click()
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_forgotten_password_is_changed_by_mail(
    store: Store, page: Page, mailbox: Mailbox, open_browser: Callable[..., BrowserContext]
) -> None:
    keep_still(page)
    forgetful = open_browser().new_page()
    forgetful.goto("/sign-in")
    forgetful.get_by_role("link", name="Forgot your password?").click()
    forgetful.get_by_label("E-mail address").fill(store.email)
    forgetful.get_by_role("button", name="Send the link").click()
    expect(forgetful.get_by_role("status")).to_contain_text("a link is on its way there")
    link = link_in_mail(mailbox, store.email)
    forgetful.goto(link)
    forgetful.get_by_label("New password").first.fill(NEW)
    forgetful.get_by_label("New password, once more").fill(NEW)
    forgetful.get_by_role("button", name="Change the password").click()
    expect(forgetful.get_by_role("status")).to_contain_text("Your password is changed.")

    trouble_of(forgetful).allow("422")
    forgetful.get_by_label("E-mail address").fill(store.email)
    forgetful.get_by_label("Password").fill(PASSWORD)
    forgetful.get_by_role("button", name="Sign in").click()
    expect(forgetful.get_by_role("alert")).to_contain_text("the password is wrong")
    sign_in(forgetful, store.email, NEW)

    # Whoever was signed in with the old one is out.
    page.get_by_role("link", name="Webhooks").first.click()
    page.wait_for_url("**/sign-in?**")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

    trouble_of(page).allow("404")
    page.goto(link)
    expect(page.get_by_text("was used already")).to_be_visible()


def test_a_code_of_an_app_is_asked_for_and_a_recovery_code_works_once(
    live: LivePortal, store: Store, page: Page
) -> None:
    page.get_by_role("link", name="Robin Owner").first.click()
    page.get_by_role("button", name="Turn it on").click()
    page.get_by_text("Or type the secret").click()
    secret = page.locator(".set-up details code").inner_text()
    step = now() // (STEP_SECONDS * SECOND)

    def code(later: int) -> str:
        return code_at(base64.b32decode(secret), step + later)

    page.get_by_label("Code").fill(code(0))
    page.locator(".set-up").get_by_label("Current password").fill(PASSWORD)
    page.get_by_role("button", name="Turn on").click()
    recovery_code = page.locator("#codes li").first.inner_text()
    expect(page.locator("#codes li")).to_have_count(10)
    page.get_by_role("button", name="I have kept them").click()
    expect(page.get_by_role("heading", name="Second factor")).to_contain_text("on")

    # One step ahead, as of a phone whose clock is fast: the code that turned it on is used up.
    use_code(page, store, code(1))
    page.wait_for_url("**/m/**")

    use_code(page, store, recovery_code)
    page.wait_for_url("**/m/**")
    page.goto("/account/second-factor")
    expect(page.get_by_text("9 of your recovery codes are left")).to_be_visible()

    trouble_of(page).allow("422")
    use_code(page, store, recovery_code)
    expect(page.get_by_role("alert")).to_contain_text("was used already")
    page.goto(f"/m/{store.slug}/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def use_code(page: Page, store: Store, code: str) -> None:
    """Sign out, and in again with the password and a code."""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    give_password(page, store.email)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Sign in").click()
