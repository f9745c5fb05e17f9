"""A request as a cURL command line for any shell: what others wrote in it stays text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from portal.characters import CONTROLS, one_of

_STEERS = one_of(CONTROLS, but="\t\n")
_SPELLED = re.compile(rf"\A-|[!%\\{CONTROLS}](?<!\t)")
"""What a format of `printf` does not hold as itself: a hyphen at its start, controls, what has a
meaning in it, and the exclamation mark, by which bash looks for earlier commands also between
double quotes."""


def as_curl(
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]],
    body: str | None,
    *,
    shows_certificate: bool = False,
) -> str:
    """A cURL command line that makes the same request, quoted for a shell; a client
    certificate is taken from files."""
    parts = ["curl", "--request", method, _quoted(url)]
    if shows_certificate:
        parts += ["\\\n  --cert client.pem --key client.key"]
    for name, value in headers:
        # cURL leaves out a header with an empty value unless it ends in a semicolon.
        parts += ["\\\n  --header", _quoted(f"{name}: {value}" if value else f"{name};")]
    if body is not None and "\0" in body:
        # No argument can hold it.
        parts = ["printf", _format(body), "|\\\n", *parts, "\\\n  --data-binary @-"]
    elif body is not None:
        parts += ["\\\n  --data-raw", _quoted(body)]
    return " ".join(parts)


def _quoted(text: str) -> str:
    """A text as one argument, for any POSIX shell: control characters would steer the terminal
    that it is pasted into, and not all shells read the $'…' of some."""
    if not _STEERS.search(text):
        return shlex.quote(text)
    # A shell cuts off the line breaks at the end of what a command has written.
    start = text.rstrip("\n")
    end = shlex.quote(text[len(start) :]) if start != text else ""
    return f'"$(printf {_format(start)})"{end}'


def _format(text: str) -> str:
    """A text as the format by which `printf` writes it, quoted: it is bytes in octal that all know
    (POSIX, printf, "Extended Description")."""
    return shlex.quote(_SPELLED.sub(_spell, text))


def _spell(found: re.Match[str]) -> str:
    char = found[0]
    if char in "\\%":
        return char * 2
    return "\\n" if char == "\n" else "".join(f"\\{byte:03o}" for byte in char.encode())
