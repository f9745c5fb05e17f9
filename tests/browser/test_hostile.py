"""What strangers write is text in every page: nothing runs, nothing loads, the page stays whole."""

from __future__ import annotations

import json

from playwright.sync_api import Page

from tests.browser import demo
from tests.browser.live import LivePortal, Store, wait_for
from tests.receiver import Receiver

SCRIPT = "<script>window.owned=1</script>"
MARKUP = (
    f'{SCRIPT}"><img src=//elsewhere.example/x onerror=window.owned=1>'
    "'<b hx-get=/account hx-trigger=load>"
)
# Names and IDs may not hold what turns the direction of text; record data may.
TURNED = f"{MARKUP}\u202egnp.exe\u202c"
LINE = "W" * 65_536
ANSWER = (
    TURNED.encode()
    + b"\x00\xff\xfe\xc3\x28"
    + b'<a href="javascript:window.owned=1">x</a>'
    + LINE.encode()
)


def oauth2(url: str, **fields: str) -> dict[str, str]:
    return {"type": "oauth2", "token_url": url, "client_secret": "x"} | fields


def test_hostile_text_stays_text_in_every_page(
    live: LivePortal, store: Store, page: Page, receiver: Receiver
) -> None:
    receiver.always = (
        500,
        {"Content-Type": "text/html; charset=utf-7", "X-Markup": SCRIPT + "W" * 8_000},
        ANSWER,
    )
    webhook_id = live.make_webhook(
        store,
        receiver.url(),
        description=MARKUP,
        headers={"X-Note": f'{SCRIPT}"><img src=x>'},
        query_params={"q": MARKUP},
        retry_schedule=[0],
        events=["*"],
        auth=oauth2(receiver.url("/token"), client_id=MARKUP, scope=SCRIPT, audience=SCRIPT),
    )
    receiver.broken["/token"] = (200, {}, b'{"access_token": "<script>window.owned=1</script>"}')
    refusing = live.make_webhook(
        store,
        receiver.url(),
        retry_schedule=[0],
        events=["*"],
        auth=oauth2(receiver.url("/refuses"), client_id="shop"),
    )
    receiver.broken["/refuses"] = (
        400,
        {},
        json.dumps({"error": MARKUP, "error_description": TURNED}).encode(),
    )
    sent = live.api(
        "POST",
        "events",
        store.key,
        {
            "type": "order.created",
            "object_id": MARKUP,
            "source_user_type": "storefront",
            "source_user_id": MARKUP,
            "correlation_id": f'{SCRIPT}"><img src=x>',
            "data": {TURNED: TURNED, "line": LINE, "deep": [[[[TURNED]]]]},
            "previous": {"line": TURNED},
        },
    )["id"]
    attempts = f"attempts?event_id={sent}&webhook_id="
    wait_for(lambda: live.api("GET", attempts + webhook_id, store.key)["data"])
    wait_for(lambda: live.api("GET", attempts + refusing, store.key)["data"])
    attempt_id, refused_id = (
        live.api("GET", attempts + one, store.key)["data"][0]["request_id"]
        for one in (webhook_id, refusing)
    )
    parts = {
        "slug": store.slug,
        "webhook_id": webhook_id,
        "event_id": sent,
        "attempt_id": attempt_id,
        "name": "order.created",
        "object_type": "order",
        "object_id": MARKUP,
        "shared.token": live.share(store, attempt_id),
        "invitations.token": live.invitation(store),
        "passwords.token": live.password_reset(store),
        "recovery_id": live.api("POST", f"webhooks/{webhook_id}/recover", store.key, {"since": 0})[
            "recovery_id"
        ],
    }
    addresses = demo.pages(live.app, parts)
    refused = {"no token": addresses["attempts.show"].replace(attempt_id, refused_id)}
    for endpoint, address in (addresses | refused).items():
        if endpoint.startswith(("staff.", "auth.")):
            continue
        answer = page.goto(address)
        assert answer is not None
        assert answer.ok, (endpoint, answer.status)
        assert page.evaluate("window.owned") is None, endpoint
        assert page.locator("main img, main script, main b[hx-get]").count() == 0, endpoint
        assert page.locator("main a[href^='javascript:']").count() == 0, endpoint
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280, endpoint
        assert "\u202e" not in page.locator("main").inner_text(), endpoint
        assert page.locator("main h1, main h2").first.is_visible(), endpoint

    page.goto(f"/m/{store.slug}/webhooks/{webhook_id}")
    page.get_by_role("button", name="Send test event").click()
    result = page.locator("#test-result .badge")
    result.wait_for()
    assert page.evaluate("window.owned") is None
    for query in (
        f"events?object_id={SCRIPT}",
        f"attempts?event_id={SCRIPT}",
        f"event-types?search={SCRIPT}",
    ):
        page.goto(f"/m/{store.slug}/{query}")
        assert page.evaluate("window.owned") is None
