"""bin/bench: every row of the table on both databases, within ten minutes."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

from benchmarks import engine, hostile, product, report, retention, whole
from benchmarks.result import Row
from benchmarks.stand import Stand, stand

Measurement = Callable[[Stand], Row | list[Row]]


def measurements(kind: str, quick: bool, attacks: tuple[str, ...] = ()) -> dict[str, Measurement]:
    """What is measured on a database, by the rows that it fills; of row 16 these attacks alone,
    where any are named."""
    repeats = 2 if quick else 5
    size = 2_000 if quick else 6_000
    rows: dict[str, Measurement] = {
        "1 and 10": partial(engine.whole_delivery, events=size, repeats=repeats),
        "2": partial(engine.one_job_each, events=size // 2, repeats=repeats),
        "3": partial(product.single_ingest, events=size // 4, repeats=repeats),
        "4": partial(product.batch_ingest, events=size, repeats=repeats),
        "5": partial(product.latency, seconds=2 if quick else 8),
        "6": partial(engine.hanging, events=size, repeats=repeats),
        "7": partial(engine.slow_receivers, events=size, repeats=2 if quick else repeats),
        "9": partial(engine.fan_out, events=size * 2, repeats=repeats),
        "11": engine.memory,
        "12": partial(product.backlog, deliveries=10_000 if quick else 200_000),
        "13": partial(
            product.flood, events=5_000 if quick else 100_000, calm_events=75 if quick else 300
        ),
        "14": partial(whole.single_posts, events=size // 4, repeats=repeats),
        "16": partial(
            hostile.neighbours,
            seconds=2 if quick else 4,
            windows=1 if quick else 5 if attacks else 3,
            only=attacks,
        ),
    }
    if kind == "postgresql":
        rows["8"] = partial(product.two_workers, events=size * 5, repeats=1 if quick else repeats)
        rows["12"] = partial(product.backlog, deliveries=10_000 if quick else 50_000)
    return rows


def main() -> int:
    """Measure, print, write; 0 although a target was missed: the table says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer, under 2 minutes")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), help="only this one")
    parser.add_argument(
        "--row",
        action="append",
        default=[],
        help="only this row, such as 3, or several; nothing is written",
    )
    parser.add_argument(
        "--attack",
        action="append",
        default=[],
        choices=tuple(hostile.ATTACKS),
        help="of row 16 only this one, or several; nothing else is measured",
    )
    parser.add_argument(
        "--retention",
        type=int,
        metavar="EVENTS",
        help="only the clean-up of a log of so many events, such as 3000000; nothing is written",
    )
    arguments = parser.parse_args()
    if arguments.attack:
        arguments.row = ["16"]
    warnings.simplefilter("ignore")
    started = time.monotonic()
    rows: list[Row] = []
    receiver = ""
    for kind in ("sqlite", "postgresql"):
        if arguments.database not in (None, kind):
            continue
        with stand(kind) as place:
            receiver = place.receiver.kind
            wanted = measurements(kind, arguments.quick, tuple(arguments.attack))
            if arguments.retention:
                wanted = {"15": partial(retention.clean_up, events=arguments.retention)}
            for name, measure in wanted.items():
                if arguments.row and not set(arguments.row) & set(name.split()):
                    continue
                since = time.monotonic()
                print(f"{kind}: row {name} …", end=" ", flush=True)
                found = measure(place)
                rows += found if isinstance(found, list) else [found]
                print(f"{time.monotonic() - since:.0f} s", flush=True)
    rows.sort(key=lambda row: (int(row.number), row.database != "sqlite"))
    print()
    print(report.table(rows))
    if not (arguments.row or arguments.database or arguments.retention):
        report.write(rows, receiver, time.monotonic() - started, arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
