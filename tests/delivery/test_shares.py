"""Who has how much of a drain, beside others who are there (portal.delivery.shares)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from portal.delivery import shares
from portal.delivery.shares import Shares
from portal.fairness.company import BEGUN_SECONDS, Company

MUCH, LITTLE = 1, 2
MANY = 200


class Clock:
    """The clock of a drain, which goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.moment = 1_000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.moment)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def company(tmp_path: Path) -> Company:
    """As other processes have it."""
    return Company(tmp_path)


@pytest.fixture
def own(clock: Clock, tmp_path: Path) -> Shares:
    return Shares(Company(tmp_path))


def sends(own: Shares, merchant_id: int, deliveries: int) -> None:
    for _ in range(deliveries):
        own.begins(merchant_id)
    own.heavy([merchant_id])


def test_who_has_much_is_heavy_beside_others_alone(own: Shares, clock: Clock):
    sends(own, MUCH, MANY)
    assert own.heavy([MUCH]) == {}, "who is alone is not"
    sends(own, LITTLE, 1)
    assert own.heavy([MUCH, LITTLE]) == {MUCH: 0.0}
    clock.moment += 2
    sends(own, LITTLE, 1)
    assert own.heavy([MUCH, LITTLE]) == {}


def test_who_has_much_goes_on_where_nothing_has_begun_for_others(own: Shares, clock: Clock):
    for _ in range(1_000):
        # However long it has gone on: others are there, and there is nothing to do for them.
        sends(own, LITTLE, 1)
        sends(own, MUCH, MANY)
        clock.moment += 0.02
        assert own.heavy([MUCH, LITTLE]) == {MUCH: 0.0}


def test_others_in_other_processes_are_there_too(own: Shares, clock: Clock, company: Company):
    sends(own, MUCH, MANY)
    company.asked(f"merchant {MUCH}", clock.moment)
    assert not own.heavy([MUCH])
    company.asked(f"merchant {LITTLE}", clock.moment)
    assert own.heavy([MUCH]) == {MUCH: 0.0}


def test_who_is_heavy_stands_back_when_something_begins_for_others_and_not_for_ever(
    own: Shares, clock: Clock, company: Company
):
    sends(own, LITTLE, 1)
    sends(own, MUCH, MANY)
    assert own.heavy([MUCH]) == {MUCH: 0.0}
    waited = 0.0
    company.begins(f"merchant {LITTLE}", clock.moment)
    while own.heavy([MUCH])[MUCH]:
        clock.moment += 0.005
        waited += 0.005
        company.begins(f"merchant {LITTLE}", clock.moment)
    assert 0 < waited <= shares.PATIENCE_SECONDS + 0.01


def test_who_is_heavy_goes_on_when_what_has_begun_has_had_its_moment(
    own: Shares, clock: Clock, company: Company
):
    sends(own, LITTLE, 1)
    sends(own, MUCH, MANY)
    company.begins(f"merchant {LITTLE}", clock.moment)
    assert own.heavy([MUCH])[MUCH] > 0
    clock.moment += BEGUN_SECONDS
    assert own.heavy([MUCH]) == {MUCH: 0.0}


def test_nobody_stands_back_for_itself(own: Shares, clock: Clock, company: Company):
    sends(own, LITTLE, 1)
    sends(own, MUCH, MANY)
    company.begins(f"merchant {MUCH}", clock.moment)
    assert own.heavy([MUCH]) == {MUCH: 0.0}


def test_who_needs_little_is_not_heavy(own: Shares, clock: Clock):
    for _ in range(100):
        sends(own, MUCH, 10)
        sends(own, LITTLE, 1)
        clock.moment += 0.02
        assert LITTLE not in own.heavy([MUCH, LITTLE])
    assert MUCH in own.heavy([MUCH])


def test_one_that_drains_for_many_merchants_remembers_no_more_than_so_many(
    own: Shares, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shares, "MOST_MERCHANTS", 2)
    for merchant_id in range(10):
        sends(own, merchant_id, 1)
    assert len(own) <= 3
