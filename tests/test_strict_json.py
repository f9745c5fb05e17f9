"""What is not JSON, or what a receiver could not take, is refused with a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal import json_events, json_values
from portal.errors import Invalid, Malformed, TooLarge
from portal.json_events import MAX_VALUES_OF_BATCH, _with_records, parse_events
from portal.json_values import nothing, values_of
from portal.strict_json import (
    MAX_DEPTH,
    MAX_VALUES,
    Number,
    dump,
    loads,
    parse,
    parse_record,
    strictly,
    whole,
)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"{", "line 1"),
        (b'{"a":1} x', "not JSON"),
        (b"[" * 1_500 + b"]" * 1_500, "nested"),
        (b"[" * 100_000 + b"]" * 100_000, "nested"),
        (b'{"a":' * 1_500 + b"1" + b"}" * 1_500, "nested"),
        (b"[" + b"1" * 5_000 + b"]", "digits"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":Infinity}', "Infinity"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1e400}', "double"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":"\\u0000"}', "NUL"),
        (b'{"\\u0000":1}', "NUL"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":["\\udfff x"]}', "surrogate"),
        (b'{"a":"\xff"}', "UTF-8"),
        ('{"a":1}'.encode("utf-16"), "UTF-8"),
        (b'{"a":"line\nbreak"}', "control character"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
    ],
)
def test_bad_json_is_refused(raw: bytes, says: str):
    for read in (parse, parse_record, parse_events):
        with pytest.raises(Malformed, match=says):
            read(raw)
    if says != "empty":
        # The same inside of events: their records are read by themselves.
        for before, after in ((b'{"data":', b"}"), (b'{"events":[{"x":1,"data":', b',"y":2}]}')):
            with pytest.raises(Malformed):
                parse_events(before + raw + after)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"data":{},"a":2}',
        b'{"data":{},"data":{}}',
        b'{"data":{},"x":1,"d\\u0061ta":{}}',
        b'{"data":{"a":1,"a":1}}',
        b'{"events":[{"data":{}},{"x":1,"data":{},"x":1}]}',
        b'{"events":[{}],"events":[]}',
        # As many quotes when written as were read.
        b'{"data":{"a":1,"a":"\\u0022\\u0022"}}',
        b'{"data":{"":{"a":1,"a":"\\u0022","b":"\\u0022"}}}',
        b'{"data":{"a":"\\"","a":"\\u0022\\u0022\\u0022"}}',
        b'{"data":{"a":1,"\\u0061":2}}',
    ],
)
def test_no_name_comes_twice_in_an_event(raw: bytes):
    with pytest.raises(Malformed, match="twice"):
        parse_events(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,}',
        b'{"a":1}}',
        b'{"a":1}x',
        b'{"data":{}x}',
        b'{"data":{},}',
        b"{,}",
        b'{"a" 1}',
        b'{"events":[{"a":1},]}',
        b'{"events":[{"a":1}{"a":1}]}',
        b'{"events":[{"a":1}]}}',
        b'{"events":[{"a":1}',
        b'{"events":[{"a":1}]',
        b'{"a":tru}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":"\\x"}',
        b'{"data":{"a":.5}}',
    ],
)
def test_what_breaks_in_an_event_is_refused(raw: bytes):
    with pytest.raises(Malformed, match="not JSON"):
        parse_events(raw)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        ("1e400", "double"),
        ("-1e400", "double"),
        ("1" * 301, "digits"),
        ("-" + "1" * 5_000, "digits"),
    ],
)
def test_numbers_of_a_record_are_limited_as_everywhere(number: str, says: str):
    with pytest.raises(Malformed, match=says):
        parse_events(f'{{"data":{{"a":[null,{number}]}}}}'.encode())
    fits = "1" * 300
    assert parse_events(f'{{"data":{{"a":{fits},"b":1e308}}}}'.encode())["data"]["a"] == int(fits)


def test_nesting_in_an_event_is_limited_as_everywhere():
    for before, after, around in ((b'{"data":', b"}", 1), (b'{"events":[{"data":', b"}]}", 3)):
        fits = MAX_DEPTH - around
        for raw in (b"[" * fits + b"]" * fits, b'{"a":' * fits + b"1" + b"}" * fits):
            assert parse_events(before + raw + after)
            with pytest.raises(Malformed, match="nested"):
                parse_events(before + b"[" + raw + b"]" + after)


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | _TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)
_EVENT = st.dictionaries(
    st.sampled_from(["data", "previous", "type"]) | _TEXT, _JSON, min_size=1, max_size=6
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(_EVENT, min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from([None, 1, "\t"]),
    st.sampled_from([(",", ":"), (" ,", " : ")]),
)
def test_an_event_reads_as_json_does_and_its_records_keep_their_text(
    events: list[dict[str, object]],
    is_ascii: bool,
    indent: int | str | None,
    separators: tuple[str, str],
):
    for value, is_batch in (({"events": events}, True), (events[0], False)):
        raw = json.dumps(value, ensure_ascii=is_ascii, indent=indent, separators=separators)
        read = parse_events(raw.encode())
        assert read == json.loads(raw)
        for event in read["events"] if is_batch else [read]:
            for name in event.keys() & {"data", "previous"}:
                if isinstance(event[name], dict):
                    assert json.loads(event[name].text) == event[name]
                    assert event[name].text in raw


def test_numbers_stay_as_they_were_written():
    text = '{"a":[99.50,1E2,-0.0,1e-400,123456789012345678.91,9223372036854775808,18],"b":true}'
    assert dump(loads(text)) == text
    assert str(Number("99.50")) == "99.50"
    assert Number("99.50") == 99.5


def test_records_keep_their_text_however_the_names_around_them_are_escaped():
    for events in ("events", r"\u0065vents", r"event\u0073"):
        for data in ("data", r"d\u0061ta"):
            raw = f'{{"{events}":[{{"type":"a","{data}":{{"x": 99.50}}}}]}}'.encode()
            (event,) = parse_events(raw)["events"]
            assert event["data"].text == '{"x": 99.50}'


@pytest.mark.parametrize(
    "raw",
    [
        b'{"data":{"a":1},"x":NaN}',
        b'{"x":NaN,"data":{"a":1}}',
        b'{"data":NaN,"x":{"a":1}}',
        b'{"x":[{"y":{}}],"data":NaN}',
        b'{"data":{"a":NaN}}',
        b'{"events":[{"data":{}},NaN]}',
    ],
)
def test_a_nan_beside_a_record_is_refused_too(raw: bytes):
    with pytest.raises(Malformed, match="NaN is not a JSON number"):
        parse_events(raw)


def test_what_looks_like_a_record_inside_of_a_text_stays_text():
    for looks in (": {}", '": {}', 'data": {"a":1}', '\\": {}', 'a: {"b": {', 'NaN", "data": {}'):
        value = {"type": looks, looks: looks, "data": {looks: {looks: looks}}, "previous": {}}
        for indent in (None, 1):
            raw = json.dumps(value, indent=indent)
            read = parse_events(raw.encode())
            assert read == value
            assert read["data"].text in raw
            assert json.loads(read["data"].text) == value["data"]
            assert read["previous"].text == "{}"


def test_nesting_around_a_record_counts_like_that_in_it():
    for name in ("a", "é"):
        for around in (1, 30, 60, MAX_DEPTH - 2):
            inner = MAX_DEPTH - around
            raw = (f'{{"{name}":' * around + '{"data":' * inner + "1" + "}" * MAX_DEPTH).encode()
            assert parse_events(raw)
            with pytest.raises(Malformed, match="nested"):
                parse_events(b'{"events":[' + raw + b"]}")
            listed = "[" * around + '{"x":' * inner + "1" + "}" * inner + "]" * around
            assert parse_events(listed.encode())
            with pytest.raises(Malformed, match="nested"):
                parse_events(f"[{listed}]".encode())


def test_digits_are_counted_without_the_sign():
    for sign in ("", "-"):
        assert parse(f"[{sign}{'9' * 300}]".encode()) == [int(f"{sign}{'9' * 300}")]
        with pytest.raises(Malformed, match="300 digits"):
            parse(f"[{sign}{'9' * 301}]".encode())


def test_good_json_comes_through_unchanged():
    value = {"a": [1, 2.5, True, None, "é", "\U0001f600"], "b": {"c": 10**200}}
    assert parse(json.dumps(value).encode()) == value
    assert parse(dump(value).encode()) == value


def test_nesting_up_to_the_limit_is_taken():
    raw = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse(raw) is not None
    with pytest.raises(Malformed):
        parse(b"[" + raw + b"]")


@pytest.mark.parametrize(
    ("value", "number"),
    [(18, 18), (18.0, 18), (-0.0, 0), (18.5, None), (True, None), ("18", None), (None, None)],
)
def test_a_number_without_a_fraction_is_whole_however_it_is_written(
    value: object, number: int | None
) -> None:
    assert whole(value) == number


@pytest.mark.parametrize("read", [parse, parse_record, parse_events])
@pytest.mark.parametrize("value", [b"1", b'"1,2"', b'"\\",[,"', b'"\\\\"', b'"[{"'])
def test_so_many_values_are_read_and_no_more(read: Any, value: bytes):
    most = b"[" + b",".join([value] * MAX_VALUES) + b"]"
    assert len(read(most)) == MAX_VALUES
    with pytest.raises(TooLarge, match="250,000 values"):
        read(most[:-1] + b",1]")


@given(
    st.recursive(
        st.text(st.sampled_from('",[]{}\\é\n')) | st.none() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from('",[{\\')), inner),
    )
)
@settings(deadline=None, max_examples=200)
def test_values_are_counted_outside_of_texts_alone(value: Any):
    def signs(one: Any) -> int:
        if not isinstance(one, dict | list):
            return 0
        inner = list(one.values()) if isinstance(one, dict) else one
        return 1 + max(0, len(inner) - 1) + sum(map(signs, inner))

    raw = json.dumps(value, ensure_ascii=False).encode()
    assert values_of(raw, 0) == signs(value)
    with pytest.MonkeyPatch.context() as patch:
        for piece in (1, 2, 5):
            # Whatever stands where one ends.
            patch.setattr(json_values, "PIECE", piece)
            assert values_of(raw, 0) == signs(value)


@pytest.mark.parametrize(
    "unit", ["{}", "[]", '{"a":1}', '{"a":{}}', '{"a":[]}', "[[[[1]]]]", "1.5"]
)
def test_a_large_body_of_tiny_values_takes_bounded_memory(unit: str):
    """Refused or read: of the largest body that is taken, and of the largest there is."""
    script = """
