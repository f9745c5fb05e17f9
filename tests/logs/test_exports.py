"""The logs as files: complete, inert in a spreadsheet, and in bounded memory."""

from __future__ import annotations

import codecs
import csv
import io
import json
import time
import tracemalloc
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.clock import now
from portal.db import keyset
from portal.db.session import db, table
from portal.logs import browse
from portal.models import Event, Merchant
from portal.views import exports
from tests import factories
from tests.conftest import on_both_databases

SignIn = Callable[[str], FlaskClient]
EVENTS = "/m/alice/export/events"


def as_rows(text: str) -> list[dict[str, str]]:
    """A table as spreadsheets read it, who need its byte order mark."""
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def many(merchant: Merchant, count: int) -> None:
    start = now()
    rows = [
        {
            "merchant_id": merchant.id,
            "id": f"evt_{n:08}",
            "type": "order.created",
            "object_type": "order",
            "object_id": str(n),
            "occurred_at": start + n,
            "received_at": start + n,
            "deliveries": 0,
            "is_test": False,
        }
        for n in range(count)
    ]
    db.session.execute(sa.insert(table(Event)), rows)
    db.session.commit()


@on_both_databases
def test_every_row_is_in_the_file_once_and_in_order(
    signed_in: SignIn, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keyset, "BATCH", 7)
    many(merchant, 50)
    client = signed_in("viewer")
    lines = client.get(f"{EVENTS}.jsonl").text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"evt_{n:08}" for n in range(50)][::-1]
    rows = as_rows(client.get(f"{EVENTS}.csv").text)
    assert [row["object_id"] for row in rows] == [str(n) for n in range(50)][::-1]


@on_both_databases
def test_an_export_holds_what_the_filters_show(signed_in: SignIn, merchant: Merchant):
    webhook = factories.make_webhook(merchant)
    for status in (200, 500):
        event = factories.make_event(merchant)
        factories.make_attempt(factories.make_delivery(event, webhook), status)
    client = signed_in("viewer")
    (row,) = as_rows(client.get("/m/alice/export/attempts.csv?status=5xx").text)
    assert (row["status"], row["connect_ms"], row["merchant"]) == ("500", "5", "alice")
    assert row["time"].endswith("Z")
    page = client.get("/m/alice/attempts?status=5xx").text
    assert "/m/alice/export/attempts.csv?status=5xx" in page


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r1", '=HYPERLINK("x")'])
def test_a_cell_is_never_a_formula(evil: str):
    (row,) = as_rows("".join(exports.csv_text(["a", "b"], [[{"a": evil, "b": "fine-1"}]])))
    assert row == {"a": f"'{evil}", "b": "fine-1"}


@pytest.mark.parametrize(
    "evil",
    [
        " =1",
        "\xa0@SUM(A1)",
        "\u3000+1",
        "\uff1d1",
        " \uff20a",
        "\ufeff=1+1",
        "\u200b@SUM(A1)",
        "\u202e-1",
        "\x1f+1",
        "\xad\u2060 =1",
        "\U000e0020=1",
    ],
)
def test_what_spreadsheets_take_for_a_formula_too_is_none(evil: str):
    (row,) = as_rows("".join(exports.csv_text(["a", "b"], [[{"a": evil, "b": "fine =1"}]])))
    assert row == {"a": f"'{evil}", "b": "fine =1"}


@pytest.mark.parametrize(
    "evil",
    [
        "a; =1",
        "a;\uff1d1",
        "a;=1+1",
        "a;@SUM(A1)",
        "a\n=1",
        "a\r\n-1",
        'a;"=1',
        'a";=1',
        "\r=1",
        ";;=1",
        "x;=;=1",
        "a;\ufeff=1",
        "a\n\u200b \u202e@SUM(A1)",
    ],
)
def test_no_cell_is_a_formula_where_the_semicolon_parts_them(evil: str):
    # As Excel reads it where the comma is the decimal sign.
    text = "".join(exports.csv_text(["a", "b"], [[{"a": "fine", "b": evil}]]))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        rows = csv.reader(io.StringIO(text), delimiter=";", quoting=quoting)
        for cell in [cell for row in rows for cell in row]:
            assert not cell.lstrip('"').startswith(("=", "+", "-", "@")), cell
            shown = cell.lstrip('" \ufeff\u200b\u202e')
            assert not shown.startswith(("=", "\uff1d", "@")), cell


@pytest.mark.parametrize("count", [24, 100_000])
def test_no_cell_takes_long_to_look_through(count: int):
    cell = ";" + "\x1c" * count + "x"
    started = time.thread_time()
    (row,) = as_rows("".join(exports.csv_text(["a"], [[{"a": cell}]])))
    assert time.thread_time() - started < 0.5
    assert row == {"a": cell}


