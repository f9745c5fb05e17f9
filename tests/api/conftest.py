"""Two merchants, Alice's and Bob's, each with keys; nothing of one may reach the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.db.session import db
from portal.models import Delivery, Event, EventPayload, Merchant, OwnEventType, Webhook
from portal.people import accounts
from tests.api.caller import Caller

STORED = (Event, EventPayload, Delivery, Webhook, OwnEventType)


@pytest.fixture
def alice(app: Flask) -> Merchant:
    return accounts.create_merchant("alice", "Alice's store", "cli", active=True)


@pytest.fixture
def bob(app: Flask) -> Merchant:
    return accounts.create_merchant("bob", "Bob's store", "cli", active=True)


@pytest.fixture
def api(app: Flask, alice: Merchant) -> Caller:
    """Alice's store with a key that may write."""
    return Caller(app.test_client(), accounts.create_key(alice, "write", "", "cli"))


@pytest.fixture
def reader(app: Flask, alice: Merchant) -> Caller:
    """Alice's store with a key that may only read."""
    return Caller(app.test_client(), accounts.create_key(alice, "read", "", "cli"))


@pytest.fixture
def bobs(app: Flask, bob: Merchant) -> Caller:
    """Bob's store with a key that may write."""
    return Caller(app.test_client(), accounts.create_key(bob, "write", "", "cli"))


@pytest.fixture
def stranger(app: Flask) -> Caller:
    """Someone without a key."""
    return Caller(app.test_client(), None)


def stored() -> list[int]:
    """How many rows there are of everything that a caller can make."""
    db.session.rollback()
    return [
        db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0 for model in STORED
    ]


@pytest.fixture
def nothing_stored(app: Flask) -> Iterator[None]:
    """Fails the test when it leaves more rows than there were."""
    before = stored()
    yield
    assert stored() == before


def webhook_fields(**fields: Any) -> dict[str, Any]:
    """A webhook that the API takes."""
    return {"url": "https://erp.example.com/hook", "events": ["order.created"], **fields}


@pytest.fixture
def webhook(api: Caller) -> dict[str, Any]:
    """Alice's webhook for new orders, as the API answered."""
    answer = api.post("/webhooks", webhook_fields())
    assert answer.status_code == 201, answer.text
    return dict(answer.get_json())


@pytest.fixture
def event(api: Caller, alice: Merchant) -> dict[str, Any]:
    """A new order at Alice's."""
    answer = api.post("/events", ORDER)
    assert answer.status_code == 202, answer.text
    return dict(answer.get_json())


ORDER: dict[str, Any] = {
    "type": "order.created",
    "object_type": "order",
    "object_id": "1000",
    "source_user_type": "storefront",
    "source_user_id": "1000",
    "occurred_at": 1763930000,
    "correlation_id": "checkout-77",
    "data": {"total": "99.50"},
    "previous": {"total": "89.50"},
}
