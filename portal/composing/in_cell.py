"""What a cell does (portal.composing.cells): it fills the templates that it is given, one request
after the other, until nobody is there who asks. Nothing is imported here that needs an application.

Its input is the memory that it shares with who asks, and its output a socket, over which both say
when there is something in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from portal.composing import templating
from portal.composing.cell_limits import (
    ANSWERED,
    ASKED,
    CPU_SECONDS,
    MAX_MEMORY,
    MAX_TOGETHER,
    READ_AT,
    READING_SECONDS,
    READY,
    RECORD_TOO_LARGE,
    RECORD_TOO_LONG,
    TOO_LONG,
    TOO_MUCH_MEMORY,
    TOO_MUCH_TEXT,
)
from portal.strict_json import loads

NICE = 10
"""How much it yields the processor: beside who needs all of it, it has a tenth."""
AGAIN_SECONDS = 0.05
"""After so much more of the processor's time it is stopped once more: libraries may take the first
time for a failure of theirs, and go on."""
_ASKED, _ANSWERED, _READ_AT = map(struct.Struct, (ASKED, ANSWERED, READ_AT))
_MEMORY, _SOCKET = 0, 1
_Made = TypeVar("_Made")
NICE_TRIES = 5
_OWN_GROUP = Path("/proc/self/autogroup")


def _yield_to_other_sessions() -> None:
    """Where the kernel shares the processors among sessions first (sched(7), autogroup), a nice
    value counts within one alone, and each part of the portal is one: a session of its own, which
    yields to all of them."""
    with contextlib.suppress(OSError):
        os.setsid()
        for _ in range(NICE_TRIES):
            try:
                _OWN_GROUP.write_text(str(NICE))
                break
            except BlockingIOError:
                # Who is not root may do it ten times a second, on the whole machine.
                time.sleep(0.1)


class _TimeIsOver(BaseException):
    """Not an Exception: templating makes a template's failure of each of those."""


def main() -> None:
    """Answer what is asked, until nobody asks any more."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What delivers and answers goes first: nobody is kept waiting by what others' templates take.
    os.nice(NICE)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    _yield_to_other_sessions()
    # Ctrl-C is for who asks, whose end is this one's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(_SOCKET, READY)
    while said := os.read(_SOCKET, _ASKED.size):
        sizes = _ASKED.unpack(said)
        began = time.process_time()
        texts, why, template = fill(*sizes)
        made = [text.encode() for text in texts]
        took = time.process_time() - began
        answer = json.dumps([[*map(len, made)], why, template, took]).encode()
        os.pwrite(_MEMORY, answer + b"".join(made), _READ_AT.size)
        os.write(_SOCKET, _ANSWERED.pack(len(answer), sum(map(len, made))))


def fill(size: int, event_size: int) -> tuple[list[str], str | None, int]:
    """The texts, why not, and which template that concerns."""
    texts: list[str] = []
    try:
        templates, record = _in_time(READING_SECONDS, _read, size, event_size)
    except _TimeIsOver:
        return [], RECORD_TOO_LONG, 0
    except MemoryError:
        return [], RECORD_TOO_LARGE, 0
    os.pwrite(_MEMORY, _READ_AT.pack(time.process_time()), 0)
    try:
        _in_time(CPU_SECONDS, _fill_each, record, templates, texts)
    except _TimeIsOver:
        # It may have been stopped in the middle of keeping one.
        templating.forget_templates()
        if len(texts) < len(templates):
            return [], TOO_LONG, len(texts)
    except MemoryError:
        return [], TOO_MUCH_MEMORY, len(texts)
    except templating.TemplateFailed as error:
        return [], str(error), len(texts)
    return texts, None, 0


def _in_time(seconds: float, do: Callable[..., _Made], *given: Any) -> _Made:
    """Do something within so much of the processor's time. Raises _TimeIsOver, also where what
    was raised before was taken for a failure of another kind."""
    is_over = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True
        raise _TimeIsOver

    try:
        try:
            signal.signal(signal.SIGPROF, stop)
            signal.setitimer(signal.ITIMER_PROF, seconds, AGAIN_SECONDS)
            # Nobody handles this one: the kernel ends the process in the middle of any call.
            signal.setitimer(signal.ITIMER_VIRTUAL, 4 * seconds)
            return do(*given)
        finally:
            _rest()
    except (_TimeIsOver, Exception):
        _rest()
        if is_over:
            raise _TimeIsOver from None
        raise


def _read(size: int, event_size: int) -> tuple[list[str], dict[str, Any]]:
    templates: list[str] = json.loads(os.pread(_MEMORY, size, _READ_AT.size))
    event = os.pread(_MEMORY, event_size, _READ_AT.size + size)
    # What was stored may hold half a character.
    record: dict[str, Any] = loads(event.decode("utf-8", "surrogatepass"))
    return templates, record


def _fill_each(record: dict[str, Any], templates: list[str], texts: list[str]) -> None:
    left = MAX_TOGETHER
    for template in templates:
        text = templating.render(template, record)
        left -= len(text.encode())
        if left < 0:
            raise templating.TemplateFailed(TOO_MUCH_TEXT)
        texts.append(text)


def _rest() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
