"""What a cell does (portal.delivery.cells): it fills the templates that it is given, one request
after the other, until its input ends. Nothing is imported here that needs an application."""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import time
from types import FrameType
from typing import Any

from portal.delivery import templating
from portal.delivery.cell_limits import (
    CPU_SECONDS,
    MAX_MEMORY,
    MAX_TOGETHER,
    READY,
    TOO_LONG,
    TOO_MUCH_MEMORY,
    TOO_MUCH_TEXT,
)
from portal.strict_json import loads

NICE = 10
"""How much it yields the processor: beside who needs all of it, it has a tenth."""
_SIZE = struct.Struct(">I")


class _TimeIsOver(BaseException):
    """Not an Exception: templating makes a template's failure of each of those."""


def main() -> None:
    """Answer what is asked, until nobody asks any more."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What delivers and answers goes first: nobody is kept waiting by what others' templates take.
    os.nice(NICE)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    # Ctrl-C is for who asks, whose end is this one's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, _stop)
    read, write = sys.stdin.buffer.read, sys.stdout.buffer
    write.write(READY)
    write.flush()
    while size := read(_SIZE.size):
        event, templates = json.loads(read(_SIZE.unpack(size)[0]))
        began = time.process_time()
        filled = _fill(event, templates)
        answer = json.dumps([*filled, time.process_time() - began]).encode()
        write.write(_SIZE.pack(len(answer)) + answer)
        write.flush()


def _fill(event: str, templates: list[str]) -> tuple[list[str], str | None, int]:
    """The texts, why not, and which template that concerns."""
    texts: list[str] = []
    try:
        try:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            # Nobody handles this one: the kernel ends the process in the middle of any call.
            signal.setitimer(signal.ITIMER_VIRTUAL, 4 * CPU_SECONDS)
            _fill_each(event, templates, texts)
        finally:
            _rest()
    except _TimeIsOver:
        _rest()
        # It may have been stopped in the middle of keeping one.
        templating.forget_templates()
        return [], TOO_LONG, len(texts)
    except MemoryError:
        return [], TOO_MUCH_MEMORY, len(texts)
    except templating.TemplateFailed as error:
        return [], str(error), len(texts)
    return texts, None, 0


def _fill_each(event: str, templates: list[str], texts: list[str]) -> None:
    record: dict[str, Any] = loads(event)
    left = MAX_TOGETHER
    for template in templates:
        text = templating.render(template, record)
        left -= len(text.encode())
        if left < 0:
            raise templating.TemplateFailed(TOO_MUCH_TEXT)
        texts.append(text)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _TimeIsOver


def _rest() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
