"""Options that commands share, whichever they are."""

from __future__ import annotations

import click

from portal.settings import env_file


def _use(_context: click.Context, _option: click.Parameter, path: str) -> None:
    env_file.use(path)


env_file_option = click.option(
    "--env-file",
    default="",
    metavar="PATH",
    expose_value=False,
    callback=_use,
    help="A file with settings, NAME=value a line (default: what PORTAL_ENV_FILE names).",
)