import resource, sys
from portal.errors import TooLarge
from portal.json_events import MAX_VALUES_OF_BATCH as MOST, parse_events
unit = sys.argv[1]
each = unit.count("{") + unit.count("[") + 1
def batch(n):
    record = b'{"data":{"a":[' + (unit + ",").encode() * (n // 7) + unit.encode() + b"]}}"
    return b'{"events":[' + b",".join([record] * 7) + b"]}"
bodies = [batch(n) for n in (MOST // each - 50, 16_000_000 // (len(unit) + 1))]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(parse_events(bodies[0], MOST)["events"]) == 7
try:
    parse_events(bodies[1], MOST)
except TooLarge:
    pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, unit], capture_output=True, text=True, check=True
    )
    # In MiB. Without a bound it was 500 to 1,000 of these bodies.
    assert int(done.stdout) < 300
    assert MAX_VALUES < MAX_VALUES_OF_BATCH


def _batch(*records: str, around: str = "") -> bytes:
    events = ",".join(f'{{"type":"order.paid","data":{record}{around}}}' for record in records)
    return f' {{"events" : [ {events} ]}}'.encode()


def _values(count: int, value: str = "1") -> str:
    return f'{{"a":[{",".join([value] * count)}]}}'


@pytest.mark.parametrize("value", ["1", "[]", '"é"', '"\\",[,"', '"\\\\"'])
def test_a_record_has_at_most_so_many_values_in_a_batch_too(value: str):
    # With the brackets of the record and of its list.
    most = _values(MAX_VALUES - 2 if value != "[]" else MAX_VALUES // 2 - 2, value)
    some = _values(20, value)
    body = parse_events(_batch(some, most, some, most), MAX_VALUES_OF_BATCH)
    assert [len(event["data"]["a"]) for event in body["events"]][::2] == [20, 20]
    assert [event["data"].text for event in body["events"]] == [some, most, some, most]
    many = _values(2 * MAX_VALUES, value)
    with pytest.raises(Invalid) as refused:
        parse_events(_batch(some, most, some, many, some), MAX_VALUES_OF_BATCH)
    (error,) = refused.value.errors
    assert error.pointer == "/events/3"
    assert "at most 250,000 values" in error.message


def test_what_is_beside_the_records_of_a_batch_has_at_most_so_many_values():
    for around in (",".join(["[]"] * 300_000), ",".join(["1"] * 600_000)):
        with pytest.raises(TooLarge, match="250,000 values beside"):
            parse_events(f'{{"events":[{around}]}}'.encode(), MAX_VALUES_OF_BATCH)
    with pytest.raises(TooLarge, match="250,000 values"):
        parse_events(f'{{"data":{_values(600_000)}}}'.encode(), MAX_VALUES_OF_BATCH)


@pytest.mark.parametrize(
    "wrong",
    [
        '{"a":1,}',
        '{"a":tru}',
        '{"a":[1 2]}',
        '{"a":"line\nbreak"}',
        '{"a":"\\x"}',
        '{"a":01}',
        '{"a":1}}',
        '{"a":1}, 5',
        '{"a":1',
        '{"a":"' + "x" * 600_000,
    ],
)
@pytest.mark.parametrize("padding", [0, 20_000, 600_000])
def test_a_batch_of_many_values_is_told_where_it_breaks(wrong: str, padding: int):
    long = f'{{"text":"{"x" * padding}","x":{wrong}}}'
    raw = _batch(_values(200_000), _values(200_000), long, "{}")
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(raw)
    with pytest.raises(Malformed) as refused:
        parse_events(raw, MAX_VALUES_OF_BATCH)
    place = f"line {expected.value.lineno}, column {expected.value.colno}"
    assert str(refused.value) == f"The body is not JSON: {expected.value.msg} at {place}."


@given(st.lists(st.tuples(_JSON, st.dictionaries(_TEXT, _JSON)), max_size=4), st.integers(0, 2))
@settings(deadline=None)
def test_a_batch_that_is_read_in_parts_reads_as_json_does(
    parts: list[tuple[Any, dict[str, Any]]], indent: int
):
    batch = {"events": [{"note": value, "data": record} for value, record in parts]}
    raw = json.dumps(batch, indent=indent or None, ensure_ascii=bool(indent)).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_events, "LOOK", 3)
        patch.setattr(json_events, "LENGTHS", (14, 60, 10_000, 1_000_000))
        read = strictly(lambda text: _with_records(text, nothing, is_many=True), raw.decode())
    assert read == json.loads(raw)
    for event, (_, record) in zip(read["events"], parts, strict=True):
        assert json.loads(event["data"].text) == record