def test_what_a_stranger_wrote_stays_in_its_cell(signed_in: SignIn, merchant: Merchant):
    factories.make_event(merchant, object_id='a","b\n=1', correlation_id="=cmd|' /C calc'!A0")
    (row,) = as_rows(signed_in("viewer").get(f"{EVENTS}.csv").text)
    assert row["object_id"] == 'a","b\n\'=1'
    assert row["correlation_id"] == "'=cmd|' /C calc'!A0"


def test_a_file_is_named_and_never_shown_as_a_page(signed_in: SignIn, merchant: Merchant):
    factories.make_event(merchant)
    answer = signed_in("viewer").get(f"{EVENTS}.csv")
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="alice-events-')
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def test_wrong_filters_and_formats_are_refused_before_the_file_begins(signed_in: SignIn):
    client = signed_in("viewer")
    answer = client.get(f"{EVENTS}.csv?since=yesterday")
    assert answer.status_code == 422
    assert "From is no moment" in answer.text
    assert client.get(f"{EVENTS}.xlsx").status_code == 404


def test_staff_export_all_merchants_and_members_their_own(signed_in: SignIn, merchant: Merchant):
    factories.make_event(merchant)
    factories.make_event(factories.make_merchant("bob"))
    member = signed_in("owner")
    assert member.get("/staff/export/events.csv").status_code == 403
    assert member.get("/m/bob/export/events.csv").status_code == 404
    db.session.rollback()
    rows = as_rows(signed_in("auditor").get("/staff/export/events.csv").text)
    assert {row["merchant"] for row in rows} == {"alice", "bob"}


EVENT_NAMES = (
    "time,merchant,id,type,sequence,object_type,object_id,source_user_type,source_user_id,"
    "correlation_id,occurred_at,received_at,deliveries,schema_error,is_test"
)
ATTEMPT_NAMES = (
    "time,merchant,request_id,attempted_at,event_id,webhook_id,delivery_id,number,trigger,status,"
    "error,error_detail,duration_ms,dns_ms,connect_ms,tls_ms,send_ms,wait_ms,download_ms,uri,method,"
    "sends"
)
AUDIT_NAMES = "number,time,who,what,merchant,on,from,detail,hash"


@on_both_databases
@pytest.mark.parametrize(
    ("address", "names"),
    [
        (f"{EVENTS}", EVENT_NAMES),
        ("/m/alice/export/attempts", ATTEMPT_NAMES),
        ("/staff/export/events", EVENT_NAMES),
        ("/staff/export/attempts", ATTEMPT_NAMES),
        ("/staff/export/audit", AUDIT_NAMES),
    ],
)
def test_a_table_has_its_names_and_its_mark_with_rows_and_without(
    signed_in: SignIn, merchant: Merchant, address: str, names: str
):
    event = factories.make_event(merchant, object_id="Ж–1")
    factories.make_attempt(factories.make_delivery(event, factories.make_webhook(merchant)))
    client = signed_in("auditor")
    for query in ("", "?since=2001-01-01&until=2001-01-02"):
        raw = client.get(f"{address}.csv{query}").data
        assert raw.startswith(codecs.BOM_UTF8)
        assert raw.count(codecs.BOM_UTF8) == 1
        lines = raw.decode("utf-8-sig").splitlines()
        assert lines[0] == names
        assert (len(lines) > 1) == (query == "")
    assert client.get(f"{address}.jsonl{query}").data == b""
    for line in client.get(f"{address}.jsonl").data.splitlines():
        assert json.loads(line)


def test_only_a_quarter_of_the_threads_stream_for_one_merchant_and_places_come_back(
    app: Flask, signed_in: SignIn, merchant: Merchant
):
    many(merchant, 2_000)
    client = signed_in("viewer")
    places = app.config["PORTAL"].web_threads // 4
    running = [client.get(f"{EVENTS}.csv", buffered=False) for _ in range(places)]
    refused = client.get(f"{EVENTS}.csv")
    assert refused.status_code == 429
    assert "Try again in a moment" in refused.text
    for answer in running:
        answer.close()
    assert client.get(f"{EVENTS}.csv").status_code == 200


@pytest.mark.whole
def test_a_hundred_thousand_rows_need_no_more_memory_than_a_thousand(merchant: Merchant):
    many(merchant, 100_000)

    def peak(rows: int) -> int:
        batches = browse.EVENTS.every(merchant.id, {}, lambda part: [one.id for one in part])
        seen = 0
        tracemalloc.start()
        while seen < rows:
            seen += len(next(batches))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    few, all_of_them = peak(2_000), peak(100_000)
    assert all_of_them < few + 1_000_000
