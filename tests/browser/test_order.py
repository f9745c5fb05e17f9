"""What happened to order 1042? Staff find it out from any page, in four clicks."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import sign_in
from tests.browser.live import LivePortal, Store, wait_for
from tests.receiver import Receiver


def test_staff_find_out_what_happened_to_an_order(
    live: LivePortal, store: Store, receiver: Receiver, open_browser: Callable[..., BrowserContext]
) -> None:
    number = f"1042-{store.slug}"
    good = live.make_webhook(store, receiver.url("/erp"))
    receiver.broken["/chat"] = (404, {"Content-Type": "text/plain"}, b"no such channel")
    live.make_webhook(
        store, receiver.url("/chat"), description="Orders to the chat", retry_schedule=[0]
    )
    for kind, status in (("order.created", "open"), ("order.paid", "paid")):
        live.api(
            "POST",
            "events",
            store.key,
            {
                "type": kind,
                "object_id": number,
                "source_user_type": "storefront",
                "data": {"number": number, "status": status},
            },
        )
    wait_for(lambda: len(receiver.ledger) == 4)
    wait_for(
        lambda: (
            not [
                one
                for one in live.api("GET", f"deliveries?webhook_id={good}", store.key)["data"]
                if one["state"] != "succeeded"
            ]
        )
    )

    page = open_browser().new_page()
    sign_in(page, *live.operator)
    page.get_by_role("searchbox", name="Search").fill(number)
    page.keyboard.press("Enter")
    # One record has this number: the search leads to it.
    expect(page.get_by_role("heading", name=f"order {number}")).to_be_visible()
    paid, created = page.locator(".story > li").all()
    expect(paid).to_contain_text("order.paid")
    expect(paid).to_contain_text("by storefront")
    expect(paid.get_by_role("row").filter(has_text="status")).to_contain_text("open")
    expect(paid.get_by_role("row").filter(has_text="status")).to_contain_text("paid")
    for chapter in (paid, created):
        expect(chapter).to_contain_text("Orders to the ERP")
        sent = chapter.get_by_role("list", name="Deliveries").locator("> li")
        expect(sent.filter(has_text="Orders to the ERP")).to_contain_text("succeeded")
        expect(sent.filter(has_text="Orders to the chat")).to_contain_text("failed")
    failed = paid.get_by_role("listitem").filter(has_text="Orders to the chat")
    failed.get_by_role("link", name="Attempt 1").click()
    expect(page.get_by_role("heading", name="There is nothing at this URL")).to_be_visible()
    expect(page.get_by_role("region", name="Response body")).to_have_text("no such channel")
