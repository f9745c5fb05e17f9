"""What both sides of a cell know: what a template is, and what filling those of one request may
take."""

from __future__ import annotations

CPU_SECONDS = 0.25
"""Time of the processor, for all templates of one request."""
HEAVY_SECONDS = 0.05
"""From so much on others' templates do not wait behind it (portal.delivery.filling)."""
MAX_TOGETHER = 2 * 1024 * 1024
"""Bytes that they may make together."""
MAX_MEMORY = 512 * 1024 * 1024
"""Bytes of address space that a cell may have, Python and all (setrlimit(2), RLIMIT_AS)."""
READY = b"+"
"""What a cell says first, once it can be asked."""

TOO_LONG = (
    f"the template takes too long (more than {CPU_SECONDS * 1_000:.0f} ms of processor time); make "
    "it simpler"
)
TOO_MUCH_MEMORY = "the template takes too much memory; make it simpler"
TOO_MUCH_TEXT = f"the templates make more than {MAX_TOGETHER // 1024 ** 2} MiB together"


def is_template(text: str) -> bool:
    """Whether the text holds Liquid at all."""
    return "{{" in text or "{%" in text
