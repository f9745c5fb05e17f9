"""Who has how much of a drain, beside others who are there (portal.delivery.shares)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from portal.company import Company
from portal.delivery import shares
from portal.delivery.shares import Shares

MUCH, LITTLE, THIRD = 1, 2, 3
MANY = 200


class Clocks:
    """The clocks of a drain, which go on when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.moment, self.used, self.busy = 1_000.0, 0.0, 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.moment)
        monkeypatch.setattr(time, "process_time", lambda: self.used)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
def own(clocks: Clocks, tmp_path: Path) -> Shares:
    return Shares(Company(tmp_path))


def uses(
    own: Shares, clocks: Clocks, merchant_id: int, deliveries: int, seconds: float = 0.0,
    busy: float = 0.0,
) -> None:
    for _ in range(deliveries):
        own.begins(merchant_id)
    clocks.used += seconds
    clocks.busy += busy
    own.count(clocks.busy)


def test_who_has_used_much_is_kept_back_beside_others_until_it_is_paid_off(
    own: Shares, clocks: Clocks
):
    uses(own, clocks, MUCH, MANY, 0.12)
    assert own.heavy([MUCH]) == {}, "who is alone has everything"
    uses(own, clocks, LITTLE, 1)
    assert own.heavy([MUCH, LITTLE]) == {MUCH: pytest.approx(0.2)}
    clocks.moment += 0.2
    uses(own, clocks, LITTLE, 1)
    clocks.moment += 0.01
    assert own.heavy([MUCH, LITTLE]) == {MUCH: 0.0}
    clocks.moment += 2
    uses(own, clocks, LITTLE, 1)
    assert own.heavy([MUCH, LITTLE]) == {}


def test_the_clock_counts_where_it_is_more_since_others_want_the_processor(
    own: Shares, clocks: Clocks
):
    uses(own, clocks, LITTLE, 1)
    uses(own, clocks, MUCH, MANY, 0.02, busy=0.07)
    assert own.heavy([MUCH]) == {MUCH: pytest.approx(0.1)}


def test_others_in_other_processes_are_there_too(own: Shares, clocks: Clocks, tmp_path: Path):
    uses(own, clocks, MUCH, MANY, 0.12)
    Company(tmp_path).asked(f"merchant {MUCH}", clocks.moment)
    assert not own.heavy([MUCH])
    Company(tmp_path).asked(f"merchant {LITTLE}", clocks.moment)
    assert own.heavy([MUCH])[MUCH] > 0


def test_who_is_heavy_stands_back_when_something_begins_for_others_and_not_for_ever(
    own: Shares, clocks: Clocks
):
    uses(own, clocks, LITTLE, 1)
    uses(own, clocks, MUCH, MANY)
    clocks.moment += 0.02
    assert own.heavy([MUCH]) == {MUCH: 0.0}
    waited = 0.0
    uses(own, clocks, LITTLE, 1)
    while own.heavy([MUCH])[MUCH]:
        clocks.moment += 0.005
        waited += 0.005
        uses(own, clocks, LITTLE, 1)
    assert 0 < waited <= shares.PATIENCE_SECONDS + 0.01


def test_what_begins_for_the_heavy_ones_keeps_nobody_back(own: Shares, clocks: Clocks):
    uses(own, clocks, MUCH, MANY)
    uses(own, clocks, THIRD, MANY)
    clocks.moment += 0.02
    uses(own, clocks, MUCH, 1)
    uses(own, clocks, THIRD, 1)
    assert own.heavy([MUCH, THIRD]) == {MUCH: 0.0, THIRD: 0.0}


def test_who_needs_little_is_not_heavy_however_long_it_takes(own: Shares, clocks: Clocks):
    for _ in range(100):
        uses(own, clocks, MUCH, 10, 0.001)
        # For one delivery the loop had to wait for a processor all the time.
        uses(own, clocks, LITTLE, 1, 0.004, busy=0.02)
        clocks.moment += 0.02
        assert LITTLE not in own.heavy([MUCH, LITTLE])
    assert MUCH in own.heavy([MUCH])


def test_what_a_drain_uses_while_it_has_nothing_to_do_counts_for_nobody(
    own: Shares, clocks: Clocks
):
    uses(own, clocks, LITTLE, 1)
    for _ in range(10):
        clocks.used += 0.1
        own.count(clocks.busy, is_idle=True)
    uses(own, clocks, MUCH, MANY, shares.FREE_SECONDS / 2)
    clocks.moment += 0.02
    assert own.heavy([MUCH]) == {MUCH: 0.0}


def test_one_that_drains_for_many_merchants_remembers_no_more_than_so_many(
    own: Shares, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shares, "MOST_MERCHANTS", 2)
    for merchant_id in range(10):
        uses(own, clocks, merchant_id, 1)
    assert len(own._accounts) <= 3
