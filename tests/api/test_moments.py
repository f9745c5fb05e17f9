"""Every place that takes a moment takes the same ones, and stores them exactly."""

from __future__ import annotations

import json

import pytest

from portal.clock import SECOND
from portal.db.session import db
from portal.logs import filters
from portal.models import Event, EventPayload, Merchant
from tests.api.caller import Caller
from tests.conftest import on_both_databases
from tests.factories import make_webhook

NEW_YEAR_2017 = 1_483_228_800


@pytest.mark.parametrize(
    "written",
    [
        "2016-12-31T23:59:60Z",
        "2016-12-31t23:59:60z",
        "2017-01-01t00:00:00z",
        "2016-12-31T23:59:60+00:00",
        "2017-01-01t01:00:00+01:00",
        NEW_YEAR_2017,
    ],
)
@on_both_databases
def test_events_filters_and_recoveries_take_the_same_moments(
    api: Caller, alice: Merchant, written: str | int
):
    webhook = make_webhook(alice)
    sent = api.post("/events", {"type": "order.created", "occurred_at": written})
    assert sent.status_code == 202, sent.text
    event = db.session.get_one(Event, (alice.id, sent.json["id"]))
    assert event.occurred_at == NEW_YEAR_2017 * SECOND
    assert len(api.get("/events", since=written).json["data"]) == 1
    assert api.get("/events", until=written).json["data"] == []
    recovered = api.post(f"/webhooks/{webhook.id}/recover", {"since": written})
    assert recovered.status_code == 202, recovered.text
    page = filters.clean(("since", "until"), {"since": str(written), "until": str(written)})
    assert page == {"since": event.occurred_at, "before": event.occurred_at + SECOND}


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("1763930000.123456", 123_456),
        ("1763930000.000001", 1),
        ("1763930000.999999", 999_999),
        ("1763930000.1234567890123", 123_456),
        ("1.763930000123456e9", 123_456),
        ('"2025-11-23T20:33:20.123456789Z"', 123_456),
        ('"2025-11-23t20:33:20.000001z"', 1),
    ],
)
def test_no_microsecond_is_lost(api: Caller, alice: Merchant, written: str, stored: int):
    body = f'{{"type":"order.created","occurred_at":{written}}}'.encode()
    sent = api.post("/events", body)
    assert sent.status_code == 202, sent.text
    event = db.session.get_one(Event, (alice.id, sent.json["id"]))
    assert event.occurred_at == 1_763_930_000 * SECOND + stored
    head = json.loads(db.session.get_one(EventPayload, (alice.id, event.id)).head)
    assert head["timestamp"] == f"2025-11-23T20:33:20.{stored:06}Z"
    assert head["created"] == 1_763_930_000


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("1763930000000", "milliseconds"),
        ("1763930000000000", "microseconds"),
        ("1763930000000000000", "nanoseconds"),
        ("999999999999", "milliseconds"),
        ("1e300", None),
        ("-1e300", None),
        ("-1763930000000", None),
        ("99999999999", None),
        ('"9999-12-31T23:59:59Z"', None),
        ('"1969-12-31T23:59:59Z"', None),
    ],
)
def test_a_moment_that_cannot_be_is_told_its_unit_where_that_explains_it(
    api: Caller, alice: Merchant, written: str, unit: str | None
):
    body = f'{{"type":"order.created","occurred_at":{written}}}'.encode()
    answer = api.post("/events", body)
    hint = f" It looks like {unit}; send seconds." if unit else ""
    assert answer.status_code == 422, answer.text
    assert [error["detail"] for error in answer.json["errors"]] == [
        f"occurred_at is before 1970 or more than a day ahead.{hint}"
    ]
