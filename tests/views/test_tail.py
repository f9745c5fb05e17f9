"""Live tails: rows as they come, by the page's filters, a merchant's own alone, in few threads."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal import clock
from portal.db import keyset
from portal.db.session import db
from portal.logs import browse
from portal.models import Merchant
from portal.views import tail
from tests import factories
from tests.conftest import on_both_databases

SignIn = Callable[[str], FlaskClient]
EVENTS, ATTEMPTS = "/m/alice/live/events", "/m/alice/live/attempts"
STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def settings() -> dict[str, str]:
    return {"WEB_THREADS": "16"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "LOOK_SECONDS", 0.01)


class Reader:
    """Reads a stream message by message, as a browser would."""

    def __init__(self, client: FlaskClient, address: str):
        self.answer = client.get(address, headers=STREAM, buffered=False)
        assert self.answer.mimetype == "text/event-stream"
        # The test has looked at the database before the sign-in changed it.
        db.session.rollback()
        self._messages: Iterator[bytes] = iter(self.answer.response)  # type: ignore[assignment]

    def next(self) -> str:
        """The next message's text; empty where nothing is new."""
        db.session.rollback()
        text = next(self._messages).decode()
        assert text.endswith("\n\n")
        lines = text.strip("\n").split("\n")
        assert all(line == ":" or line.startswith("data: ") for line in lines)
        return "\n".join(line.removeprefix("data: ") for line in lines if line != ":")

    def close(self) -> None:
        self.answer.close()


def objects(html: str) -> list[str]:
    return re.findall(r">order (\w+)<", html)


@on_both_databases
def test_rows_come_once_each_and_again_when_they_change(signed_in: SignIn, merchant: Merchant):
    webhook = factories.make_webhook(merchant)
    delivery = factories.make_delivery(factories.make_event(merchant, object_id="1"), webhook)
    event = factories.make_event(merchant, object_id="2", deliveries=1)
    delivery = factories.make_delivery(event, webhook)
    reader = Reader(signed_in("viewer"), EVENTS)
    assert objects(reader.next()) == ["2", "1"]
    assert reader.next() == ""
    factories.make_event(merchant, object_id="3")
    assert objects(reader.next()) == ["3"]
    delivery.state = "succeeded"
    db.session.commit()
    changed = reader.next()
    assert objects(changed) == ["2"]
    assert "succeeded" in changed
    assert reader.next() == ""
    reader.close()


@on_both_databases
def test_attempts_come_too(signed_in: SignIn, merchant: Merchant):
    webhook = factories.make_webhook(merchant)
    reader = Reader(signed_in("viewer"), f"{ATTEMPTS}?status=5xx")
    assert reader.next() == ""
    for status in (200, 503):
        factories.make_attempt(
            factories.make_delivery(factories.make_event(merchant), webhook), status
        )
    rows = reader.next()
    assert rows.count("<tr") == 1
    assert "503" in rows
    assert reader.next() == ""
    reader.close()


@on_both_databases
@pytest.mark.parametrize("log", ["events", "attempts"])
def test_what_lies_below_the_pages_last_row_is_no_news(
    signed_in: SignIn, merchant: Merchant, log: str
):
    webhook = factories.make_webhook(merchant)
    moment = clock.now()
    for number in range(60):
        event = factories.make_event(merchant, object_id=f"o{number}", received_at=moment)
        factories.make_attempt(factories.make_delivery(event, webhook), 200)
    client = signed_in("viewer")
    page = client.get(f"/m/alice/{log}?live=1").text
    shown = re.findall(r'<tr id="(row-[^"]+)"', page)
    found = re.search(r'data-tail="([^"]+)"', page)
    assert found
    reader = Reader(client, html.unescape(found[1]))
    assert re.findall(r'<tr id="(row-[^"]+)"', reader.next()) == shown
    newest = factories.make_event(merchant, object_id="new")
    factories.make_attempt(factories.make_delivery(newest, webhook), 200)
    assert reader.next().count("<tr ") == 1
    reader.close()
    assert client.get(f"/m/alice/live/{log}?floor=other", headers=STREAM).status_code == 400


def test_another_merchants_rows_never_come(signed_in: SignIn, merchant: Merchant):
    bob = factories.make_merchant("bob")
    client = signed_in("owner")
    readers = [Reader(client, address) for address in (EVENTS, ATTEMPTS)]
    for number in range(3):
        theirs = factories.make_event(bob, object_id=f"b{number}")
        factories.make_attempt(factories.make_delivery(theirs, factories.make_webhook(bob)))
        assert [reader.next() for reader in readers] == ["", ""]
    factories.make_event(merchant, object_id="mine")
    assert objects(readers[0].next()) == ["mine"]
    for reader in readers:
        reader.close()
    for log in ("events", "attempts"):
        assert client.get(f"/m/bob/live/{log}", headers=STREAM).status_code == 404
        assert client.get(f"/staff/live/{log}", headers=STREAM).status_code == 403


