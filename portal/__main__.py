"""The command line: `webhook-portal` where the package is installed, else `python -m portal`;
bin/run and bin/portal come this way too."""

import signal
from collections.abc import Sequence

from portal import installed


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the arguments say, by default those of this process, and end it."""
    # Until what is to be done is loaded, which takes a second, there is nothing to end in order:
    # Ctrl-C ends this without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from portal.cli import cli

    cli(arguments, prog_name=installed.COMMAND)


if __name__ == "__main__":
    main()
