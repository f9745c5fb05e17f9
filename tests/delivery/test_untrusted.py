"""Whatever templates and records of a merchant make impossible is the failure of that attempt, with
a code and a sentence in its log; all other deliveries go out."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import now
from portal.db.session import db
from portal.delivery import drain
from portal.delivery.paces import Paces
from portal.diagnosis import diagnoses
from portal.models import Attempt, AttemptPayload, Delivery, Merchant, Webhook
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_merchant, make_webhook
from tests.receiver import Receiver

PACES = Paces(linger_seconds=0.5, poll_seconds=0.1)

HARMLESS = {
    "one": 1,
    "items": ["a"],
    "text": "5",
    "encoded": "aGk=",
    "long": "x",
    "date": "2026-01-01",
    "digits": 2,
    "name": "Jane",
}
POISON = {
    "one": 0,
    "items": ["a", 1, None, {"b": 2}],
    "text": "/w==",
    "encoded": "/w==",
    "long": "x" * 600_000,
    "date": "67768036191676800",
    "digits": "9" * 399,
    "name": "a\r\nX-Injected: 1\0\u2028\x7f",
}
HALF = POISON | {"name": "half of a pair: \ud83e"}
LARGE, TEMPLATE = "request_too_large", "template_error"
HEADER, URL = "invalid_header", "invalid_url"

OF_RECORDS = {
    "division": "{{ 5 | divided_by: event.data.one }}",
    "remainder": "{{ 5 | modulo: event.data.one }}",
    "sum": "{% if event.data.one == 0 %}{{ event.data.items | sum }}{% endif %}",
    "sort": "{{ event.data.items | sort }}",
    "base64": "{{ event.data.encoded | base64_decode }}",
    "digits": "{{ event.data.digits | times: event.data.digits | times: event.data.digits "
    "| times: event.data.digits }}",
    "loops": "{% if event.data.one == 0 %}{% for i in (1..9999) %}x{% endfor %}{% endif %}",
    "output": "{% for i in (1..4) %}{{ event.data.long }}{% endfor %}",
    "doubling": "{% assign x = event.data.long %}{% for i in (1..9) %}"
    "{% assign x = x | append: x %}{% endfor %}{{ x }}",
    "wrong filter argument": "{% if event.data.one == 0 %}{{ 'a' | split: ',' | uniq: 5 }}"
    "{% endif %}",
    "unknown filter": "{% if event.data.one == 0 %}{{ 1 | nothing }}{% endif %}",
}
"""Templates that fail with a poisonous record, in whatever place, and not with a harmless one."""
OF_THEMSELVES = {
    "not closed": "{{ event.data.name",
    "no such tag": "{% nothing %}",
    "include": "{% include 'a' %}",
    "nested": "{% if true %}" * 40 + "x" + "{% endif %}" * 40,
    "a deep expression": "{% if " + "(" * 5_000 + "true" + ")" * 5_000 + " %}x{% endif %}",
    "no condition": "{% if %}{% endif %}",
    "break": "{% for i in (1..'x') %}{{ i }}{% endfor %}{{ 1 | divided_by: 0 }}",
}
"""Templates that always fail; an older version may have stored them."""


def pair(name: str, value: Any, *, secret: bool = False) -> dict[str, Any]:
    return {"name": name, "value": value, "secret": secret}


@dataclass
class Case:
    """A webhook as it is stored, and the error of its attempts with a poisonous record and with a
    harmless one; None where they arrive."""

    name: str
    bad: str | None
    good: str | None = None
    record: dict[str, Any] = field(default_factory=lambda: POISON)
    stored: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    """What the path of its URL goes on with."""


def in_places(
    name: str, value: str, bad: str | None, good: str | None = None, **more: Any
) -> list[Case]:
    return [
        Case(f"{name}, header", bad, good, stored={"headers": [pair("X-A", value)]}, **more),
        Case(f"{name}, query", bad, good, stored={"query_params": [pair("a", value)]}, **more),
        Case(f"{name}, body", bad, good, stored={"body_template": value}, **more),
    ]


NAME, LONG = "{{ event.data.name }}", "{{ event.data.long }}"
CASES = [
    *(case for name, value in OF_RECORDS.items() for case in in_places(name, value, TEMPLATE)),
    *(
        case
        for name, value in OF_THEMSELVES.items()
        for case in in_places(name, value, TEMPLATE, TEMPLATE)
    ),
    # What has controls in it is cleaned in a header, and can stand anywhere else.
    *in_places("controls", NAME, None),
    *in_places("half of a pair", NAME, TEMPLATE, record=HALF),
    *in_places("an overflowing date", "{{ event.data.date | date: '%d' }}", None),
    *in_places("missing", "{{ event.data.missing.deeper.still | upcase }}", None),
    Case("long, header", LARGE, stored={"headers": [pair("X-A", LONG)]}),
    Case("long, query", LARGE, stored={"query_params": [pair("a", LONG)]}),
    Case("long, body", None, stored={"body_template": LONG}),
    Case(
        "long, 50 times",
        LARGE,
        stored={"query_params": [pair(f"a{number}", LONG) for number in range(50)]},
    ),
    # What forms refuse now.
    Case("a long name", LARGE, LARGE, stored={"headers": [pair("X" * 600_000, "a")]}),
    Case("a name of two lines", HEADER, HEADER, stored={"headers": [pair("X-A\r\nX-B", "a")]}),
    Case("a name with a space", HEADER, HEADER, stored={"headers": [pair("X A", "a")]}),
    Case("a name with a colon", HEADER, HEADER, stored={"headers": [pair("X:A", "a")]}),
    Case("no name", HEADER, HEADER, stored={"headers": [pair("", "a")]}),
    Case("a name of other letters", HEADER, HEADER, stored={"headers": [pair("X-Žofie", NAME)]}),
    Case("a name of half a pair", HEADER, HEADER, stored={"headers": [pair("X-\ud83e", "a")]}),
    Case("a value of half a pair", None, stored={"headers": [pair("X-A", "a\ud83eb")]}),
    Case("a value of two lines", None, stored={"headers": [pair("X-A", "a\r\nb: c")]}),
    Case("a parameter of half a pair", URL, URL, stored={"query_params": [pair("a", "\ud83e")]}),
    Case(
        "a parameter of half a pair, filled",
        TEMPLATE,
        URL,
        stored={"query_params": [pair("\ud83e" * 999, OF_RECORDS["division"])]},
    ),
    Case("a parameter's odd name", None, stored={"query_params": [pair("\0\r\n", "\0\x7f")]}),
    Case("Liquid in the URL, which is none there", None, path="/{{ 1 | modulo: 0 }}?a={% if %}"),
    Case("spaces and other letters in the URL", None, path="/Ž ofie\ud7ff?ž=\u2028"),
    Case("a URL that is none", URL, URL, stored={"url": "http://["}),
    Case("a URL without a host", URL, URL, stored={"url": "http:///hook"}),
    Case("words for a URL", URL, URL, stored={"url": "nowhere\r\nat all"}),
]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1", "RETRY_SCHEDULE": "0 86400", "HOLD_AFTER_FAILURES": "2"}


def owed(merchant: Merchant, webhook: Webhook, record: dict[str, Any]) -> str:
    """A delivery of an event with that record; its ID."""
    return make_delivery(make_event(merchant, data=json.dumps(record)), webhook).id


@on_both_databases
def test_each_fails_for_itself_with_a_code_and_a_sentence_and_all_others_arrive(
    app: Flask, merchant: Merchant, receiver: Receiver
):
    bob = make_merchant("bob")
    fine = make_webhook(bob, receiver.url("/bob"))
    expected: dict[str, tuple[str, str | None]] = {}
    for number, case in enumerate(CASES):
        url = receiver.url(f"/{number}")
        webhook = make_webhook(merchant, **({"url": url + case.path} | case.stored))
        expected[owed(merchant, webhook, case.record)] = (case.name, case.bad)
        expected[owed(merchant, webhook, HARMLESS)] = (f"{case.name}, harmless", case.good)
        expected[owed(bob, fine, HARMLESS)] = ("bob's", None)
    started = time.monotonic()
    drain.drain(0, paces=PACES)
    assert time.monotonic() - started < 60

    db.session.rollback()
    attempts = {one.delivery_id: one for one in db.session.scalars(sa.select(Attempt))}
    found = {id_: (name, attempts[id_].error) for id_, (name, _) in expected.items()}
    assert found == expected
    for id_, (name, error) in expected.items():
        delivery, attempt = db.session.get_one(Delivery, id_), attempts[id_]
        assert delivery.attempts == attempt.number == 1
        if error is None:
            assert (delivery.state, attempt.status) == ("succeeded", 200), name
        else:
            assert delivery.state == "pending", name
            assert (delivery.next_attempt_at or 0) > now(), "it is tried again by its schedule"
            assert (attempt.error_detail or "").endswith("."), name
            assert len(attempt.error_detail or "") < 1_000, name
            assert diagnoses.ERRORS[error].title
    assert len([one for one in receiver.ledger if one.path == "/bob"]) == len(CASES)
    assert not any("X-Injected" in one.headers for one in receiver.ledger)
    assert db.session.scalars(sa.select(Webhook).where(Webhook.held_at.is_not(None))).all() == [], (
        "nothing of it is said of a receiver"
    )
    for row in db.session.scalars(sa.select(AttemptPayload)):
        assert len(row.request_headers) + len(row.request_body or "") < 2_000_000
