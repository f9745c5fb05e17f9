"""The command line: what an operator does without a browser, and scripts do.

Exit codes: 0 done, 1 refused (one sentence on standard error), 2 wrong usage.
"""

from __future__ import annotations

import os
from importlib import import_module

import click

from portal.cli.options import env_file_option

_MODULES = {
    "run": "running",
    "worker": "running",
    "merchant": "people",
    "user": "people",
    "member": "people",
    "api-key": "people",
    "audit": "people",
    "event": "traffic",
    "webhook": "traffic",
    "retention": "traffic",
    "migrate": "traffic",
    "secrets": "traffic",
    "settings": "traffic",
}
"""The module of each command, which is loaded when that is called: those that work inside the
portal take two seconds for it, and a start is to begin at once."""


class Commands(click.Group):
    """The commands of _MODULES."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Click's. No command takes bytes that are no text: no database does."""
        for argument in args:
            if not argument.isascii() and any("\ud800" <= one <= "\udfff" for one in argument):
                shown = argument.encode(errors="surrogateescape").decode(errors="backslashreplace")
                raise click.UsageError(f"The argument “{shown[:200]}” is not UTF-8.", ctx)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as Click has it
        """Click's."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Click's."""
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"portal.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@env_file_option
def cli() -> None:
    """Webhook Portal on the command line.

    `run` starts everything. The others take the same PORTAL_ environment variables, and work beside
    a running portal.
    """
    os.umask(0o077)
