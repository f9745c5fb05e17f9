"""Of two events of a record a receiver can tell the newer one by `sequence`."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from portal.clock import DAY, HOUR, SECOND, now
from portal.db.session import db
from portal.delivery import actions
from portal.events import ingest
from portal.models import Delivery, EventPayload, Merchant
from tests.api.caller import Caller
from tests.conftest import on_both_databases
from tests.factories import make_merchant, make_webhook

ORDER = {"type": "order.updated", "object_type": "order", "object_id": "1000"}
_OTHER_PROCESS = """
import sys
from portal import create_app
from portal.clock import now
from portal.config import load_config
from portal.events import ingest

ingest.now = lambda: now() - int(sys.argv[2])
with create_app(load_config()).app_context():
    events = [{"type": "order.updated", "object_id": "1000"}] * 3
    print(*(one.id for one in ingest.ingest_events(int(sys.argv[1]), events, batch=True)))
"""


def send(merchant_id: int, *events: Any) -> list[str]:
    accepted = ingest.ingest_events(merchant_id, list(events) or [ORDER], batch=bool(events))
    return [one.id for one in accepted]


def sequences(merchant_id: int, ids: list[str]) -> list[int]:
    db.session.rollback()
    heads = [db.session.get_one(EventPayload, (merchant_id, one)).head for one in ids]
    return [json.loads(head)["sequence"] for head in heads]


def rises(numbers: list[int]) -> bool:
    return all(one < other for one, other in pairwise(numbers))


@on_both_databases
def test_what_is_sent_later_has_the_greater_sequence(merchant: Merchant):
    ids = send(merchant.id) + send(merchant.id, *[ORDER] * 250) + send(merchant.id)
    assert rises(sequences(merchant.id, ids))


@pytest.mark.parametrize("back", [1, 90 * SECOND, HOUR, 23 * HOUR])
@on_both_databases
def test_a_clock_that_is_set_back_changes_no_order(
    merchant: Merchant, back: int, monkeypatch: pytest.MonkeyPatch
):
    make_webhook(merchant)
    ids = send(merchant.id, *[ORDER] * 5)
    monkeypatch.setattr(ingest, "now", lambda: now() - back)
    ids += send(merchant.id) + send(merchant.id, *[ORDER] * 5) + send(merchant.id)
    assert rises(sequences(merchant.id, ids))
    due = db.session.scalars(sa.select(Delivery.next_attempt_at).order_by(Delivery.created_at))
    assert max(due.all()[5:]) <= now() - back, "what comes now is sent now, by the clock as it is"


@on_both_databases
def test_a_clock_that_was_days_ahead_is_left_behind(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingest, "now", lambda: now() + 400 * DAY)
    send(merchant.id)
    monkeypatch.setattr(ingest, "now", now)
    ids = send(merchant.id) + send(merchant.id)
    numbers = sequences(merchant.id, ids)
    assert rises(numbers)
    assert numbers[-1] <= now(), "else all that came for a year would seem to come then"


@on_both_databases
def test_each_merchant_has_its_own_order(merchant: Merchant, monkeypatch: pytest.MonkeyPatch):
    send(merchant.id)
    other = make_merchant("bob")
    monkeypatch.setattr(ingest, "now", lambda: now() - HOUR)
    (number,) = sequences(other.id, send(other.id))
    assert number <= now() - HOUR


@pytest.mark.parametrize("behind", [0, 3 * HOUR])
@on_both_databases
def test_processes_share_the_order_whatever_their_clocks_say(
    merchant: Merchant, environment: dict[str, str], behind: int
):
    merchant_id = merchant.id
    first = send(merchant_id)
    other = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS, str(merchant_id), str(behind)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    ids = first + other.stdout.split() + send(merchant_id)
    assert len(ids) == 5
    assert rises(sequences(merchant_id, ids))


@on_both_databases
def test_the_api_says_the_same_number_and_so_does_a_repeat(api: Caller, alice: Merchant):
    event = ORDER | {"id": "mine-1"}
    for _ in range(2):
        assert api.post("/events", event).status_code == 202
    shown = api.get("/events/mine-1").json
    assert [shown["sequence"]] == sequences(alice.id, ["mine-1"])
    (listed,) = api.get("/events").json["data"]
    assert listed["sequence"] == shown["sequence"]


@pytest.mark.parametrize("back", [0, HOUR])
@on_both_databases
def test_a_test_has_its_place_in_the_order(
    merchant: Merchant, back: int, monkeypatch: pytest.MonkeyPatch
):
    webhook = make_webhook(merchant, url="http://127.0.0.1:1/")
    before = send(merchant.id, *[ORDER] * 5)
    for module in (ingest, actions):
        monkeypatch.setattr(module, "now", lambda: now() - back)
    tested = actions.send_test(webhook.merchant_id, webhook.id, "order.paid", "cli").event_id
    after = send(merchant.id)
    assert rises(sequences(merchant.id, [*before, tested, *after]))
