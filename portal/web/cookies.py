"""The portal's own cookies, of all that a browser sends along: those of the whole domain too, and
whatever else anybody likes. Read in one pass here, and all others kept from the framework, whose
reading takes a second for 16 KB that are made for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SESSION = "portal_session"
DEVICE = "portal_device"
"""What says that somebody has signed in with this browser before."""
THEME = "portal_theme"
OWN = frozenset((SESSION, DEVICE, THEME))
MAX_LETTERS = 16 * 1024
MAX_COOKIES = 200
"""How many of one domain are read; browsers keep 180."""
MAX_QUOTED = 512
"""Letters of one in quotes, which the portal never sets so: to read these takes longer."""
_SEPARATES = "; "
_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*")
"""What may stand in one (RFC 6265, 4.1.1)."""
_ESCAPED = re.compile(r"\\([0-3][0-7]{2}|.)")


def joined(headers: Iterable[str]) -> str:
    """Several headers as one."""
    return _SEPARATES.join(headers)


def are_too_many(header: str) -> bool:
    """Whether a header holds more than is read."""
    return len(header) > MAX_LETTERS or header.count(";") >= MAX_COOKIES


def own(header: str) -> dict[str, str]:
    """Those of the portal in a Cookie header: of each name the first, where its value can be
    one."""
    found: dict[str, str] = {}
    for part in header[:MAX_LETTERS].split(";", MAX_COOKIES)[:MAX_COOKIES]:
        name, _, value = part.partition("=")
        name = name.strip(" \t")
        if name in OWN and name not in found:
            value = value.strip(" \t")
            if 1 < len(value) <= MAX_QUOTED and value[0] == value[-1] == '"':
                value = _ESCAPED.sub(_letter, value[1:-1])
            found[name] = value
    return {name: value for name, value in found.items() if _VALUE.fullmatch(value)}


def add_to(application: WSGIApplication) -> WSGIApplication:
    """The same application, which sees the portal's own cookies alone."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        header = environ.pop("HTTP_COOKIE", None)
        if header is not None:
            kept = _SEPARATES.join(f"{name}={value}" for name, value in own(header).items())
            if kept:
                environ["HTTP_COOKIE"] = kept
        return application(environ, start_response)

    return answer


def _letter(escaped: re.Match[str]) -> str:
    said = escaped[1]
    return said if len(said) == 1 else chr(int(said, 8))
