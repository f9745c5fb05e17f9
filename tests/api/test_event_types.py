"""The catalogue by API: the store's types, and a merchant's own."""

from __future__ import annotations

from typing import Any

import pytest

from portal.events import catalogue
from portal.models import Merchant
from portal.strict_json import text_of
from portal.webhooks import previews
from tests.api.caller import Caller, problem
from tests.conftest import on_both_databases
from tests.factories import make_webhook
from tests.receiver import Receiver

OWN: dict[str, Any] = {
    "name": "loyalty.points_added",
    "description": "A customer earned points.",
    "schema": {"type": "object", "required": ["points"]},
    "example": {"points": 5},
}


def test_the_catalogue_describes_each_type(api: Caller) -> None:
    page = api.get("/event-types").get_json()
    types = {one["name"]: one for one in page["data"]}
    assert page["next_cursor"] is None
    created = types["order.created"]
    assert created["description"]
    assert created["group"]
    assert created["schema"]["type"] == "object"
    assert created["example"]
    assert created["own"] is False


def test_an_own_type_can_be_added_sent_and_subscribed_to(api: Caller, bobs: Caller) -> None:
    answer = api.post("/event-types", OWN)
    assert answer.status_code == 201
    assert {name: answer.get_json()[name] for name in OWN} == OWN
    assert answer.get_json()["own"] is True
    listed = [one["name"] for one in api.get("/event-types").get_json()["data"]]
    assert listed.count(OWN["name"]) == 1
    webhook = {"url": "https://crm.example.com/", "events": [OWN["name"]]}
    assert api.post("/webhooks", webhook).status_code == 201
    answer = api.post("/events", {"type": OWN["name"], "data": {"points": 3}})
    assert answer.get_json()["deliveries"] == 1
    # Bob's store knows nothing of it.
    assert OWN["name"] not in bobs.get("/event-types").text
    problem(bobs.post("/events", {"type": OWN["name"]}), 422, "/type")


def test_data_that_breaks_the_schema_is_accepted_and_flagged(api: Caller) -> None:
    api.post("/event-types", OWN)
    answer = api.post("/events", {"type": OWN["name"], "data": {}})
    assert answer.status_code == 202
    assert "points" in api.get(f"/events/{answer.get_json()['id']}").get_json()["schema_error"]


@pytest.mark.parametrize("name", ["loyalty.points_added", "order.created"])
def test_a_name_that_is_taken_is_a_conflict(api: Caller, name: str) -> None:
    api.post("/event-types", OWN)
    problem(api.post("/event-types", OWN | {"name": name}), 409, "/name")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "loyalty"}, "/name"),
        ({"name": "Loyalty.Added"}, "/name"),
        ({"name": "a..b"}, "/name"),
        ({"name": "../x"}, "/name"),
        ({"name": "*"}, "/name"),
        ({"name": "loyalty.*"}, "/name"),
        ({"name": 5}, "/name"),
        ({"name": "loyalty." + "a" * 250}, "/name"),
        ({"name": "a.b\n"}, "/name"),
        ({"description": 5}, "/description"),
        ({"description": "d" * 1_000_000}, "/description"),
        ({"schema": "object"}, "/schema"),
        ({"schema": []}, "/schema"),
        ({"schema": {"type": "nothing"}}, "/schema"),
        ({"schema": {"type": 5}}, "/schema"),
        ({"schema": {"$ref": "https://example.com/schema"}}, "/schema"),
        ({"schema": {"properties": {"a": {"pattern": "(a+)+$"}}}}, "/schema"),
        ({"example": "x"}, "/example"),
        ({"example": [1]}, "/example"),
        ({"group": "mine"}, "/group"),
    ],
)
@pytest.mark.usefixtures("nothing_stored")
def test_a_wrong_field_is_named(api: Caller, fields: dict[str, Any], pointer: str) -> None:
    problem(api.post("/event-types", OWN | fields), 422, pointer)


EXAMPLE = (
    '{ "points" : 99.50,\n  "rate": 1.0e-5, "big": 123456789012345678.91, "name": "Zo\\u00eb" }'
)


@on_both_databases
def test_an_example_stays_as_it_was_written(
    api: Caller, alice: Merchant, receiver: Receiver
) -> None:
    body = f'{{"name": "loyalty.written", "schema": {{"type": "object"}}, "example": {EXAMPLE}}}'
    made = api.post("/event-types", body.encode())
    assert made.status_code == 201, made.text
    assert f'"example":{EXAMPLE}' in made.text
    assert f'"example":{EXAMPLE}' in api.get("/event-types").text
    webhook = make_webhook(alice, receiver.url(), events=["loyalty.written"])
    tested = api.post(f"/webhooks/{webhook.id}/test", {"type": "loyalty.written"})
    assert tested.json["status"] == 200, tested.text
    assert f',"data":{EXAMPLE}}}'.encode() in receiver.ledger[0].body
    known = catalogue.find(alice.id, "loyalty.written")
    assert known
    assert EXAMPLE in previews.example_body(alice.id, "loyalty.written")
    assert EXAMPLE in catalogue.example_text(known)
    assert '"points":99.50' in text_of(catalogue.example_event(known, "7")["data"])
