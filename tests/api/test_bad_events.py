"""Events that are refused: the field is named, and nothing of the request is stored."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.db.session import db
from portal.errors import Invalid
from portal.events import rules
from portal.models import Event, Merchant
from tests.api.caller import Caller, problem
from tests.api.conftest import ORDER

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no type": ({}, "/type"),
    "type null": ({"type": None}, "/type"),
    "type a number": ({"type": 5}, "/type"),
    "type a list": ({"type": ["order.created"]}, "/type"),
    "type empty": ({"type": ""}, "/type"),
    "type of 256 characters": ({"type": "order." + "a" * 250}, "/type"),
    "type of 10,000 characters": ({"type": "order." + "a" * 10_000}, "/type"),
    "type with two dots": ({"type": "a..b"}, "/type"),
    "type a path": ({"type": "../x"}, "/type"),
    "type a star": ({"type": "*"}, "/type"),
    "type a group": ({"type": "order.*"}, "/type"),
    "type with a direction mark": ({"type": "order.\u202ecreated"}, "/type"),
    "type with a line break": ({"type": "order.created\n"}, "/type"),
    "type in capitals": ({"type": "Order.Created"}, "/type"),
    "type of one part": ({"type": "order"}, "/type"),
    "type unknown": ({"type": "order.craeted"}, "/type"),
    "object type with a space": ({"object_type": "an order"}, "/object_type"),
    "object type empty": ({"object_type": ""}, "/object_type"),
    "object ID a list": ({"object_id": [1]}, "/object_id"),
    "object ID true": ({"object_id": True}, "/object_id"),
    "object ID of 256 characters": ({"object_id": "1" * 256}, "/object_id"),
    "object ID with a direction mark": ({"object_id": "10\u202e00"}, "/object_id"),
    "source type with a line break": ({"source_user_type": "erp\nx"}, "/source_user_type"),
    "source ID an object": ({"source_user_id": {}}, "/source_user_id"),
    "correlation with a line break": ({"correlation_id": "a\r\nb"}, "/correlation_id"),
    "id with a line break": ({"id": "evt_1\nx"}, "/id"),
    "id empty": ({"id": ""}, "/id"),
    "id of 256 characters": ({"id": "e" * 256}, "/id"),
    "id with a slash": ({"id": "a/b"}, "/id"),
    "id a number": ({"id": 7}, "/id"),
    "year 9999": ({"occurred_at": 253402300799}, "/occurred_at"),
    "year 9999 as text": ({"occurred_at": "9999-12-31T23:59:59Z"}, "/occurred_at"),
    "time without a zone": ({"occurred_at": "2025-11-23T20:33:20"}, "/occurred_at"),
    "time before 1970": ({"occurred_at": -1}, "/occurred_at"),
    "time in milliseconds": ({"occurred_at": 1763930000000}, "/occurred_at"),
    "time of 300 digits": ({"occurred_at": int("9" * 300)}, "/occurred_at"),
    "time 1e308": ({"occurred_at": 1e308}, "/occurred_at"),
    "time true": ({"occurred_at": True}, "/occurred_at"),
    "time in words": ({"occurred_at": "yesterday"}, "/occurred_at"),
    "data a list": ({"data": [1]}, "/data"),
    "data text": ({"data": "x"}, "/data"),
    "previous a number": ({"previous": 1}, "/previous"),
    "a field that does not exist": ({"objectid": "1"}, "/objectid"),
    "a field with a slash": ({"a/b~c": 1}, "/a~1b~0c"),
}


THROUGH_THE_DOOR = (
    "type unknown",
    "object ID a list",
    "id with a line break",
    "time of 300 digits",
    "data a list",
    "a field with a slash",
)
BY_THE_RULES = [name for name in BAD if name != "type unknown"]
"""What a type is, the rules ask the database where it is none of the portal's own."""


def _event(name: str) -> dict[str, Any]:
    fields = BAD[name][0]
    return fields if name == "no type" else {"type": "order.created", **fields}


def wrong(events: list[Any], *, batch: bool) -> dict[str, str]:
    """Pointer → message of what the rules have against events."""
    with pytest.raises(Invalid) as caught:
        rules.clean_events(1, events, batch=batch)
    return {error.pointer: error.message for error in caught.value.errors}


@pytest.mark.parametrize("name", BY_THE_RULES)
def test_a_wrong_field_is_named(name: str) -> None:
    said = wrong([_event(name)], batch=False)
    assert BAD[name][1] in said
    assert all(said.values())


@pytest.mark.parametrize("name", BY_THE_RULES)
def test_in_a_batch_the_event_is_named_too(name: str) -> None:
    said = wrong([ORDER, _event(name), ORDER], batch=True)
    assert "/events/1" + BAD[name][1] in said
    assert all(said.values())


@pytest.mark.parametrize("name", THROUGH_THE_DOOR)
@pytest.mark.usefixtures("nothing_stored")
def test_no_event_is_made_of_it(api: Caller, name: str) -> None:
    problem(api.post("/events", _event(name)), 422, BAD[name][1])


@pytest.mark.parametrize("name", THROUGH_THE_DOOR)
@pytest.mark.usefixtures("nothing_stored")
def test_none_of_its_batch_is_stored(api: Caller, name: str) -> None:
    batch = {"events": [ORDER, _event(name), ORDER]}
    problem(api.post("/events", batch), 422, "/events/1" + BAD[name][1])


def test_an_unknown_type_comes_with_the_nearest_known_names(api: Caller) -> None:
    content = problem(api.post("/events", {"type": "order.craeted"}), 422, "/type")
    assert "order.created" in content["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("batch", "pointer"),
    [
        ({"events": []}, "/events"),
        ({"events": None}, "/events"),
        ({"events": {}}, "/events"),
        ({"events": "order.created"}, "/events"),
        ({"events": [{"type": "order.created"}] * 1_001}, "/events"),
        ({"events": [None]}, "/events/0"),
        ({"events": [[]]}, "/events/0"),
        ({"events": [{"type": "order.created"}], "type": "order.created"}, "/type"),
    ],
)
@pytest.mark.usefixtures("nothing_stored")
def test_a_batch_is_a_list_of_1_to_1000_events(
    api: Caller, batch: dict[str, Any], pointer: str
) -> None:
    problem(api.post("/events", batch), 422, pointer)


def test_an_id_with_other_content_is_a_conflict(api: Caller) -> None:
    assert api.post("/events", ORDER | {"id": "mine-1"}).status_code == 202
    changed = ORDER | {"id": "mine-1", "data": {"total": "1.00"}}
    problem(api.post("/events", changed), 409, "/id")
    problem(api.post("/events", {"events": [ORDER, changed]}), 409, "/events/1/id")
    assert len(api.get("/events").get_json()["data"]) == 1


def test_the_same_id_fifty_times_at_once_is_one_event(
    app: Flask, api: Caller, alice: Merchant
) -> None:
    event = ORDER | {"id": "mine-1"}

    def send(_: int) -> tuple[int, Any]:
        answer = api.post("/events", event)
        return answer.status_code, answer.get_json()

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(send, range(50)))
    assert answers == [(202, {"id": "mine-1", "deliveries": 0})] * 50
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Event)) == 1
