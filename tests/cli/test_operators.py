"""What the guide for operators says is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from portal.cli import cli

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "operators.md").read_text()


def commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name


@pytest.mark.parametrize("command", list(commands(cli)))
def test_every_command_is_in_the_guide(command: str):
    assert any(line.startswith((f"| `{command} ", f"| `{command}`")) for line in GUIDE.splitlines())


def test_every_command_of_the_guide_exists():
    known = set(commands(cli))
    table = GUIDE.partition("## bin/portal")[2].splitlines()
    named = [line.removeprefix("| `") for line in table if line.startswith("| `")]
    assert len(named) == len(known)
    for line in named:
        assert any(line.startswith(command) for command in known), line
