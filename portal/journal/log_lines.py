"""The log: one line for each thing that happened, in one format whichever process writes it.

    2026-11-28T22:10:48.123Z WARNING portal.upkeep.refusals [0193b2…]: Refused a request. …

The time is in UTC; in brackets stands the request's ID, where there is a request. A traceback
follows its line, indented: what begins with a space is no line of the log.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import TextIO

from portal.characters import CONTROLS, LINE_ENDS, one_of
from portal.journal import request_ids

GRANIAN = {
    "loggers": {
        "_granian": {"handlers": [], "propagate": True},
        "granian.access": {"handlers": [], "propagate": True},
    }
}
"""Granian's logging (log_dictconfig), so that it has no format of its own."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_UNSAFE = one_of(CONTROLS, LINE_ENDS)


class Lines(logging.Formatter):
    """The format. What a stranger wrote can neither begin a line of its own nor steer a terminal:
    control characters of a message, and of a traceback's lines, are written as escapes."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s%(request)s: %(message)s")
        self.datefmt = "%Y-%m-%dT%H:%M:%S"
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, without a traceback."""
        request_id = request_ids.current()
        record.request = f" [{request_id}]" if request_id else ""
        record.message = _harmless(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: logging._SysExcInfoType) -> str:
        """A traceback, none of whose lines is one of the log."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        """A stack, none of whose lines is one of the log."""
        return _indented(super().formatStack(stack_info))


def _harmless(text: str) -> str:
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], _COLOUR.sub("", text))


def _indented(text: str) -> str:
    return "\n".join(f"    {_harmless(line)}" for line in text.split("\n"))


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Write this process's log, and that of what it forks, to `stream` (default: standard output)
    from `level` on. Whoever starts a process calls it first; what is forked has it already."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(Lines())
    logging.basicConfig(level=level, handlers=[handler])
    for name in GRANIAN["loggers"]:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # RQ's own lines about each job say nothing that the attempt log does not, and Alembic's tell of
    # its plugins at each start. Those of forms without a token and of limits would stand there once
    # for each request, so that strangers could fill the disk with them, and name what a limit is
    # counted for, which may be an inspector's address: portal.journal.security_log says the same,
    # seldom.
    for name in ("rq", "alembic.runtime.plugins", "flask_wtf.csrf", "flask-limiter"):
        logging.getLogger(name).setLevel(logging.WARNING)
