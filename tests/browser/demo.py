"""Realistic data of a store, made by the API: webhooks in each state, events, failures; and who
looks at its pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import requests
from flask import Flask
from playwright.sync_api import Page

from portal.web.access import ACCESS
from tests.browser.conftest import give_password, sign_in
from tests.browser.live import LivePortal, Store, wait_for
from tests.receiver import Receiver

FOR_STRANGERS = (
    "auth.sign_in",
    "shared.show",
    "invitations.show",
    "passwords.forgot",
    "passwords.choose",
)
BROKEN: dict[str, int | tuple[int, dict[str, str], bytes]] = {
    "/crm/members": (
        503,
        {"Content-Type": "application/json"},
        b'{"error": "maintenance until 14:00"}',
    ),
    "/chat": (404, {"Content-Type": "application/json"}, b'{"error": "channel_not_found"}'),
}
"""What the targets in trouble answer."""
STORY: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("order.created", "storefront", {}),
    ("order.paid", "storefront", {"status": "paid"}),
    ("order.updated", "admin", {"note": "Leave it with the neighbours", "shipping": "4.90"}),
    ("order.fulfilled", "admin", {"status": "fulfilled"}),
)
"""What happens to one order: the type, by whom, and what changes."""
HOUR_SECONDS = 3_600
NO_PAGES = ("api", "health", "static", "exports", "tail", "inspected")


def fill(live: LivePortal, store: Store, receiver: Receiver) -> dict[str, str]:
    """Four webhooks (working, failing, held, disabled), two dozen events, the story of an order,
    and their attempts.

    Gives the parts of the addresses of pages.
    """

    def webhook(description: str, path: str, events: list[str], **fields: Any) -> str:
        return live.make_webhook(
            store, receiver.url(path), description=description, events=events, **fields
        )

    webhook(
        "Orders to the ERP",
        "/erp/orders",
        ["order.*", "refund.*"],
        headers={"X-Store": "north", "X-Order": "{{ event.object_id }}"},
        query_params={"tenant": "4711"},
        except_sources=["erp"],
    )
    receiver.broken = BROKEN
    held = webhook("New customers to the mailing list", "/crm/members", ["customer.*"])
    off = webhook("Stock to the marketplace", "/market/stock", ["inventory.*", "product.*"])
    failing = webhook("New orders to the chat", "/chat", ["order.created"], retry_schedule=[0])
    live.api("POST", f"webhooks/{off}/disable", store.key)
    examples = {
        one["name"]: one["example"]
        for one in live.api("GET", "event-types", store.key)["data"]
        if one["name"].startswith(("order.", "customer.", "refund.", "inventory."))
    }
    for number, (name, example) in enumerate(examples.items()):
        if name != "order.created":
            _send(live, store, name, str(1043 + number), example)
    wait_for(lambda: live.api("GET", f"webhooks/{held}", store.key)["state"] == "held")
    order, sent = examples["order.created"], []
    for name, by, change in STORY:
        sent.append(
            _send(
                live,
                store,
                name,
                "1042",
                order | change,
                by,
                {field: order.get(field) for field in change},
            )
        )
        order |= change
    wait_for(lambda: len(_attempts(live, store, sent[0])) == 2)
    wait_for(lambda: all(_attempts(live, store, one) for one in sent))
    attempt = next(one for one in _attempts(live, store, sent[0]) if one["webhook_id"] == failing)
    requests.post(live.inspector(store), json={"order": {"number": "SO-1042"}}, timeout=20)
    recovered = live.api(
        "POST",
        f"webhooks/{failing}/recover",
        store.key,
        {"since": attempt["attempted_at"] - HOUR_SECONDS},
    )
    live.member(store, "Kim Editor", "editor")
    live.member(store, "Sam Viewer", "viewer", with_code=True)
    return {
        "slug": store.slug,
        "webhook_id": attempt["webhook_id"],
        "event_id": sent[0],
        "attempt_id": attempt["request_id"],
        "name": "order.created",
        "object_type": "order",
        "object_id": "1042",
        "recovery_id": recovered["recovery_id"],
        "shared.token": live.share(store, attempt["request_id"]),
        "invitations.token": live.invitation(store),
        "passwords.token": live.password_reset(store),
    }


def _send(
    live: LivePortal,
    store: Store,
    name: str,
    object_id: str,
    data: Any,
    by: str = "storefront",
    previous: Any = None,
) -> str:
    answer = live.api(
        "POST",
        "events",
        store.key,
        {
            "type": name,
            "object_id": object_id,
            "source_user_type": by,
            "source_user_id": str(500 + int(object_id) % 7),
            "data": data,
            "correlation_id": f"checkout-{int(object_id) // 3}",
        }
        | ({"previous": previous} if previous else {}),
    )
    return str(answer["id"])


def _attempts(live: LivePortal, store: Store, event_id: str) -> Any:
    return live.api("GET", f"attempts?event_id={event_id}", store.key)["data"]


def pages(app: Flask, parts: dict[str, str]) -> dict[str, str]:
    """Address by endpoint of every page: the whole table of access, no page left out.

    A part that means something else in each blueprint is named with it: `shared.token`.
    """
    found = {}
    with app.test_request_context():
        # Of two addresses of a page, the one that says more comes last.
        for rule in sorted(app.url_map.iter_rules(), key=lambda rule: len(rule.arguments)):
            if rule.endpoint.split(".")[0] in NO_PAGES or "GET" not in (rule.methods or ()):
                continue
            assert rule.endpoint in ACCESS
            blueprint = rule.endpoint.partition(".")[0]
            named = {name: f"{blueprint}.{name}" for name in rule.arguments}
            values = {name: parts.get(long, parts.get(name)) for name, long in named.items()}
            assert None not in values.values(), f"{rule}: tests/browser/demo.py needs its parts"
            found[rule.endpoint] = app.url_for(rule.endpoint, _external=False, **values)
    return found


class Readers:
    """Who looks at the pages of a store, each in a browser of their own: `new_page` opens one."""

    def __init__(self, live: LivePortal, slug: str, new_page: Callable[[], Page]) -> None:
        self._operator, self._owner, self._halfway = new_page(), new_page(), new_page()
        self._stranger = new_page()
        sign_in(self._operator, *live.operator)
        sign_in(self._owner, f"owner@{slug}.example")
        give_password(self._halfway, f"sam@{slug}.example")

    def of(self, endpoint: str) -> Page:
        """Where the page of an endpoint is looked at by whom it is for."""
        if endpoint.startswith("staff."):
            return self._operator
        if endpoint == "auth.second_step":
            return self._halfway
        return self._stranger if endpoint in FOR_STRANGERS else self._owner

    def __iter__(self) -> Iterator[Page]:
        return iter((self._operator, self._owner, self._halfway, self._stranger))
