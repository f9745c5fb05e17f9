"""Durations in classes of a logarithmic scale, from whose counts a quantile is found. Pure.

Each class is 1.41 times as wide as the one before it, so that a quantile is off by a fifth at most,
from 1 ms to 23 s; counts of classes can be added up, quantiles cannot.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

BOUNDS = tuple(round(1_000 * 2 ** (step / 2)) for step in range(30))
"""Where classes 1 to 30 begin, in µs; class 0 is below the first."""


def class_of(microseconds: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """The class of a column of durations (µs), as an expression in SQL."""
    return sa.case(
        *(
            (microseconds >= sa.literal_column(str(bound)), sa.literal_column(str(number)))
            for number, bound in reversed(list(enumerate(BOUNDS, 1)))
        ),
        else_=sa.literal_column("0"),
    )


def quantile(counts: Mapping[int, int], part: float) -> int | None:
    """The duration (µs) that `part` (0 to 1) of the durations do not exceed, given how many each
    class has; None where there is none."""
    total = sum(counts.values())
    if not total:
        return None
    wanted = part * total
    seen = 0
    for number in sorted(counts):
        count = counts[number]
        if count and seen + count >= wanted:
            inside = max(0.0, (wanted - seen) / count)
            return _within(number, inside)
        seen += count
    return _within(max(counts), 1.0)


def _within(number: int, inside: float) -> int:
    if number == 0:
        return round(BOUNDS[0] * inside)
    low = BOUNDS[number - 1]
    high = BOUNDS[number] if number < len(BOUNDS) else low
    growth: float = (high / low) ** inside
    return round(low * growth)
