"""Realistic data of a store, made by the API: webhooks in three states, events, failures."""

from __future__ import annotations

from typing import Any

import requests
from flask import Flask

from portal.access import ACCESS
from tests.browser.live import LivePortal, Store, wait_for
from tests.receiver import Receiver

NO_PAGES = ("api", "health", "static", "exports", "tail", "inspected")


def fill(live: LivePortal, store: Store, receiver: Receiver) -> dict[str, str]:
    """Three webhooks (working, failing, disabled), two dozen events and their attempts.

    Gives the parts of the addresses of pages.
    """
    def webhook(description: str, path: str, events: list[str], **fields: Any) -> str:
        return live.make_webhook(
            store, receiver.url(path), description=description, events=events, **fields
        )

    good = webhook(
        "Orders to the ERP", "/erp/orders", ["order.*", "refund.*"],
        headers={"X-Store": "north", "X-Order": "{{ event.object_id }}"},
        query_params={"tenant": "4711"}, except_sources=["erp"],
    )
    receiver.broken = {"/crm": (503, {"Content-Type": "application/json"},
                                b'{"error": "maintenance until 14:00"}')}
    bad = webhook("New customers to the mailing list", "/crm", ["customer.*"])
    off = webhook("Stock to the marketplace", "/stock", ["inventory.*", "product.*"])
    live.api("POST", f"webhooks/{off}/disable", store.key)
    examples = [
        (one["name"], one["example"])
        for one in live.api("GET", "event-types", store.key)["data"]
        if one["name"].startswith(("order.", "customer.", "refund.", "inventory."))
    ]
    sent = ""
    for number, (name, example) in enumerate(examples):
        event = {
            "type": name, "object_id": str(1040 + number), "source_user_type": "storefront",
            "source_user_id": str(500 + number % 7), "data": example,
            "correlation_id": f"checkout-{number // 3}",
        }
        answer = live.api("POST", "events", store.key, event)
        sent = answer["id"] if name == "order.created" else sent
    wait_for(lambda: live.api("GET", f"attempts?event_id={sent}", store.key)["data"])
    wait_for(lambda: live.api("GET", f"webhooks/{bad}", store.key)["state"] == "held")
    attempt = live.api("GET", f"attempts?event_id={sent}", store.key)["data"][0]
    requests.post(live.inspector(store), json={"order": {"number": "SO-1040"}}, timeout=20)
    recovered = live.api("POST", f"webhooks/{good}/recover", store.key, {"since": 0})
    return {
        "slug": store.slug, "webhook_id": good, "event_id": sent,
        "attempt_id": attempt["request_id"], "name": "order.created", "object_type": "order",
        "object_id": "1040", "recovery_id": recovered["recovery_id"],
        "shared.token": live.share(store, attempt["request_id"]),
        "invitations.token": live.invitation(store),
        "passwords.token": live.password_reset(store),
    }


def pages(app: Flask, parts: dict[str, str]) -> dict[str, str]:
    """Address by endpoint of every page: the whole table of access, no page left out.

    A part that means something else in each blueprint is named with it: `shared.token`.
    """
    found = {}
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            if rule.endpoint.split(".")[0] in NO_PAGES or "GET" not in (rule.methods or ()):
                continue
            assert rule.endpoint in ACCESS
            blueprint = rule.endpoint.partition(".")[0]
            named = {name: f"{blueprint}.{name}" for name in rule.arguments}
            values = {name: parts.get(long, parts.get(name)) for name, long in named.items()}
            assert None not in values.values(), f"{rule}: tests/browser/demo.py needs its parts"
            found[rule.endpoint] = app.url_for(rule.endpoint, _external=False, **values)
    return found
