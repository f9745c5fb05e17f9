"""`python -m portal.cli`."""

from portal.cli import cli

cli(prog_name="portal")
