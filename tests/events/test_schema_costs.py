"""What merchants' own schemas may cost: time to check, time to read, memory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from portal.events import schemas
from portal.strict_json import parse_record

NOT_CHECKED = "/: not checked, because schema and data together are too large."
NOT_TOLD = "/: does not fit; where is not told, because schema and data together are too large."
OTHER_VERSION = "https://json-schema.org/draft/2019-09/schema"
TO_ITSELF = {"$recursiveRef": "#"}


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels else {"b": 1}


def record(value: object) -> Any:
    return parse_record(json.dumps(value, separators=(",", ":")).encode())


def test_a_schema_that_leads_to_itself_by_the_words_of_another_version_is_refused() -> None:
    inner = {"properties": {"a": {"anyOf": [TO_ITSELF] * 3}}, "required": ["a"]}
    schema = {"allOf": [{"$schema": OTHER_VERSION, **inner}]}
    assert "leave it out" in (schemas.problem(schema) or "")
    assert "$recursiveRef" in (schemas.problem(inner) or "")
    inside = {"properties": {"a": {"$schema": OTHER_VERSION}}}
    assert "a $schema inside" in (schemas.problem(inside) or "")
    # Of before such were refused; this one took half a minute.
    assert schemas.error_by_own(schema, record(nested(12)), schemas.Work()) == NOT_CHECKED


def test_a_schema_may_say_what_it_is_and_properties_may_be_called_so() -> None:
    assert schemas.problem({"$schema": "https://json-schema.org/draft/2020-12/schema"}) is None
    assert schemas.problem({"properties": {"$schema": {"type": "string"}}}) is None
    assert schemas.problem({"properties": {"$recursiveRef": {"type": "string"}}}) is None


@pytest.mark.parametrize(
    ("divisor", "value"), [("5e-324", "9e307"), ("0.1", "9e307"), ("0.1", "1.5")]
)
def test_divisions_count_as_what_they_take(divisor: str, value: str) -> None:
    divisions = ",".join([f'{{"multipleOf":{divisor}}}'] * 100)
    schema = json.loads(f'{{"properties":{{"a":{{"items":{{"allOf":[{divisions}]}}}}}}}}')
    data = parse_record(f'{{"a":[{",".join([value] * 2_000)}]}}'.encode())
    assert schemas.problem(schema) is None
    assert schemas.error_by_own(schema, data, schemas.Work()) == NOT_CHECKED


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ('"enum":[1e-300]', "1"),
        ('"const":1', "1e-200"),
        ('"enum":["",1.5]', "1"),
        ('"minimum":1e-300', "1e-200"),
        ('"exclusiveMinimum":-1.5', "12345678901234567890"),
        ('"const":[[1.5]]', "[[2.5]]"),
    ],
)
def test_numbers_that_are_compared_exactly_count_as_what_that_takes(
    keyword: str, value: str
) -> None:
    each = ",".join([f"{{{keyword}}}"] * 40)
    schema = json.loads(f'{{"properties":{{"a":{{"items":{{"anyOf":[{each},true]}}}}}}}}')
    data = parse_record(f'{{"a":[{",".join([value] * 8_000)}]}}'.encode())
    assert schemas.problem(schema) is None
    assert schemas.error_by_own(schema, data, schemas.Work()) == NOT_CHECKED


def test_an_ordinary_record_is_held_against_bounds_and_enums() -> None:
    line = {
        "properties": {
            "price": {"minimum": 0.01, "maximum": 99_999.99},
            "quantity": {"minimum": 1, "maximum": 1_000},
            "rate": {"enum": [0, 7, 19]},
            "kind": {"enum": ["goods", "service"]},
        }
    }
    schema = {"properties": {"lines": {"items": line}}}
    # An ID may look like a number with an exponent.
    good = {"id": "5e3aff01-1e99", "price": 9.5, "quantity": 2, "rate": 7, "kind": "goods"}
    bad = good | {"price": 0.001}
    assert schemas.error_by_own(schema, record({"lines": [good] * 200}), schemas.Work()) is None
    told = schemas.error_by_own(schema, record({"lines": [good, bad]}), schemas.Work()) or ""
    assert told.startswith("/lines/1/price: ")


def test_an_ordinary_order_is_checked_to_the_cent() -> None:
    price = {"type": "number", "multipleOf": 0.01}
    line = {"type": "object", "properties": {"price": price, "tax": price, "discount": price}}
    schema = {"properties": {"lines": {"items": line}, "total": price, "shipping": price}}
    lines = [{"sku": f"SKU-{n}", "price": 99.5, "tax": 19.25, "discount": 0} for n in range(150)]
    good = record({"lines": lines, "total": 99.5, "shipping": 4.9})
    bad = record({"lines": lines, "total": 99.501, "shipping": 4.9})
    assert schemas.error_by_own(schema, good, schemas.Work()) is None
    assert (schemas.error_by_own(schema, bad, schemas.Work()) or "").startswith("/total: ")


def heavy(number: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"allOf": [{}] * 12_000}
    for _ in range(4):
        schema = {"allOf": [schema], "unevaluatedProperties": False, "unevaluatedItems": False}
    return schema | {"description": str(number)}


def resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4_096


def test_schemas_that_were_read_take_bounded_memory() -> None:
    empty = record({})
    assert schemas.error_by_own(heavy(0), empty, schemas.Work()) is None
    before = resident()
    for number in range(1, 25):
        assert schemas.error_by_own(heavy(number), empty, schemas.Work()) is None
    # All of them take half a gigabyte.
    assert resident() - before < 200_000_000


def test_to_read_the_schemas_of_one_request_takes_a_bounded_time_together() -> None:
    work, empty = schemas.Work(), record({})
    answers = [schemas.error_by_own(heavy(100 + number), empty, work) for number in range(40)]
    # Each takes a twentieth of a second to read, and of a second all together may take a half.
    assert answers[0] is None
    assert 4 < answers.count(None) < 16
    assert answers[-1] == NOT_CHECKED
    assert schemas.error_by_own({"type": "object"}, empty, schemas.Work()) is None


def seconds_of_an_error(schema: dict[str, Any], data: Any, told: str) -> float:
    """How long it takes to be told what is wrong, once the schema was read."""
    for _ in range(2):
        began = time.thread_time()
        assert schemas.error_by_own(schema, data, schemas.Work()) == told
    return time.thread_time() - began


def test_what_is_wrong_is_told_where_that_is_no_more_work_than_to_check() -> None:
    lacks, rows = {"required": ["zz"]}, [{"sku": n} for n in range(10_000)]
    assert schemas.error_by_own(lacks, record({"rows": rows}), schemas.Work()) == (
        '/: "zz" is a required property'
    )
    # Some 900 KB. To tell it takes ten times as long.
    data = parse_record(b'{"rows":[' + b",".join([b'{"b":1}'] * 112_000) + b"]}")
    assert seconds_of_an_error(lacks, data, NOT_TOLD) < 0.05


@pytest.mark.parametrize("alternatives", ["anyOf", "oneOf"])
def test_alternatives_count_as_often_as_data_is_held_against_them(alternatives: str) -> None:
    good = {"properties": {"a": {alternatives: [{"type": "null"}, {"type": "string"}]}}}
    told = schemas.error_by_own(good, record({"a": 1, "b": [1] * 900}), schemas.Work()) or ""
    assert told.startswith("/a: 1 is not valid under any")
    # One copy of the data for each of them.
    lists = [{"required": ["zz"], "maxProperties": 0}] * 500
    data = record({"rows": [{"a": {}}] * 30})
    for schema in ({alternatives: lists}, {"allOf": [{alternatives: [{"allOf": lists}] * 2}]}):
        assert seconds_of_an_error(schema, data, NOT_TOLD) < 0.02


def test_to_tell_what_is_wrong_in_the_events_of_one_request_takes_a_bounded_time() -> None:
    work, lacks = schemas.Work(), {"required": ["zz"]}
    data = record({"rows": [1] * 40_000})
    told = [schemas.error_by_own(lacks, data, work) for _ in range(40)]
    assert 10 < told.count('/: "zz" is a required property') < 30
    assert told[-1] == NOT_TOLD
