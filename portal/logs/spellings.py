"""How a text may be spelled in JSON: records are kept as their senders wrote them. Pure."""

from __future__ import annotations

import json
import re

_ESCAPED_BY_SOME = re.compile(r"[<>&'+`\u007f\u2028\u2029]")


def spellings(text: str) -> list[str]:
    """The ways in which common writers of JSON put a text into a string: as it is, with escapes
    for what is not ASCII (PHP, Python), for slashes (PHP), for what HTML would read (Go, Rails,
    .NET); and as part of the JSON itself. One for most texts."""
    plain, ascii_only = (json.dumps(text, ensure_ascii=kind)[1:-1] for kind in (False, True))
    found = [text, plain, ascii_only]
    if not text.isascii():
        # An escape is of a letter in one case, and a search is for any.
        found += [json.dumps(one)[1:-1] for one in (text.lower(), text.upper())]
    found += [one.replace("/", "\\/") for one in found[1:]]
    found += [_ESCAPED_BY_SOME.sub(_escape, one) for one in (plain, ascii_only)]
    found.append(_ESCAPED_BY_SOME.sub(_escape, ascii_only.replace('\\"', "\\u0022")))
    return list(dict.fromkeys(found))


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
