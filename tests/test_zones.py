"""Local time where clocks change: the moments that days, hours and minutes on a wall clock mean."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask.testing import FlaskClient

from portal import zones
from portal.clock import HOUR, MINUTE, SECOND
from portal.db.session import db
from portal.errors import Invalid
from portal.ids import request_id_at
from portal.logs import filters
from portal.models import AuditEntry, Merchant
from tests import factories
from tests.conftest import on_both_databases

SignIn = Callable[[str], FlaskClient]


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("zone", "day", "start", "end"),
    [
        ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00", "2026-10-25T23:00"),
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("Europe/Berlin", "2026-10-24", "2026-10-23T22:00", "2026-10-24T22:00"),
        ("America/New_York", "2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),
        ("America/New_York", "2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00"),
        # Half an hour.
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00", "2026-04-05T13:30"),
        ("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30", "2026-10-04T13:00"),
        # Forward from midnight: the day begins at one.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", "2018-11-05T02:00"),
        ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00", "2026-03-29T21:00"),
        # Back from midnight: the day before has its last hour twice.
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17T02:00", "2018-02-18T03:00"),
        ("America/Sao_Paulo", "2018-02-18", "2018-02-18T03:00", "2018-02-19T03:00"),
        ("Asia/Beirut", "2026-10-24", "2026-10-23T21:00", "2026-10-24T22:00"),
        # A day that the calendar skipped lies between its neighbours, and has no length.
        ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00", "2011-12-30T10:00"),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00", "2011-12-30T10:00"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00", "2011-12-31T10:00"),
        ("UTC", "2026-10-25", "2026-10-25T00:00", "2026-10-26T00:00"),
        ("+05:45", "2026-10-25", "2026-10-24T18:15", "2026-10-25T18:15"),
        ("UTC", "9999-12-31", "9999-12-31T00:00", None),
    ],
)
def test_a_day_ends_at_the_next_local_midnight(zone: str, day: str, start: str, end: str | None):
    last = utc("9999-12-31T00:00") + 24 * HOUR if end is None else utc(end)
    begun = datetime.fromisoformat(day).replace(tzinfo=zones.named(zone))
    assert zones.span(begun, timedelta(days=1)) == (utc(start), last)
    if last > utc(start):
        assert filters.clean(("since", "until"), {"since": day, "until": day}, zone) == {
            "since": utc(start),
            "before": last,
        }


@pytest.mark.parametrize(
    ("zone", "since", "until", "start", "end"),
    [
        # Half past two comes twice: the first time from, and the second time to.
        (
            "Europe/Berlin",
            "2026-10-25T02:30",
            "2026-10-25T02:30",
            "2026-10-25T00:30",
            "2026-10-25T01:31",
        ),
        (
            "Europe/Berlin",
            "2026-10-25T02:00:00",
            "2026-10-25T02:59:59",
            "2026-10-25T00:00",
            "2026-10-25T02:00",
        ),
        # What comes once is not made longer by what comes twice beside it.
        (
            "Europe/Berlin",
            "2026-10-25T01:59",
            "2026-10-25T01:59",
            "2026-10-24T23:59",
            "2026-10-25T00:00",
        ),
        (
            "Europe/Berlin",
            "2026-10-25T03:00",
            "2026-10-25T03:00",
            "2026-10-25T02:00",
            "2026-10-25T02:01",
        ),
        (
            "Australia/Lord_Howe",
            "2026-04-05T01:45",
            "2026-04-05T01:45",
            "2026-04-04T14:45",
            "2026-04-04T15:16",
        ),
        (
            "America/New_York",
            "2026-11-01T01:10",
            "2026-11-01T01:20",
            "2026-11-01T05:10",
            "2026-11-01T06:21",
        ),
        # The hour that is skipped is one moment, whichever of its minutes is named.
        (
            "Europe/Berlin",
            "2026-03-29T02:30",
            "2026-03-29T03:00",
            "2026-03-29T01:00",
            "2026-03-29T01:01",
        ),
        (
            "Europe/Berlin",
            "2026-03-29T01:59",
            "2026-03-29T02:10",
            "2026-03-29T00:59",
            "2026-03-29T01:00",
        ),
        (
            "Australia/Lord_Howe",
            "2026-10-04T02:15",
            "2026-10-04T02:30",
            "2026-10-03T15:30",
            "2026-10-03T15:31",
        ),
        (
            "America/Sao_Paulo",
            "2018-11-04T00:20",
            "2018-11-04T01:00",
            "2018-11-04T03:00",
            "2018-11-04T03:01",
        ),
        (
            "Pacific/Apia",
            "2011-12-30T12:00",
            "2011-12-31T00:00",
            "2011-12-30T10:00",
            "2011-12-30T10:01",
        ),
        # With an offset nothing is doubled.
        (
            "Europe/Berlin",
            "2026-10-25T02:30+02:00",
            "2026-10-25T02:30+02:00",
            "2026-10-25T00:30",
            "2026-10-25T00:31",
        ),
        (
            "Europe/Berlin",
            "2026-10-25T02:30Z",
            "2026-10-25T02:30Z",
            "2026-10-25T02:30",
            "2026-10-25T02:31",
        ),
    ],
)
def test_an_hour_that_comes_twice_or_never(zone: str, since: str, until: str, start: str, end: str):
    assert filters.clean(("since", "until"), {"since": since, "until": until}, zone) == {
        "since": utc(start),
        "before": utc(end),
    }


@pytest.mark.parametrize(
    ("since", "until"),
    [("2026-03-29T02:10", "2026-03-29T02:50"), ("2026-03-29T02:50", "2026-03-29T02:10")],
)
def test_a_period_inside_a_skipped_hour_is_refused_for_what_it_is(since: str, until: str):
    with pytest.raises(Invalid) as caught:
        filters.clean(("since", "until"), {"since": since, "until": until}, "Europe/Berlin")
    assert caught.value.by_field() == {
        "until": ["From and To are the same moment; give a later one in To."]
    }


def test_every_moment_of_a_year_is_in_one_day_of_each_zone():
    for name in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"):
        place = zones.named(name)
        day = datetime(2026, 1, 1, tzinfo=place)
        end = None
        while day.year == 2026:
            start, following = zones.span(day, timedelta(days=1))
            assert end is None or start == end, (name, day)
            end, day = following, day + timedelta(days=1)


@on_both_databases
@pytest.mark.parametrize(
    ("day", "first", "last"),
    [
        ("2026-10-25", "2026-10-24T22:00", "2026-10-25T22:59"),
        ("2026-03-29", "2026-03-28T23:00", "2026-03-29T21:59"),
    ],
)
def test_pages_and_files_show_the_whole_local_day_and_nothing_else(
    signed_in: SignIn, merchant: Merchant, day: str, first: str, last: str
):
    member = signed_in("editor")
    db.session.rollback()
    staff = signed_in("auditor")
    db.session.rollback()
    moments = {
        "before": utc(first) - 1,
        "first": utc(first),
        "last": utc(last) + MINUTE - 1,
        "after": utc(last) + MINUTE,
    }
    webhook = factories.make_webhook(merchant)
    for name, moment in moments.items():
        event = factories.make_event(
            merchant, object_id=f"it-{name}", received_at=moment, occurred_at=moment
        )
        delivery = factories.make_delivery(event, webhook)
        factories.make_attempt(
            delivery,
            500,
            id=request_id_at(moment),
            attempted_at=moment,
            uri=f"https://erp.example.com/it-{name}",
        )
        db.session.add(
            AuditEntry(
                actor="cli", action="merchant.created", target=f"it-{name}", at=moment, detail={}
            )
        )
    db.session.commit()
    asked = f"since={day}&until={day}&zone=Europe/Berlin"
    shown = {
        "page": member.get(f"/m/alice/events?{asked}").text,
        "file": member.get(f"/m/alice/export/events.csv?{asked}").text,
        "lines": member.get(f"/m/alice/export/events.jsonl?{asked}").text,
        "attempts": member.get(f"/m/alice/export/attempts.csv?{asked}").text,
    }
    shown["audit"] = staff.get(f"/staff/audit?{asked}").text
    shown["audit file"] = staff.get(f"/staff/export/audit.csv?{asked}").text
    for where, text in shown.items():
        assert [name for name in moments if f"it-{name}" in text] == ["first", "last"], where


@time_machine.travel("2026-10-26T12:00:00Z")
def test_a_recovery_takes_the_whole_local_day(signed_in: SignIn, merchant: Merchant):
    webhook = factories.make_webhook(merchant)
    for moment in (utc("2026-10-24T22:00"), utc("2026-10-25T22:30"), utc("2026-10-25T23:00")):
        event = factories.make_event(merchant, received_at=moment)
        factories.make_delivery(event, webhook, "failed", finished_at=moment)
    page = (
        signed_in("editor")
        .get("/m/alice/recover?state=failed&since=2026-10-25&until=2026-10-25&zone=Europe/Berlin")
        .text
    )
    assert "2 failed deliveries" in page


@pytest.mark.parametrize(
    ("since", "until"), [("2011-12-30", "2011-12-30"), ("2011-12-31", "2011-12-30")]
)
def test_a_day_that_the_calendar_skipped_is_named(since: str, until: str):
    with pytest.raises(Invalid) as caught:
        filters.clean(("since", "until"), {"since": since, "until": until}, "Pacific/Apia")
    assert caught.value.by_field() == {
        "until": ["The clocks of Pacific/Apia skipped the day 2011-12-30; give another one in To."]
    }


@pytest.mark.parametrize("name", ["localtime", "Factory"])
def test_a_name_for_what_the_server_is_set_to_is_no_zone(name: str):
    with pytest.raises(ValueError, match="Give a time zone"):
        zones.named(name)
