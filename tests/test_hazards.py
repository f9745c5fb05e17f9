"""The list of what goes wrong, tests/faults/README.md, against the tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

FAULTS = Path(__file__).resolve().parent / "faults"
TABLE = (FAULTS / "README.md").read_text()


def test_every_line_of_the_list_has_its_test_and_every_test_its_line():
    named = set(re.findall(r"`(test_\w+\.py::test_\w+)`", TABLE))
    there = {
        f"{path.name}::{name}"
        for path in FAULTS.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert named == there


def test_no_line_is_left_out():
    lines = set(re.findall(r"\b[FR]\d+", " ".join(re.findall(r"^\| (.*?) \|", TABLE, re.M))))
    assert lines == {f"F{number}" for number in range(1, 19)} | {
        f"R{number}" for number in range(1, 12)
    }
