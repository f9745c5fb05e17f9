"""What was measured, for machines (JSON) and people (a table and a plot)."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.result import Row

DIRECTORY = Path(__file__).resolve().parent / "results"
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
PLOT = DOCUMENT.with_name("benchmarks.svg")
START, END = "<!-- measured: from here -->", "<!-- measured: to here -->"


def write(rows: Sequence[Row], receiver: str, seconds: float, quick: bool) -> None:
    """Write latest.json, the table in docs/benchmarks.md and its plot."""
    DIRECTORY.mkdir(exist_ok=True)
    about: dict[str, Any] = {
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds),
        "quick": quick,
        "receiver": receiver,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    (DIRECTORY / "latest.json").write_text(
        json.dumps({"about": about, "rows": [row.as_json() for row in rows]}, indent=1) + "\n"
    )
    text = DOCUMENT.read_text()
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    where = (
        f"Measured {about['measured_at'][:10]} on {about['cores']} cores ({about['machine']}, "
        f"Python {about['python']}), receiver: {receiver}, {round(seconds)} s in all."
    )
    DOCUMENT.write_text(f"{head}{START}\n{where}\n\n{table(rows)}\n{END}{tail}")
    PLOT.write_text(plot(rows))


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| # | measured | database | median | range | to reach | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        span = f"{min(row.samples):.3g} – {max(row.samples):.3g}" if len(row.samples) > 1 else "–"
        lines.append(
            f"| {row.number} | {row.title} | {row.database} | {row.figure:,.3g} {row.unit} | "
            f"{span} | {row.target} | {'reached' if row.reached else 'not reached'} |"
        )
        shown = {
            name.replace("_", " "): f"{value:,.4g}" if isinstance(value, float) else value
            for name, value in row.detail.items()
            if value is not None
        }
        if shown:
            detail = ", ".join(f"{name} {value}" for name, value in shown.items())
            lines.append(f"| | {detail} | | | | | |")
    return "\n".join(lines)


def plot(rows: Sequence[Row]) -> str:
    """The ratios as bars on a logarithmic scale, their ranges as lines (SVG)."""
    shown = [row for row in rows if row.unit == "×" and row.samples]
    height = 34 * len(shown) + 50
    import math

    def place(value: float) -> float:
        return 330 + (math.log10(min(max(value, 0.1), 1_000)) + 1) * 100

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        "<title>Ratios against baselines of the same run, logarithmic</title>",
        f'<rect width="760" height="{height}" fill="#ffffff"/>',
    ]
    for value in (0.1, 1, 10, 100, 1_000):
        parts.append(
            f'<line x1="{place(value):.0f}" y1="20" x2="{place(value):.0f}" y2="{height - 24}" '
            f'stroke="#d5d8de"/><text x="{place(value):.0f}" y="{height - 8}" '
            f'text-anchor="middle" fill="#555b66">{value:g}×</text>'
        )
    for number, row in enumerate(shown):
        top = 28 + 34 * number
        colour = "#3f51c5" if row.database == "sqlite" else "#0f7a5c"
        parts.append(
            f'<text x="8" y="{top + 14}" fill="#15171c">{escape(row.number)}  '
            f"{escape(row.title[:44])} ({row.database})</text>"
            f'<rect x="{place(0.1):.0f}" y="{top + 2}" height="16" fill="{colour}" '
            f'width="{place(row.figure) - place(0.1):.0f}"/>'
            f'<line x1="{place(min(row.samples)):.0f}" x2="{place(max(row.samples)):.0f}" '
            f'y1="{top + 10}" y2="{top + 10}" stroke="#15171c" stroke-width="2"/>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
