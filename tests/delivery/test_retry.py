"""The schedule of PRODUCT.md, its jitter, and what receivers may ask for."""

from __future__ import annotations

import time

import pytest

from portal.delivery.retry import next_attempt_at, retry_after
from portal.outbound.outcome import is_success

SCHEDULE = (0, 5, 300, 1_800)
NOW = 1_763_930_000_000_000
SECOND = 1_000_000


@pytest.mark.parametrize(("step", "delay"), [(0, 5), (1, 300), (2, 1_800)])
def test_each_retry_follows_the_schedule_with_a_tenth_of_jitter(step: int, delay: int):
    for dice in (0.0, 0.5, 0.999):
        due = next_attempt_at(SCHEDULE, step, NOW, dice=dice)
        assert due is not None
        assert delay * 0.9 <= (due - NOW) / SECOND <= delay * 1.1
    assert next_attempt_at(SCHEDULE, step, NOW, dice=0.5) == NOW + delay * SECOND


def test_after_the_last_attempt_there_is_none():
    assert next_attempt_at(SCHEDULE, 3, NOW) is None


def test_a_receiver_may_ask_for_more_time_but_not_for_less():
    later = next_attempt_at(SCHEDULE, 0, NOW, retry_after_seconds=120)
    assert later is not None
    assert later >= NOW + 120 * SECOND
    assert next_attempt_at(SCHEDULE, 1, NOW, retry_after_seconds=1) == NOW + 300 * SECOND


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["120"], 120),
        (["0"], 0),
        (["1000000000000"], 86_400),
        (["99999999999999999999"], 86_400),
        (["-1"], None),
        (["soon"], None),
        ([""], None),
        (["5", "60"], 60),
        (["junk", "60"], 60),
        (["Sun, 23 Nov 2025 20:35:20 GMT"], 120),
        (["Sun, 23 Nov 2020 20:35:20 GMT"], 0),
        (["Sun, 23 Nov 9999 20:35:20 GMT"], 86_400),
        (["Sunday, 23-Nov-25 20:35:20 GMT"], 120),
        (["Sun Nov 23 20:35:20 2025"], 120),
        (["Sun Nov  2 20:35:20 2025"], 0),
        (["Sun, 23 Nov 2025 20:35:20"], 120),
        (["Sun, 23 Nov 2025 20:35:20 -0000"], 120),
        (["Sun, 23 Nov 2025 22:35:20 +0200"], 120),
        ([], None),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata"])
def test_retry_after_is_read_as_the_rfc_says_within_a_day(monkeypatch, zone, values, seconds):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert retry_after(values, NOW) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("status", "ok"),
    [
        (200, True),
        (204, True),
        (299, True),
        (301, False),
        (410, False),
        (999, False),
        (100, False),
        (None, False),
    ],
)
def test_success_is_2xx_and_nothing_else(status, ok):
    assert is_success(status) is ok
