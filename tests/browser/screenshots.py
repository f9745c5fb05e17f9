"""What bin/screenshots runs: pictures of a portal with demo data, in docs/screenshots/.

With names of endpoints as arguments (webhooks.show), just those; with `all`, every page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.browser import demo
from tests.browser.conftest import sign_in
from tests.browser.live import ROOT, LivePortal, a_browser, chromium, running
from tests.receiver import Receiver

TARGET = ROOT / "docs" / "screenshots"
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
THEMES = ("light", "dark")
DOCUMENTED = ("home.index", "webhooks.index", "webhooks.edit", "webhooks.show",
              "events.show", "attempts.show")


def main(wanted: list[str]) -> int:
    """Take the pictures; the exit code."""
    if chromium() is None:
        print("There is no chromium on this machine.", file=sys.stderr)
        return 1
    TARGET.mkdir(parents=True, exist_ok=True)
    receiver = Receiver()
    with running(RETRY_SCHEDULE="0 1 1 2 2 3", HOLD_AFTER_FAILURES="3", SWEEP_SECONDS="1") as live:
        store = live.store("Northwind Outfitters")
        addresses = demo.pages(live.app, demo.fill(live, store, receiver))
        names = list(addresses) if wanted == ["all"] else wanted or list(DOCUMENTED)
        with a_browser() as browser:
            for theme in THEMES:
                for size in SIZES:
                    _take(browser, live, store.email, theme, size,
                          {name: addresses[name] for name in names})
    receiver.close()
    return 0


def _take(
    browser: Browser, live: LivePortal, email: str, theme: str, size: str,
    addresses: dict[str, str],
) -> None:
    width, height = SIZES[size]

    def someone(*who: str) -> Page:
        page = browser.new_context(
            base_url=live.url, color_scheme=theme,  # type: ignore[arg-type]
            viewport={"width": width, "height": height},
        ).new_page()
        if who:
            sign_in(page, *who)
        return page

    people = {"owner": someone(email), "operator": someone(*live.operator), "nobody": someone()}
    for endpoint, address in addresses.items():
        who = "operator" if endpoint.startswith("staff.") else "owner"
        page = people["nobody" if endpoint in ("auth.sign_in", "shared.show") else who]
        page.goto(address, wait_until="load")
        path = TARGET / f"{endpoint.replace('.', '-')}-{theme}-{size}.png"
        page.screenshot(path=path)
        _say(path)


def _say(path: Path) -> None:
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size // 1024} KiB", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
