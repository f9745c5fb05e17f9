"""The command line, `bin/portal`: what an operator does without a browser, and scripts do.

Exit codes: 0 done, 1 refused (one sentence on standard error), 2 wrong usage.
"""

from __future__ import annotations

import click

from portal.cli import people, traffic


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Webhook Portal on the command line.

    It takes the same PORTAL_ environment variables as bin/run and works beside a running portal.
    """


for command in (
    people.merchant, people.user, people.member, people.api_key, people.audit, traffic.event,
    traffic.webhook, traffic.retention, traffic.migrate, traffic.secrets, traffic.settings,
):
    cli.add_command(command)
