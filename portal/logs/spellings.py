"""How a text may be spelled in JSON: records are kept as their senders wrote them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

FOLDED_AT_ONCE = 65_536
"""Characters."""

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


def finder(text: str) -> Callable[[str], bool]:
    """Tells of a record's JSON text whether it holds a text in any of its spellings, whatever the
    case of any letter in it.

    What it takes grows with the record, and not with the record times the text: Python looks for
    a text by the two-way algorithm (Crochemore and Perrin, 1991), where LIKE, instr() and strpos()
    begin again at every letter. 250 `x` and a `y` take 3 ms in a million `x` here, and by LIKE 330
    to 590 ms.
    """
    folded = {one.casefold() for one in spellings(text)}
    in_bytes = [one.encode() for one in folded if one.isascii()]

    def holds(record: str) -> bool:
        if text.isascii() or record.isascii():
            # In bytes: to fold other letters takes four times as long.
            folded_bytes = record.encode().lower()
            return any(one in folded_bytes for one in in_bytes)
        # Part by part: the other threads wait while one is folded.
        folded_text = "".join(
            record[start : start + FOLDED_AT_ONCE].casefold()
            for start in range(0, len(record), FOLDED_AT_ONCE)
        )
        return any(one in folded_text for one in folded)

    return holds


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
