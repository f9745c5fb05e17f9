"""What both sides of a cell know: what a template is, what filling those of one request may take,
and where in the memory that they share what lies."""

from __future__ import annotations

CPU_SECONDS = 0.25
"""Time of the processor, for all templates of one request."""
READING_SECONDS = 1.0
"""The same, to read the record before: some ten times what the portal takes as one event."""
HEAVY_SECONDS = 0.05
"""From so much on others' templates do not wait behind it (portal.delivery.filling)."""
MAX_TOGETHER = 2 * 1024 * 1024
"""Bytes that they may make together."""
MAX_MEMORY = 512 * 1024 * 1024
"""Bytes of address space that a cell may have, Python and all (setrlimit(2), RLIMIT_AS)."""
READY = b"+"
"""What a cell says first, once it can be asked."""
READ_AT = ">d"
"""With what the memory begins: how much of the processor's time the process had had when the record
had been read; 0 before."""
ASKED = ">II"
"""What is said when the memory holds, behind that, so many bytes of templates (a JSON list),
and so many of an event (its JSON text)."""
ANSWERED = ">II"
"""What is said when it holds so many bytes of an answer there, and so many of what was made. An
answer is a JSON list: the sizes of the texts that were made, why they were not, which template that
concerns, and how much of the processor's time it took."""

TOO_LONG = (
    f"the template takes too long (more than {CPU_SECONDS * 1_000:.0f} ms of processor time); make "
    "it simpler"
)
RECORD_TOO_LONG = (
    f"the event takes too long to read (more than {READING_SECONDS:.0f} s of processor time), "
    "before any template is filled; send less in its record"
)
BUSY = (
    "to fill it takes too long, and not by its own fault: the portal's machine has no time for it "
    "now"
)
TOO_MUCH_MEMORY = "the template takes too much memory; make it simpler"
RECORD_TOO_LARGE = (
    "the event takes too much memory to read, before any template is filled; send less in its "
    "record"
)
TOO_MUCH_TEXT = f"the templates make more than {MAX_TOGETHER // 1024**2} MiB together"


def is_template(text: str) -> bool:
    """Whether the text holds Liquid at all."""
    return "{{" in text or "{%" in text
