"""A moment is read wherever one is taken, exactly, and in every way that RFC 3339 writes it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from portal.clock import SECOND, NoZone, from_iso, from_seconds, parse_iso, rfc3339, utc
from portal.logs import filters

MOMENT = 1_763_930_000 * SECOND


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-11-23T20:33:20Z", MOMENT),
        ("2025-11-23t20:33:20z", MOMENT),
        ("2025-11-23 20:33:20Z", MOMENT),
        ("2025-11-23t21:33:20+01:00", MOMENT),
        ("2025-11-23T21:33:20 01:00", MOMENT),
        ("2025-11-23T20:33:20.5z", MOMENT + 500_000),
        ("2025-11-23T20:33:20.123456Z", MOMENT + 123_456),
        ("2025-11-23T20:33:20.123456789Z", MOMENT + 123_456),
        ("2016-12-31T23:59:60Z", 1_483_228_800 * SECOND),
        ("2016-12-31t23:59:60z", 1_483_228_800 * SECOND),
        ("2016-12-31T23:59:60.25Z", 1_483_228_800 * SECOND + 250_000),
        ("1990-12-31T15:59:60-08:00", 662_688_000 * SECOND),
        ("0001-01-01T00:00:00+14:00", -62_135_596_800 * SECOND - 50_400 * SECOND),
        ("9999-12-31T23:59:59-14:00", 253_402_300_799 * SECOND + 50_400 * SECOND),
    ],
)
def test_a_moment_is_read_as_rfc_3339_writes_it(text: str, moment: int):
    assert from_iso(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2025-11-23T20:33:61Z",
        "2025-11-23T20:60:00Z",
        "2025-13-01T00:00:00Z",
        "2025-11-23T20:33:20+99:00",
        "6" * 100_000,
        "T" * 100_000 + " 01:00",
    ],
)
def test_what_is_no_moment_is_refused(text: str):
    with pytest.raises(ValueError):
        parse_iso(text)


def test_a_time_without_a_zone_is_a_moment_only_where_the_reader_is():
    assert parse_iso("2025-11-23T21:33:20") == datetime(2025, 11, 23, 21, 33, 20)
    found = filters.clean(("since",), {"since": "2025-11-23T21:33:20"}, "Europe/Berlin")
    assert found == {"since": MOMENT}
    with pytest.raises(NoZone):
        from_iso("2025-11-23T21:33:20")


@pytest.mark.parametrize(
    ("seconds", "moment"),
    [
        (1_763_930_000, MOMENT),
        (1_763_930_000.000001, MOMENT + 1),
        *((float(f"1763930000.{part:06}"), MOMENT + part) for part in range(1, 1_000_000, 9_973)),
        (Decimal("1763930000.123456789"), MOMENT + 123_456),
        (0, 0),
        (-0.5, -500_000),
        (-1e-9, -1),
    ],
)
def test_seconds_lose_no_microsecond(seconds: float, moment: int):
    assert from_seconds(seconds) == moment


@pytest.mark.parametrize(
    ("rest", "text"),
    [(0, ""), (1, ".000001"), (500_000, ".5"), (123_456, ".123456"), (10, ".00001")],
)
def test_a_moment_is_told_with_as_many_digits_as_it_has(rest: int, text: str):
    assert rfc3339(MOMENT + rest) == f"2025-11-23T20:33:20{text}Z"
    assert from_iso(rfc3339(MOMENT + rest)) == MOMENT + rest


def test_a_moment_is_shown_in_utc() -> None:
    assert utc(1_763_930_000_123_456) == "2025-11-23 20:33:20"
    assert utc(1_763_930_000_123_456, precise=True) == "2025-11-23 20:33:20.123"
