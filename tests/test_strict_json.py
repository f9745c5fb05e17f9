"""What is not JSON, or what a receiver could not take, is refused with a sentence."""

from __future__ import annotations

import json

import pytest

from portal.errors import Malformed
from portal.strict_json import MAX_DEPTH, dump, parse, whole


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
        (b"\xef\xbb\xbf{}", "not JSON"),
    ],
)
def test_bad_json_is_refused(raw: bytes, says: str):
    with pytest.raises(Malformed, match=says):
        parse(raw)


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
