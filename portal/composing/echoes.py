"""What a receiver sends back of a request's secrets: many answer with the request as it came, and
what is logged of answers is read by all members, by who has a share link, and in each copy of the
database."""

from __future__ import annotations

import base64
import binascii
import html
import json
import time
import zlib
from collections.abc import Iterable
from math import inf
from urllib.parse import quote, quote_plus

from portal.models.webhook import MASK

SHORTEST = 4
"""Characters of a secret that is looked for: a shorter one stands in every text."""
MOST = 64 * 1024
_MASK_IN_BODY = "*" * len(MASK)
"""Whatever the body's charset is."""
_NARROW, _WIDE = ("utf-8",), ("utf-8", "utf-16-le", "utf-16-be")
"""Charsets in which secrets are looked for: also in those of two bytes, where there are NULs."""


class TooLong(Exception):
    """To look through an answer would take longer than there is time for it."""


class Echoes:
    """The secrets of a request in all the ways in which answers repeat them: as they are, and as
    URLs, JSON and HTML hold them."""

    def __init__(self, values: Iterable[str]):
        self._values = [one for value in values for one in _parts(value) if len(one) >= SHORTEST]
        self._texts: list[str] | None = None

    def __bool__(self) -> bool:
        return bool(self._values)

    def without(self, text: str, until: float = inf) -> str:
        """A header's value with the mask in place of each secret.

        Here and below: raises TooLong where the thread has used so much of the processor's time
        by then (`time.thread_time`) and there is more to look for.
        """
        for secret in self._spelled(until):
            if secret in text:
                text = text.replace(secret, MASK)
            _in_time(until)
        return text

    def without_in_body(self, body: bytes, packing: str = "", until: float = inf) -> bytes:
        """A body, likewise, no longer than it was. One that is packed (`packing`, as of the header
        Content-Encoding) and holds a secret comes unpacked, MOST bytes of it."""
        plain = _unpacked(body) if packing else body
        masked = plain
        for encoding in _WIDE if b"\0" in plain else _NARROW:
            mask = _MASK_IN_BODY.encode(encoding)
            for text in self._spelled(until):
                secret = text.encode(encoding, "replace")
                if secret in masked:
                    masked = masked.replace(secret, mask)
                _in_time(until)
        return body if masked == plain else masked[: len(plain)]

    def _spelled(self, until: float) -> list[str]:
        if self._texts is None:
            spelled = set[str]()
            for one in self._values:
                _in_time(until)
                spelled.update(_forms(one))
            # What holds another goes before it.
            self._texts = sorted(spelled, key=len, reverse=True)
        return self._texts


def _in_time(until: float) -> None:
    if until != inf and time.thread_time() > until:
        raise TooLong


def _unpacked(body: bytes) -> bytes:
    """What zlib makes of a body, whichever frame it has; as it is where that is nothing."""
    for window_bits in (zlib.MAX_WBITS + 32, -zlib.MAX_WBITS):
        try:
            if plain := zlib.decompressobj(window_bits).decompress(body, MOST):
                return plain
        except zlib.error:
            pass
    return body


def _parts(value: str) -> Iterable[str]:
    """A header's value; what follows a scheme such as Bearer in it; and what HTTP Basic makes of a
    password."""
    yield value
    scheme, _, rest = value.partition(" ")
    if not rest or not scheme.isalpha():
        return
    yield rest
    if scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return
        yield password


def _forms(secret: str) -> Iterable[str]:
    for ensure_ascii in (False, True):
        in_json = json.dumps(secret, ensure_ascii=ensure_ascii)[1:-1]
        # The second is PHP's.
        yield from (in_json, in_json.replace("/", "\\/"))
    in_url = (quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace"))
    # A URL within another's parameter, as of a redirect back, is encoded twice.
    yield from (secret, html.escape(secret), *in_url, *map(quote_plus, in_url))
    yield quote(secret, errors="replace")
