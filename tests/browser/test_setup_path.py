"""How short the way is: from the sign-in to a test event that arrived, in clicks and fields."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.live import PASSWORD, Store
from tests.receiver import Receiver

MOST_STEPS = 8


class Person:
    """Clicks and fills in, and counts both."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.steps = 0

    def click(self, target: Locator) -> None:
        """Click what can be seen without opening anything else."""
        self.steps += 1
        target.click()

    def fill(self, label: str, text: str) -> None:
        """Fill in one field."""
        self.steps += 1
        self.page.get_by_label(label).fill(text)


@pytest.mark.parametrize("recipe", ["Slack", "Order processing", "Zapier", "Microsoft Teams"])
@pytest.mark.parametrize("with_scripts", [True, False], ids=["scripts", "plain"])
def test_a_first_event_is_delivered_within_eight_clicks_and_fields(
    store: Store,
    receiver: Receiver,
    open_browser: Callable[..., BrowserContext],
    recipe: str,
    with_scripts: bool,
) -> None:
    page = open_browser(java_script_enabled=with_scripts).new_page()
    page.goto("/")
    person = Person(page)
    person.fill("E-mail address", store.email)
    person.fill("Password", PASSWORD)
    person.click(page.get_by_role("button", name="Sign in"))
    person.click(page.get_by_role("link", name="New webhook").first)
    person.click(page.get_by_role("link", name=recipe))
    person.fill("URL", receiver.url("/first"))
    person.click(page.get_by_role("button", name="Create webhook").last)
    person.click(page.get_by_role("button", name="Send test event"))
    expect(page.locator("#test-result .badge")).to_have_text("200")
    assert receiver.ledger[-1].path == "/first"
    assert person.steps <= MOST_STEPS
