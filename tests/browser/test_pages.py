"""Every page: readable for all, quiet, steady, light, and within its window."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, expect

from tests.browser import demo
from tests.browser.conftest import sign_in
from tests.browser.live import LivePortal
from tests.receiver import Receiver

FIRST_PAGE_BYTES = 60_000
LATER_PAGE_BYTES = 25_000
LAYOUT_SHIFT = 0.02
STREAMED = (
    "home.index",
    "webhooks.index",
    "events.index",
    "attempts.index",
    "staff.events",
    "staff.attempts",
    "staff.audit",
    "staff.operations",
)
"""Pages with so many rows that they are painted in pieces."""
SLOW_NETWORK = {
    "offline": False,
    "latency": 20,
    "downloadThroughput": 50_000,
    "uploadThroughput": 50_000,
}
"""In bytes a second, and milliseconds."""
WINDOW = {"width": 1280, "height": 800}
WIDTHS = (360, 768, 2560)
# Without "preload", for which axe puts style sheets into the page, against the policy.
AXE = {"resultTypes": ["violations"], "preload": False}
# The themes differ in their colours alone.
CHECKED = {"light": AXE, "dark": AXE | {"runOnly": {"type": "rule", "values": ["color-contrast"]}}}
_MEASURE_SHIFT = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: 'layout-shift', buffered: true});
"""


@pytest.fixture(scope="module")
def addresses(live: LivePortal) -> Iterator[dict[str, str]]:
    """Address by endpoint of every page of a store in use."""
    receiver = Receiver()
    yield demo.pages(live.app, demo.fill(live, live.store("Northwind Outfitters"), receiver))
    receiver.close()


def slug_of(addresses: dict[str, str]) -> str:
    return addresses["home.index"].split("/")[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_quiet_steady_and_fits(
    live: LivePortal,
    addresses: dict[str, str],
    theme: str,
    open_browser: Callable[..., BrowserContext],
) -> None:
    readers = demo.Readers(
        live, slug_of(addresses), lambda: open_browser(color_scheme=theme).new_page()
    )
    axe = Axe()
    found: list[str] = []
    for page in readers:
        page.add_init_script(_MEASURE_SHIFT)
    for endpoint, address in addresses.items():
        page = readers.of(endpoint)
        answer = page.goto(address)
        assert answer is not None
        assert answer.ok, (endpoint, address, answer.status)
        for issue in axe.run(page, options=CHECKED[theme]).response["violations"]:
            nodes = [node["html"][:160] for node in issue["nodes"][:3]]
            found.append(f"{endpoint}: {issue['id']} {nodes}")
        shift = page.evaluate("window.shift")
        if shift >= LAYOUT_SHIFT:
            found.append(f"{endpoint}: shifts by {shift:.3f}")
        for width in WIDTHS if theme == "light" else ():
            page.set_viewport_size({"width": width, "height": 900})
            if page.evaluate("document.documentElement.scrollWidth") > width:
                found.append(f"{endpoint}: is wider than {width} px")
        page.set_viewport_size(WINDOW)
    assert not found, "\n".join(found)


def test_a_page_that_comes_slowly_moves_nothing(
    live: LivePortal, addresses: dict[str, str], open_browser: Callable[..., BrowserContext]
) -> None:
    readers = demo.Readers(live, slug_of(addresses), lambda: open_browser().new_page())
    for page in readers:
        page.add_init_script(_MEASURE_SHIFT)
        wire = page.context.new_cdp_session(page)
        wire.send("Network.emulateNetworkConditions", SLOW_NETWORK)
    for endpoint in STREAMED:
        page = readers.of(endpoint)
        page.goto(addresses[endpoint])
        shift = page.evaluate("""() => new Promise((done) => {
          requestAnimationFrame(() => setTimeout(() => done(window.shift), 100));
        })""")
        assert shift < LAYOUT_SHIFT, (endpoint, shift)


def test_the_first_page_is_light_over_the_wire(
    live: LivePortal, addresses: dict[str, str], open_browser: Callable[..., BrowserContext]
) -> None:
    page = open_browser().new_page()
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")
    sizes: list[int] = []
    wire.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto("/sign-in", wait_until="networkidle")
    assert 0 < sum(sizes) < FIRST_PAGE_BYTES
    sign_in(page, f"owner@{slug_of(addresses)}.example")
    sizes.clear()
    page.goto(addresses["home.index"], wait_until="networkidle")
    assert 0 < sum(sizes) < LATER_PAGE_BYTES


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_the_log_was_searched_for_is_marked_in_the_record(
    live: LivePortal,
    addresses: dict[str, str],
    theme: str,
    open_browser: Callable[..., BrowserContext],
) -> None:
    page = open_browser(color_scheme=theme).new_page()
    sign_in(page, f"owner@{slug_of(addresses)}.example")
    page.goto(addresses["events.index"])
    page.get_by_label("Record holds").fill("BRASS bicycle")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**text=BRASS**")
    page.locator("#log").get_by_role("link", name="evt_").first.click()
    expect(page.locator("mark").first).to_have_text("Brass bicycle")
    assert not Axe().run(page, options=CHECKED[theme]).response["violations"]
