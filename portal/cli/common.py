"""What every command shares: the portal around it, sentences for what goes wrong, columns."""

from __future__ import annotations

import functools
import json
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec

import click
from sqlalchemy.exc import DatabaseError, DBAPIError

from portal import clock, create_app
from portal.config import SettingError, load_config
from portal.errors import PortalError, Unavailable
from portal.journal import log_lines
from portal.models.user import MEMBER_ROLES
from portal.run import first_start
from portal.upkeep import refusals
from portal.web.rendering import visible

ACTOR = "cli"
P = ParamSpec("P")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
merchant_option = click.option("--merchant", "slug", required=True, help="The merchant's slug.")
role_option = click.option("--role", type=click.Choice(MEMBER_ROLES), help="Role at the merchant.")


def with_portal(command: Callable[P, None]) -> Callable[P, None]:
    """Run a command inside the portal, on a migrated database."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        first_start.check_current()
        command(*args, **kwargs)

    return _inside(run, may_be_new=False)


def with_new_portal(command: Callable[P, None]) -> Callable[P, None]:
    """Run a command inside a portal that may be new."""
    return _inside(command, may_be_new=True)


def _inside(command: Callable[P, None], *, may_be_new: bool) -> Callable[P, None]:
    """What is expected to go wrong becomes one sentence."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        # Who is asked for a password and leaves by Ctrl-C gets a terminal back that shows what they
        # type (portal.__main__ has it end at once).
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            config = load_config(first_start=may_be_new)
            log_lines.set_up(config.log_level, sys.stderr)
            with create_app(config).app_context():
                command(*args, **kwargs)
        except first_start.KeyIsThere:
            run(*args, **kwargs)
        except SettingError as error:
            raise click.ClickException(str(error)) from None
        except Unavailable as error:
            raise click.ClickException(refusals.in_words(error)) from None
        except PortalError as error:
            messages = [field_error.message for field_error in error.errors] or [error.detail]
            raise click.ClickException(" ".join(messages)) from None
        except DBAPIError as error:
            if not isinstance(error, DatabaseError):
                raise
            raise click.ClickException(first_start.unusable(error)) from None

    return run


def print_rows(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print a list as JSON, or as columns for people."""
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        return
    lines = [[name.replace("_", " ").upper() for name in rows[0]]]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _cell(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{name}:{item}" for name, item in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return visible(value)


def moment_of(moment: int, as_json: bool) -> int | str | None:
    """A moment (Unix µs) as whole Unix seconds for scripts, as ISO 8601 for people."""
    return clock.unix(moment) if as_json else clock.iso(moment)


def all_rows(listed: Callable[..., Any]) -> Iterable[Any]:
    """Every row of a listing that comes in pages."""
    cursor: str | None = ""
    while cursor is not None:
        page = listed(cursor, limit=500)
        for (row,) in page.rows:
            yield row
        cursor = page.next_cursor
