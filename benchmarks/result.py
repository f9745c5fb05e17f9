"""One row of the table: what was measured, against what, and what is to be reached."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Row:
    """A figure with its target. `samples` are the ratios of the single repeats."""

    number: str
    title: str
    database: str
    figure: float
    unit: str
    target: str
    reached: bool
    samples: list[float] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For benchmarks/results."""
        return asdict(self)


def ratio(
    number: str,
    title: str,
    database: str,
    ours: list[float],
    theirs: list[float],
    least: float,
    **detail: Any,
) -> Row:
    """Rates of ours ÷ theirs, pair by pair; reached when the median is at least `least`."""
    samples = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    figure = statistics.median(samples)
    return Row(
        number,
        title,
        database,
        figure,
        "×",
        f"≥ {least:g}",
        figure >= least,
        samples,
        {
            "ours_per_second": statistics.median(ours),
            "baseline_per_second": statistics.median(theirs),
        }
        | detail,
    )


def interleaved(
    repeats: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """A/B/A/B…: both ways in turn, so that what else the machine does meets both alike."""
    mine, others = [], []
    for _ in range(repeats):
        mine.append(ours())
        others.append(theirs())
    return mine, others
