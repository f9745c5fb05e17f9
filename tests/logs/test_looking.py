"""What no index can find is looked for in so many rows a page, and the page says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from portal.clock import SECOND, now
from portal.db import keyset
from portal.logs import browse
from portal.models import Merchant
from tests import factories
from tests.conftest import on_both_databases

START = now() - 10_000 * SECOND


@pytest.fixture
def needles(merchant: Merchant, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A log of 40 events, of which the oldest and the eleventh are by `erp`."""
    monkeypatch.setattr(keyset, "LOOKED_THROUGH", 8)
    ids = [
        factories.make_event(
            merchant,
            received_at=START + n * SECOND,
            source_user_type="erp" if n in (0, 10) else "storefront",
        ).id
        for n in range(40)
    ]
    return [ids[10], ids[0]]


@on_both_databases
def test_page_after_page_finds_all(merchant: Merchant, needles: list[str]):
    found: list[str] = []
    cursor = None
    pages = 0
    while pages == 0 or cursor:
        page = browse.EVENTS.page(merchant.id, {"source_user_type": "erp"}, cursor)
        found += [event.id for event in page.rows]
        assert (page.looked_back_to is None) == (page.next_cursor is None)
        cursor = page.next_cursor
        pages += 1
    assert found == needles
    assert pages == 5


@on_both_databases
def test_the_way_back_finds_the_same(merchant: Merchant, needles: list[str]):
    given = {"source_user_type": "erp"}
    page = browse.EVENTS.page(merchant.id, given)
    while page.next_cursor:
        page = browse.EVENTS.page(merchant.id, given, page.next_cursor)
    back: list[str] = [event.id for event in page.rows]
    while page.previous_cursor:
        page = browse.EVENTS.page(merchant.id, given, page.previous_cursor)
        back += [event.id for event in page.rows]
    assert back == needles[::-1]


def test_an_index_needs_no_looking(merchant: Merchant, needles: list[str]):
    for given in ({"type": "order.created"}, {"object_id": "1000", "object_type": "order"}):
        page = browse.EVENTS.page(merchant.id, given)
        assert len(page.rows) == 40
        assert page.looked_back_to is None
    (found,) = browse.EVENTS.page(merchant.id, {"event_id": needles[1]}).rows
    assert found.id == needles[1]


@on_both_databases
def test_attempts_are_looked_for_in_the_same_way(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keyset, "LOOKED_THROUGH", 8)
    delivery = factories.make_delivery(
        factories.make_event(merchant), factories.make_webhook(merchant)
    )
    attempts = [
        factories.make_attempt(delivery, method="GET" if n == 0 else "POST") for n in range(12)
    ]
    page = browse.ATTEMPTS.page(merchant.id, {"method": "GET"})
    assert page.rows == []
    assert page.looked_back_to
    assert abs(page.looked_back_to - now()) < 60 * SECOND
    page = browse.ATTEMPTS.page(merchant.id, {"method": "GET"}, page.next_cursor)
    assert page.rows == [attempts[0]]


@on_both_databases
def test_deliveries_found_by_their_events_are_looked_through_in_smaller_steps(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    """PostgreSQL takes seconds for 50,000 of them."""
    monkeypatch.setattr(keyset, "LOOKED_THROUGH", 4 * browse.JOINED_COST)
    webhook = factories.make_webhook(merchant)
    owed = [
        factories.make_delivery(
            factories.make_event(merchant, received_at=now() - (12 - n) * SECOND),
            webhook,
            "failed" if n == 0 else "succeeded",
            created_at=now() - (12 - n) * SECOND,
        )
        for n in range(12)
    ]
    pages, cursor = 0, None
    while True:
        page = browse.deliveries(merchant.id, {"state": "failed"}, cursor)
        pages += 1
        if not page.next_cursor:
            break
        cursor = page.next_cursor
    assert [row.id for row, _ in page.rows] == [owed[0].id]
    assert pages == 3


def test_the_page_says_how_far_it_looked(
    signed_in: Callable[[str], FlaskClient], merchant: Merchant, needles: list[str]
):
    page = signed_in("viewer").get("/m/alice/events?source_user_type=erp").text
    assert "Looked back to" in page
    assert "found nothing so far" in page
    assert "Look further back" in page
    assert "No event like that" not in page
