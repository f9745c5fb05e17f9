"""What bin/screenshots runs: pictures of every page of a portal with demo data, in
docs/screenshots/.

With names of endpoints as arguments (webhooks.show), just those.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.browser import demo, past
from tests.browser.live import ROOT, LivePortal, a_browser, chromium, running
from tests.mailbox import Mailbox
from tests.receiver import Receiver

TARGET = ROOT / "docs" / "screenshots"
VARIANTS = {
    "light": ("light", 1280, 800, 1000),
    "dark": ("dark", 1280, 800, 1000),
    "narrow": ("light", 390, 844, 1688),
}
"""Colours, the window's width and height, and how much of a longer page is shown."""
QUALITY = 80
WITHOUT_PICTURE = {"home.root": "sends on to the home page of a merchant, or to all merchants"}
"""Pages of which there is none, and why."""
ASKED = {"search.index": "?q=to+the"}
"""What is asked of pages that show nothing unasked."""
USUAL_DELAY = 0.06
"""Seconds after which the receiver answers: one on loopback would be quicker than any real one."""


def main(wanted: list[str]) -> int:
    """Take the pictures; the exit code."""
    if chromium() is None:
        print("There is no chromium on this machine.", file=sys.stderr)
        return 1
    TARGET.mkdir(parents=True, exist_ok=True)
    receiver, mailbox = Receiver(), Mailbox()
    receiver.delay = USUAL_DELAY
    missing: list[str] = []
    taken: list[Path] = []
    with running(
        HOLD_AFTER_FAILURES="3",
        SMTP_URL=f"smtp://127.0.0.1:{mailbox.port}",
        MAIL_FROM="hooks@portal.example",
    ) as live:
        store = live.store("Northwind Outfitters", "northwind")
        live.store("Contoso Garden", "contoso-garden")
        live.store("Fabrikam Books", "fabrikam-books", active=False)
        parts = demo.fill(live, store, receiver)
        webhooks = [one["id"] for one in live.api("GET", "webhooks", store.key)["data"]]
        past.give_a_past(live, store, webhooks)
        past.give_names(live, store, receiver)
        addresses = demo.pages(live.app, parts)
        addresses |= {name: addresses[name] + asked for name, asked in ASKED.items()}
        names = wanted or [name for name in addresses if name not in WITHOUT_PICTURE]
        with a_browser() as browser:
            for variant in VARIANTS:
                readers = demo.Readers(
                    live, store.slug, lambda variant=variant: _page(browser, live, variant)
                )
                for name in names:
                    page = readers.of(name)
                    path = TARGET / f"{name.replace('.', '-')}-{variant}.webp"
                    if _is_shown(page, addresses[name]):
                        _take(page, path, variant)
                        taken.append(path)
                    else:
                        missing.append(f"{name} ({variant}): {page.url} came instead")
    receiver.close()
    mailbox.close()
    if not wanted:
        for path in set(TARGET.iterdir()) - set(taken):
            path.unlink()
    print(f"{len(taken)} pictures, {sum(path.stat().st_size for path in taken) // 1024} KiB")
    for line in missing:
        print(f"No picture of {line}.", file=sys.stderr)
    return 1 if missing else 0


def _page(browser: Browser, live: LivePortal, variant: str) -> Page:
    theme, width, height, _longest = VARIANTS[variant]
    return browser.new_context(
        base_url=live.url,
        color_scheme=theme,  # type: ignore[arg-type]
        viewport={"width": width, "height": height},
    ).new_page()


def _is_shown(page: Page, address: str) -> bool:
    """Open an address; whether its page came, and not one that it was sent on to."""
    answer = page.goto(address, wait_until="networkidle")
    return answer is not None and answer.ok and page.url.endswith(address)


def _take(page: Page, path: Path, variant: str) -> None:
    _theme, width, height, longest = VARIANTS[variant]
    length = page.evaluate("document.documentElement.scrollHeight")
    # Playwright writes no WebP, which is a third of a PNG.
    wire = page.context.new_cdp_session(page)
    picture = wire.send(
        "Page.captureScreenshot",
        {
            "format": "webp",
            "quality": QUALITY,
            "captureBeyondViewport": True,
            "clip": {
                "x": 0,
                "y": 0,
                "width": width,
                "height": min(max(length, height), longest),
                "scale": 1,
            },
        },
    )
    wire.detach()
    path.write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
