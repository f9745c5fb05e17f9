"""A target fails: it is noticed, understood, mended, and nothing is lost."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.live import LivePortal, Store, wait_for
from tests.receiver import Receiver


def test_a_failing_target_is_noticed_understood_mended_and_recovers(
    live: LivePortal, store: Store, page: Page, receiver: Receiver
) -> None:
    receiver.always = (500, {"Content-Type": "text/plain"}, b"table orders is locked")
    webhook_id = live.make_webhook(store, receiver.url("/broken"))
    sent = [live.send_order(store, str(number)) for number in range(1001, 1006)]

    # Noticed: on the home page, without anybody looking for it; people are told when the first
    # probe has failed as well.
    told = page.get_by_role("status").filter(has_text="Orders to the ERP")

    def is_told() -> bool:
        page.goto(f"/m/{store.slug}/")
        return told.count() > 0

    wait_for(is_told)
    assert live.api("GET", f"webhooks/{webhook_id}", store.key)["state"] == "held"
    attention = page.get_by_role("region", name="Needs attention")
    expect(attention.get_by_role("listitem")).to_have_count(1)

    # Understood: the attempt shows what came back.
    attempts = page.get_by_role("region", name="Recent attempts")
    attempts.get_by_role("row").filter(has_text="500").first.get_by_role("link").first.click()
    expect(page.get_by_role("region", name="Response body")).to_have_text("table orders is locked")

    # Mended: another address, and the held ones are sent there.
    page.get_by_role("link", name="Orders to the ERP").click()
    expect(page.get_by_role("heading", name="5 held deliveries")).to_be_visible()
    page.get_by_text("Edit", exact=True).click()
    page.get_by_label("URL").fill(receiver.url("/mended"))
    page.get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("status").first).to_contain_text("The webhook is saved.")
    receiver.always = 200
    page.get_by_role("button", name="Send them now").click()

    # Recovered: every event arrived, and the page says so.
    wait_for(
        lambda: (
            set(sent)
            <= {one.headers["webhook-id"] for one in receiver.ledger if one.path == "/mended"}
        )
    )
    wait_for(lambda: live.api("GET", f"webhooks/{webhook_id}", store.key)["state"] == "enabled")
    page.goto(f"/m/{store.slug}/")
    expect(page.get_by_role("status").filter(has_text="Orders to the ERP").first).to_be_visible()
    expect(page.get_by_role("region", name="Needs attention")).to_have_count(0)
    owed = live.api("GET", f"deliveries?webhook_id={webhook_id}", store.key)["data"]
    assert [one["state"] for one in owed] == ["succeeded"] * 5


def test_what_failed_for_good_is_counted_sent_again_and_arrives(
    live: LivePortal, store: Store, page: Page, receiver: Receiver
) -> None:
    receiver.always = 500
    webhook_id = live.make_webhook(store, receiver.url(), retry_schedule=[0])
    sent = [live.send_order(store, number) for number in ("2001", "2002")]
    wait_for(lambda: len(receiver.ledger) == 2)
    wait_for(
        lambda: (
            [
                one["state"]
                for one in live.api("GET", f"deliveries?webhook_id={webhook_id}", store.key)["data"]
            ]
            == ["failed"] * 2
        )
    )
    receiver.always = 200

    page.get_by_role("link", name="Recover").first.click()
    expect(page.get_by_role("heading", name="2 failed deliveries")).to_be_visible()
    page.get_by_label("Type").fill("customer.*")
    page.get_by_role("button", name="Count").click()
    expect(page.get_by_role("heading", name="Nothing failed like that")).to_be_visible()
    page.get_by_label("Type").fill("order.*")
    page.get_by_role("button", name="Count").click()
    page.get_by_role("button", name="Send them again").click()
    expect(page.get_by_role("heading", name="2 of 2 on their way")).to_be_visible()
    expect(page.locator("#progress .badge")).to_have_text("finished")
    wait_for(lambda: len(receiver.ledger) == 4)
    assert sorted(receiver.ids()[2:]) == sorted(sent)
    page.get_by_role("link", name="Recover").first.click()
    expect(page.get_by_role("heading", name="Nothing failed like that")).to_be_visible()
