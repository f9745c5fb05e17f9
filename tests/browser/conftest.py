"""Browser tests: chromium, the whole product behind bin/run, and a real receiver.

One portal serves all of them (they share an xdist group), so each makes a store of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.browser.live import PASSWORD, LivePortal, Store, a_browser, chromium, running
from tests.mailbox import Mailbox
from tests.receiver import Receiver

HERE = Path(__file__).parent
ALWAYS = ("test_order.py", "test_setup.py", "test_sign_in.py")
"""Of every `bin/test`; the others take minutes, and are run by `bin/test --whole`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder; without a browser it is skipped."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        if item.path.name not in ALWAYS:
            item.add_marker(pytest.mark.browser)
        item.add_marker(pytest.mark.xdist_group("browser"))
        if chromium() is None:
            item.add_marker(pytest.mark.skip(reason="There is no chromium on this machine."))


@pytest.fixture(scope="package")
def mailbox() -> Iterator[Mailbox]:
    """Where all mail of `live` goes."""
    mailbox = Mailbox()
    yield mailbox
    mailbox.close()


@pytest.fixture(scope="package")
def live(mailbox: Mailbox) -> Iterator[LivePortal]:
    """The product, running. Its retries and its holding come within seconds."""
    with running(
        RETRY_SCHEDULE="0 1 1 2 2 3",
        HOLD_AFTER_FAILURES="3",
        SWEEP_SECONDS="1",
        SMTP_URL=f"smtp://127.0.0.1:{mailbox.port}",
        MAIL_FROM="hooks@portal.example",
    ) as live:
        yield live


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium. With the package it ends, since its event loop must not outlive these tests."""
    with a_browser() as browser:
        yield browser


@pytest.fixture
def store(live: LivePortal) -> Store:
    """A merchant of this test's own."""
    return live.store()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of this test's own."""
    receiver = Receiver()
    yield receiver
    receiver.close()


class Watch:
    """What a browser must never see: errors, reports of the policy, requests elsewhere."""

    def __init__(self, context: BrowserContext, home: str) -> None:
        self.trouble: list[str] = []
        self.allowed: list[str] = []
        self._home = home
        context.on(
            "console",
            lambda message: self._note(
                message.type in ("error", "warning"), f"console: {message.text}"
            ),
        )
        context.on("weberror", lambda error: self._note(True, f"error: {error.error}"))
        context.on(
            "request",
            lambda request: self._note(
                not request.url.startswith((home, "data:", "blob:")), f"request to {request.url}"
            ),
        )
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation', (event) =>"
            " console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));"
        )

    def _note(self, bad: bool, text: str) -> None:
        if bad:
            self.trouble.append(text)

    def allow(self, pattern: str) -> None:
        """Let a test make trouble it is about: an expression that its lines hold."""
        self.allowed.append(pattern)

    def check(self) -> None:
        """Fail when there was any other trouble."""
        trouble = [
            line for line in self.trouble if not any(re.search(one, line) for one in self.allowed)
        ]
        assert not trouble, trouble


@pytest.fixture
def open_browser(browser: Browser, live: LivePortal) -> Iterator[Callable[..., BrowserContext]]:
    """`open_browser(**options)`: a browser without cookies; it may see no trouble (Watch)."""
    opened: list[tuple[BrowserContext, Watch]] = []

    def make(**options: Any) -> BrowserContext:
        home = options.setdefault("base_url", live.url)
        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        watch = Watch(context, home)
        context.watch = watch  # type: ignore[attr-defined]
        opened.append((context, watch))
        return context

    expect.set_options(timeout=15_000)
    yield make
    for context, _ in opened:
        context.close()
    for _, watch in opened:
        watch.check()


def keep_still(page: Page) -> None:
    """Let what the page asks by itself, every few seconds, bring nothing from now on. Signed out
    elsewhere, it would go to the sign-in form by itself, before or after the test's next click."""

    def answer(route: Route) -> None:
        asked = route.request
        if asked.method == "GET" and asked.headers.get("hx-request-type") == "partial":
            route.fulfill(status=204)
        else:
            route.continue_()

    page.route("**/*", answer)


def sign_in(page: Page, email: str, password: str = PASSWORD) -> None:
    """Sign in as people do."""
    page.goto("/sign-in")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/sign-in" not in url)


def give_password(page: Page, email: str) -> None:
    """The first step of who has a second factor, which is asked for then."""
    page.goto("/sign-in")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/sign-in/code")


@pytest.fixture
def page(open_browser: Callable[..., BrowserContext], store: Store) -> Page:
    """A page of the store's owner, signed in."""
    page = open_browser().new_page()
    sign_in(page, store.email)
    return page


@pytest.fixture
def watch(page: Page) -> Watch:
    """What `page` has seen so far."""
    watch: Watch = page.context.watch  # type: ignore[attr-defined]
    return watch
