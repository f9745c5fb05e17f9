"""When a silence is strange."""

from __future__ import annotations

from portal.clock import HOUR, now
from portal.counts import attention

MOMENT = now()


def hours_ago(*hours: int) -> set[int]:
    start = MOMENT - MOMENT % HOUR
    return {start - hour * HOUR for hour in hours}


def test_a_silence_is_strange_when_it_is_longer_than_the_habit() -> None:
    steady = range(5, 60)
    assert attention.quiet_since(hours_ago(*steady), MOMENT) == max(hours_ago(4))
    assert attention.quiet_since(hours_ago(*range(3, 60)), MOMENT) is None


def test_a_night_is_no_strange_silence() -> None:
    by_day = [hour for hour in range(5, 160) if hour % 24 < 12]
    assert attention.quiet_since(hours_ago(*by_day), MOMENT) is None


def test_what_was_seldom_busy_has_no_habit() -> None:
    assert attention.quiet_since(set(), MOMENT) is None
    assert attention.quiet_since(hours_ago(*range(50, 60)), MOMENT) is None
