"""The command line, `bin/portal`: what an operator does without a browser, and scripts do.

Exit codes: 0 done, 1 refused (one sentence on standard error), 2 wrong usage.
"""

from __future__ import annotations

import os

import click

from portal import env_file as settings_file
from portal.cli import people, traffic


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--env-file", default="", metavar="PATH",
    help="A file with settings, NAME=value a line (default: what PORTAL_ENV_FILE names).",
)
def cli(env_file: str) -> None:
    """Webhook Portal on the command line.

    It takes the same PORTAL_ environment variables as bin/run and works beside a running portal.
    """
    settings_file.use(env_file)
    os.umask(0o077)


for command in (
    people.merchant, people.user, people.member, people.api_key, people.audit, traffic.event,
    traffic.webhook, traffic.retention, traffic.migrate, traffic.secrets, traffic.settings,
):
    cli.add_command(command)
