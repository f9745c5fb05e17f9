"""How many requests a webhook may have under way, and when the next may start."""

from __future__ import annotations

import pytest

from portal.delivery.throttle import Throttle

MOMENT = 1_800_000_000_000_000


def room(own: Throttle, hanging: int = 0) -> int:
    return own.room(0.0, lambda _clock: hanging)


def throttle(most: int = 8, rate: int | None = None, under_way: int = 0) -> Throttle:
    made = Throttle()
    made.set_limits(most, rate)
    for _ in range(under_way):
        made.start(0.0)
    return made


def test_no_more_are_under_way_than_the_settings_allow():
    own = throttle(most=3, under_way=2)
    assert room(own) == 1
    own.start(0.0)
    assert room(own) == 0
    own.end(was_delivered=False)
    assert room(own) == 1


def test_trouble_halves_the_cap_once_for_all_that_were_under_way_together():
    own = throttle(most=8, under_way=8)
    for _ in range(4):
        own.slow_down(MOMENT, MOMENT + 10)
    assert own.cap == 4
    own.slow_down(MOMENT + 20, MOMENT + 30)
    assert own.cap == 2


def test_one_at_a_time_is_always_allowed():
    own = throttle(most=8)
    for number in range(1, 9):
        own.slow_down(MOMENT + 20 * number, MOMENT + 20 * number + 10)
    assert (own.cap, room(own)) == (1, 1)


def test_the_cap_comes_back_by_successes_up_to_what_the_settings_allow():
    own = throttle(most=4)
    own.start_slowly()
    caps = []
    for _ in range(20):
        own.start(0.0)
        own.end(was_delivered=True)
        caps.append(own.cap)
    assert caps == sorted(caps)
    assert caps[0] == 2
    assert caps[-1] == 4


def test_those_without_a_response_for_long_take_nothing_but_the_limit_of_the_settings():
    own = throttle(most=4, under_way=2)
    own.slow_down(MOMENT, MOMENT + 10)
    assert room(own) == 0
    assert room(own, hanging=2) == 2
    own.start(0.0)
    own.start(0.0)
    assert room(own, hanging=4) == 0


def test_a_rate_keeps_requests_apart_and_makes_up_for_no_moment_that_passed():
    own = throttle(rate=10)
    assert own.is_open(100.0)
    own.start(100.0)
    assert not own.is_open(100.05)
    assert own.next_start == pytest.approx(100.1)
    own.start(200.0)
    assert not own.is_open(200.05)
    assert own.is_open(200.11)
    assert [own.room(clock, lambda _: 0) for clock in (200.05, 200.11)] == [0, 6]


def test_the_longest_pause_that_was_asked_for_counts():
    own = throttle()
    own.pause(until=60.0)
    own.pause(until=10.0)
    assert not own.is_open(59.0)
    assert own.is_open(60.0)


def test_the_same_settings_again_leave_a_lowered_cap_and_others_do_not():
    own = throttle(most=8)
    own.slow_down(MOMENT, MOMENT + 10)
    own.set_limits(8, 5)
    assert (own.cap, own.rate) == (4, 5)
    own.set_limits(6, None)
    assert (own.cap, own.rate) == (6, None)
