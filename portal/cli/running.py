"""Commands that run until they are told to stop; each loads what it needs when it is called."""

from __future__ import annotations

import sys

import click

from portal.cli.options import env_file_option


@click.command()
@env_file_option
def run() -> None:
    """Start everything: database, Redis, web, workers, cron.

    A first start makes the data directory, the secret key and a first sign-in, which is shown.
    Ctrl-C stops everything in order.
    """
    from portal.run import supervisor

    sys.exit(supervisor.main())


@click.command()
@click.option(
    "--part",
    type=click.Choice(["deliver", "maintenance", "cron", "all"]),
    default="all",
    show_default=True,
)
@click.option(
    "--processes",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Delivering processes (default: PORTAL_WORKERS).",
)
@env_file_option
def worker(part: str, processes: int) -> None:
    """Start what works behind the web: on one machine of several, or by hand."""
    from portal.run.worker import main

    main(part, processes)
