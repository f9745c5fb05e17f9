"""What is not shown though nobody marked it secret: values whose names sound like it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from portal.models.webhook import MASK

_TELLING = re.compile(
    r"authorization|cookie|secret|token|passw|api[-_]?key|access[-_]?key|credential|\b(key|sig)\b",
    re.I,
)


def pairs(
    given: Iterable[tuple[str, str]], secret_names: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Headers without the values of those whose names sound secret or, in small letters, are
    among `secret_names`."""
    return [
        (
            name,
            uri(value, secret_names)
            if name.lower() == "location"
            else MASK
            if _is_secret(name, secret_names)
            else value,
        )
        for name, value in given
    ]


def uri(text: str, secret_names: Collection[str] = ()) -> str:
    """A URI whose query parameters are masked in the same way."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return text.partition("?")[0]
    query = "&".join(
        f"{name}={MASK}" if equals and _is_secret(unquote_plus(name), secret_names) else one
        for one in parts.query.split("&")
        for name, equals, _ in [one.partition("=")]
    )
    return urlunsplit(parts._replace(query=query))


def _is_secret(name: str, secret_names: Collection[str]) -> bool:
    return name.lower() in secret_names or bool(_TELLING.search(name))