def test_staff_see_all_merchants_and_narrow_to_one(signed_in: SignIn, merchant: Merchant):
    factories.make_event(merchant, object_id="a1")
    factories.make_event(factories.make_merchant("bob"), object_id="b1")
    client = signed_in("auditor")
    assert sorted(objects(client.get("/staff/live/events").text)) == ["a1", "b1"]
    assert objects(client.get("/staff/live/events?merchant=bob").text) == ["b1"]
    reader = Reader(client, "/staff/live/events")
    assert "bob" in reader.next()
    reader.close()


def test_it_keeps_to_the_filters_of_the_page(signed_in: SignIn, merchant: Merchant):
    for kind in ("order.created", "cart.created"):
        factories.make_event(merchant, type=kind, object_id=kind[:4])
    client = signed_in("viewer")
    page = client.get("/m/alice/events?type=order.*&live=1").text
    found = re.search(r'data-tail="([^"]+)"', page)
    assert found
    assert found[1] == f"{EVENTS}?type=order.*"
    assert "orde" in client.get(found[1]).text
    assert "cart" not in client.get(found[1]).text
    assert client.get(f"{EVENTS}?since=yesterday", headers=STREAM).status_code == 422


def test_live_stays_on_whatever_is_clicked_and_is_off_at_first(
    signed_in: SignIn, merchant: Merchant
):
    factories.make_event(merchant)
    client = signed_in("viewer")
    page = client.get("/m/alice/events?type=order.*").text
    assert "data-tail=" not in page
    assert 'id="live"' in page
    assert '/m/alice/events?type=order.*&amp;live=1" role="button" aria-pressed="false"' in page
    page = client.get("/m/alice/events?type=order.*&live=1").text
    assert 'id="live"' not in page
    assert '/m/alice/events?type=order.*" role="button" aria-pressed="true"' in page
    assert '<input type="hidden" name="live" value="1">' in page
    assert "/m/alice/events?since=24h&amp;live=1" not in page
    assert "/m/alice/events?type=order.*&amp;since=24h&amp;live=1" in page
    # An empty log waits for its first row.
    assert "data-tail=" in client.get("/m/alice/attempts?live=1").text


def test_what_a_stranger_wrote_is_text_and_no_message_of_its_own(
    signed_in: SignIn, merchant: Merchant
):
    evil = "<script>alert(1)</script>\n\ndata: evil\r\revent: evil"
    factories.make_event(merchant, object_id=evil)
    reader = Reader(signed_in("viewer"), EVENTS)
    text = reader.next()
    assert "<script" not in text
    assert "\r" not in text
    assert reader.next() == ""
    reader.close()


def test_some_threads_stream_for_one_merchant_and_the_rest_ask_again(
    app: Flask, signed_in: SignIn, merchant: Merchant
):
    factories.make_event(merchant, object_id="1")
    client = signed_in("viewer")
    places = app.config["PORTAL"].web_threads // 8
    readers = [Reader(client, EVENTS) for _ in range(places)]
    refused = client.get(EVENTS, headers=STREAM)
    assert (refused.status_code, refused.data) == (204, b"")
    assert objects(client.get(EVENTS, headers={"Accept": "text/html"}).text) == ["1"]
    # Downloads have places of their own.
    assert client.get("/m/alice/export/events.csv").status_code == 200
    readers.pop().close()
    Reader(client, EVENTS).close()
    for reader in readers:
        reader.close()


def test_a_tail_ends_by_itself(
    signed_in: SignIn, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tail, "LASTS_SECONDS", 0.1)
    client = signed_in("viewer")
    for _ in range(5):
        # Each gives its place back, so the next one gets it.
        answer = client.get(EVENTS, headers=STREAM)
        assert answer.mimetype == "text/event-stream"
        assert set(answer.text) == {":", "\n"}


@on_both_databases
def test_a_look_reads_the_last_minutes_alone_and_no_more_than_a_page(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    webhook = factories.make_webhook(merchant)
    for minutes in (10, 2, 1):
        moment = factories.now() - minutes * 60_000_000
        event = factories.make_event(merchant, object_id=str(minutes), received_at=moment)
        factories.make_attempt(
            factories.make_delivery(event, webhook),
            id=f"req_{moment // 1000:012x}{'0' * 20}",
            attempted_at=moment,
        )
    assert [event.object_id for event in browse.EVENTS.live(merchant.id, {})] == ["1", "2"]
    assert len(browse.ATTEMPTS.live(merchant.id, {})) == 2
    monkeypatch.setattr(browse, "LIVE_ROWS", 1)
    assert [event.object_id for event in browse.EVENTS.live(merchant.id, {})] == ["1"]
    # What no index finds is looked for among so many rows.
    monkeypatch.setattr(keyset, "LOOKED_THROUGH", 0)
    assert [one.object_id for one in browse.EVENTS.live(merchant.id, {"test": "no"})] == ["1"]
