"""The catalogue: complete, true to its schemas, open to merchants, and safe from them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from portal.db.session import db
from portal.errors import Conflict, Invalid, NotFound
from portal.events import catalogue, rules, schema_table
from portal.models import Merchant, OwnEventType
from tests.factories import make_merchant, make_webhook

TYPES = catalogue.built_in()


@pytest.mark.parametrize("name", TYPES)
def test_each_type_has_a_description_and_an_example_that_fits_its_schema(name: str):
    event_type = TYPES[name]
    assert catalogue.valid_name(name)
    assert event_type.description.endswith(".")
    assert event_type.schema is not None
    Draft202012Validator.check_schema(event_type.schema)
    assert catalogue.schema_error(event_type, event_type.example) is None
    assert catalogue.example_event(event_type)["type"] == name


@pytest.mark.parametrize(
    ("name", "object_id", "record"),
    [
        ("order.created", "1043", {"id": "1043", "number": "SO-1043", "total": "99.50"}),
        ("customer.created", "a\\1", {"id": "a\\1"}),
        ("product.updated", "SKU-2", {"id": "SKU-2"}),
        ("inventory.low", "LOCK-07", {"sku": "LOCK-07"}),
        ("cart.created", "c-9", {"id": "c-9", "recovery_url": "https://shop.example.com/cart/c-9"}),
    ],
)
def test_an_example_can_be_about_another_object(
    name: str, object_id: str, record: dict[str, object]
):
    event_type = TYPES[name]
    event = catalogue.example_event(event_type, object_id)
    assert event["object_id"] == object_id
    assert event["data"] | record == event["data"]
    changed = {key for key in event["data"] if event["data"][key] != event_type.example[key]}
    assert changed <= set(record)
    assert catalogue.schema_error(event_type, event["data"]) is None
    # The catalogue's own is as it was.
    assert catalogue.example_event(event_type)["object_id"] == event_type.object_id


def test_the_types_of_an_online_store_are_there():
    groups = {name.partition(".")[0] for name in TYPES}
    assert groups >= {
        "customer",
        "user",
        "order",
        "product",
        "inventory",
        "cart",
        "payment",
        "refund",
        "shipment",
        "quote",
    }
    assert {"user.subscribed", "user.unsubscribed", "order.created"} <= set(TYPES)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "order",
        "Order.created",
        "a..b",
        ".a",
        "a.",
        "../x",
        "*",
        "order.*",
        "a.b\n",
        "a.‮b",
        "a." + "x" * 255,
    ],
)
def test_what_cannot_name_a_type_is_refused(name: str):
    assert not catalogue.valid_name(name)


def test_data_that_breaks_the_schema_is_described_with_a_pointer():
    error = catalogue.schema_error(TYPES["order.created"], {"id": "1", "lines": [{"sku": 7}]})
    assert error is not None
    assert error.startswith("/")


def test_the_nearest_names_are_offered(merchant: Merchant):
    assert "order.created" in catalogue.nearest(merchant.id, "order.crated")


def test_a_merchants_own_type_is_its_own_only(merchant: Merchant):
    other = make_merchant("bob")
    catalogue.add_type(merchant.id, {"name": "loyalty.points_earned"}, "cli")
    assert catalogue.find(merchant.id, "loyalty.points_earned") is not None
    assert catalogue.find(other.id, "loyalty.points_earned") is None
    with pytest.raises(NotFound):
        catalogue.delete_type(other.id, "loyalty.points_earned", "cli")


def test_a_taken_name_is_refused(merchant: Merchant):
    with pytest.raises(Conflict):
        catalogue.add_type(merchant.id, {"name": "order.created"}, "cli")


def _that_looks_again_and_again(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"properties": {"a": True}}
    for _ in range(depth):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    return schema


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": 7},
        {"name": "a.b", "description": "x" * 501},
        {"name": "a.b", "schema": []},
        {"name": "a.b", "schema": {"type": "no-such-type"}},
        {"name": "a.b", "schema": {"properties": {"a": {"pattern": "(a+)+$"}}}},
        {"name": "a.b", "schema": {"patternProperties": {"(a+)+$": {}}}},
        {"name": "a.b", "schema": {"$ref": "http://example.com/schema"}},
        {"name": "a.b", "schema": {"description": "x" * 70_000}},
        {"name": "a.b", "schema": _that_looks_again_and_again(5)},
        {"name": "a.b", "colour": "red"},
    ],
)
def test_a_wrong_type_is_refused_and_named(merchant: Merchant, fields):
    with pytest.raises(Invalid) as refused:
        catalogue.add_type(merchant.id, fields, "cli")
    assert refused.value.errors[0].pointer.startswith("/")
    assert set(catalogue.known_types(merchant.id)) == set(TYPES)


def test_a_slash_in_a_name_parts_no_pointer(merchant: Merchant):
    with pytest.raises(Invalid) as refused:
        catalogue.add_type(merchant.id, {"name": "a.b", "either/or~": 1}, "cli")
    (error,) = refused.value.errors
    assert (error.pointer, error.parts) == ("/either~1or~0", ["either/or~"])
    schema = {"properties": {"w/h": {"type": "string"}}}
    added = catalogue.add_type(merchant.id, {"name": "box.cut", "schema": schema}, "cli")
    assert (catalogue.schema_error(added, {"w/h": 7}) or "").startswith("/w~1h: ")


def test_a_property_may_be_called_pattern(merchant: Merchant):
    schema = {"properties": {"pattern": {"type": "string"}}}
    added = catalogue.add_type(merchant.id, {"name": "knit.started", "schema": schema}, "cli")
    assert catalogue.schema_error(added, {"pattern": 7}) is not None


def test_a_schema_made_to_take_long_does_not(merchant: Merchant):
    branch: dict[str, object] = {"type": "object", "properties": {"never": {"type": "null"}}}
    schema = {"additionalProperties": {"anyOf": [{"not": branch}] * 500}}
    added = catalogue.add_type(merchant.id, {"name": "slow.schema", "schema": schema}, "cli")
    started = time.thread_time()
    catalogue.schema_error(added, {str(number): {} for number in range(50_000)})
    assert time.thread_time() - started < 2


def test_a_stored_schema_that_takes_too_long_is_not_checked(merchant: Merchant):
    db.session.add(
        OwnEventType(
            merchant_id=merchant.id, name="slow.schema", schema=_that_looks_again_and_again(40)
        )
    )
    db.session.commit()
    stored = catalogue.find(merchant.id, "slow.schema")
    assert stored is not None
    error = catalogue.schema_error(stored, {"a": 1})
    assert error is not None
    assert "not checked" in error


def test_the_schemas_of_one_request_take_a_bounded_time_together(merchant: Merchant):
    schema = {"description": "x" * 3_000, "properties": {"a": {"type": "string"}}}
    catalogue.add_type(merchant.id, {"name": "heavy.schema", "schema": schema}, "cli")
    event = {"type": "heavy.schema", "object_id": "1", "data": {"a": 1, "b": "x" * 9_000}}
    made = rules.clean_events(merchant.id, [event] * 100, batch=True)
    told = [one.schema_error or "" for one in made]
    assert "not checked" not in told[0]
    assert "/a" in told[0]
    assert "not checked" in told[-1], "it is taken all the same"


def test_the_type_of_a_batch_is_read_once(merchant: Merchant, monkeypatch: pytest.MonkeyPatch):
    read, valid_name = [], catalogue.valid_name

    def noting(name: str) -> bool:
        read.append(name)
        return valid_name(name)

    monkeypatch.setattr(catalogue, "valid_name", noting)
    event = {"type": "order.created", "object_id": "1"}
    assert len(rules.clean_events(merchant.id, [event] * 100, batch=True)) == 100
    assert read == ["order.created"]


def test_each_wrong_event_of_a_batch_is_named_by_its_place(merchant: Merchant):
    right = {"type": "order.created", "object_id": "1"}
    wrong = [right, right | {"object_id": ""}, right, 5, {"type": ["order.created"]}, right]
    with pytest.raises(Invalid) as refused:
        rules.clean_events(merchant.id, wrong, batch=True)
    assert [error.pointer for error in refused.value.errors] == [
        "/events/1/object_id",
        "/events/3",
        "/events/4/type",
    ]


def test_schemas_and_examples_of_all_own_types_are_bounded_together(merchant: Merchant):
    big = {"description": "x" * 60_000}
    for number in range(34):
        catalogue.add_type(
            merchant.id, {"name": f"big.type_{number}", "schema": big, "example": big}, "cli"
        )
    with pytest.raises(Conflict, match="4 MiB together"):
        catalogue.add_type(merchant.id, {"name": "big.last", "schema": big, "example": big}, "cli")
    catalogue.add_type(merchant.id, {"name": "small.one"}, "cli")


def test_names_are_compared_quickly_however_long_they_are(merchant: Merchant):
    names = [f"{'a' * 120}.{'b' * 120}_{number:03}" for number in range(500)]
    db.session.add_all(OwnEventType(merchant_id=merchant.id, name=name) for name in names)
    db.session.commit()
    started = time.process_time()
    for number in range(20):
        found = catalogue.nearest(merchant.id, f"{'a' * 119}.{'b' * 121}_{number:03}")
        assert len(found) == 3
    # One took eleven seconds.
    assert time.process_time() - started < 5


def test_a_type_in_use_cannot_be_deleted(merchant: Merchant):
    catalogue.add_type(merchant.id, {"name": "loyalty.points_earned"}, "cli")
    make_webhook(merchant, events=["loyalty.points_earned"])
    with pytest.raises(Conflict):
        catalogue.delete_type(merchant.id, "loyalty.points_earned", "cli")


# ── What fires together ───────────────────────────────────────────────────────────────────


def test_types_that_fire_together_know_each_other_and_exist():
    for name, event_type in TYPES.items():
        for other in event_type.fires_with:
            assert name in TYPES[other].fires_with
            assert name != other


def test_a_webhook_that_would_hear_of_one_action_twice_is_found():
    assert catalogue.fires_together(["user.updated", "user.subscribed"]) == [
        ("user.subscribed", "user.updated")
    ]
    assert ("order.created", "payment.authorized") in catalogue.fires_together(
        ["order.created", "payment.*"]
    )
    assert catalogue.fires_together(["order.created", "customer.created"]) == []
    assert catalogue.fires_together([]) == []
    assert len(catalogue.fires_together(["*"])) > 20


# ── A schema for people ───────────────────────────────────────────────────────────────────


def test_a_schema_is_a_table_of_paths_types_and_descriptions():
    rows = schema_table.properties(
        {
            "required": ["id"],
            "properties": {
                "id": {"type": "string", "description": "Its number"},
                "lines": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"sku": {"type": ["string", "null"]}},
                    },
                },
                "at": {"type": "string", "format": "date-time"},
                "state": {"enum": ["open", "paid"]},
                "odd": True,
            },
        }
    )
    assert [(row.path, row.type, row.required) for row in rows] == [
        ("id", "string", True),
        ("lines", "array of object", False),
        ("lines[].sku", "string or null", False),
        ("at", "string, date-time", False),
        ("state", "any: open, paid", False),
        ("odd", "any", False),
    ]
    assert rows[0].description == "Its number"


@pytest.mark.parametrize("schema", [None, {}, {"properties": 7}, {"required": 7, "properties": {}}])
def test_a_schema_without_properties_has_no_rows(schema: dict | None):
    assert schema_table.properties(schema) == []


def test_a_deep_or_huge_schema_is_cut():
    deep: dict = {"type": "object"}
    for _ in range(50):
        deep = {"properties": {"a": deep}}
    assert len(schema_table.properties(deep)) <= schema_table.MAX_DEPTH + 1
    huge = {"properties": {f"p{number}": {} for number in range(1_000)}}
    assert len(schema_table.properties(huge)) == schema_table.MAX_ROWS
