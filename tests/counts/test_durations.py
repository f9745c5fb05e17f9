"""Quantiles from classes of durations are near what the durations say themselves."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.clock import MILLISECOND, SECOND
from portal.counts import durations
from portal.db.session import db
from tests.conftest import on_both_databases


def classes(values: list[int]) -> Counter[int]:
    return Counter(sum(value >= bound for bound in durations.BOUNDS) for value in values)


def test_nothing_has_no_quantile():
    assert durations.quantile({}, 0.95) is None


@pytest.mark.parametrize("part", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("median", [3 * MILLISECOND, 41 * MILLISECOND, 2 * SECOND])
def test_a_quantile_is_off_by_a_fifth_at_most(part: float, median: int):
    dice = random.Random(4)
    values = sorted(int(dice.lognormvariate(0, 0.6) * median) for _ in range(2_000))
    found = durations.quantile(classes(values), part)
    assert found == pytest.approx(values[int(part * len(values))], rel=0.2)


def test_what_is_below_and_above_the_scale_has_a_class_too():
    assert durations.quantile({0: 10}, 0.95) == pytest.approx(950, abs=1)
    assert durations.quantile(classes([60 * SECOND]), 0.5) == durations.BOUNDS[-1]


@on_both_databases
def test_the_database_finds_the_same_class(app: Flask):
    for value in (0, 999, 1_000, 1_413, 1_414, 41_000, 14_999_999, 600_000_000):
        found = db.session.scalar(sa.select(durations.class_of(sa.literal(value))))
        assert classes([value]) == {found: 1}
