"""What texts are made of: characters that nobody sees and that steer what shows them, and digits.
Pure.

A set is written as the inside of a character class, in the one way that both Python and the
patterns of JSON Schema read.
"""

from __future__ import annotations

import re

CONTROLS = r"\u0000-\u001f\u007f-\u009f"
"""C0, DEL and C1; tabs and ends of lines are among them."""
LINE_ENDS = r"\u2028\u2029"
"""What Unicode adds to them."""
DIRECTIONS = r"\u202a-\u202e\u2066-\u2069"
"""Marks that change the direction of the text around them (Unicode TR 36)."""
INVISIBLE = r"\u200b-\u200f\u2060-\u2065\ufeff"
"""Spaces without width, joiners and marks."""
IGNORABLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
)
"""All that is shown as nothing (Unicode, Default_Ignorable_Code_Point); for Python alone."""
HALVES = r"\ud800-\udfff"
"""Halves of characters (surrogates), which JSON may hold and UTF-8 may not."""


def one_of(*sets: str, but: str = "") -> re.Pattern[str]:
    """A pattern for one character of these sets that is none of those in `but`."""
    # What is looked for stands first: so `re` skips at once what is none of it.
    return re.compile(f"[{''.join(sets)}]" + (f"(?<![{re.escape(but)}])" if but else ""))


NOT_TEXT = one_of(CONTROLS, HALVES)
"""What neither a name nor a word of a search holds."""
NOT_IN_LINE = one_of(CONTROLS, LINE_ENDS, DIRECTIONS)
"""What a text of one line does not hold."""


def printable(text: str, instead: str = "") -> str:
    """The text with `instead` for each character that cannot be printed; ends of lines are such."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else instead for letter in text)


def whole_number(text: str, digits: int = 9) -> int | None:
    """The number that a text of so many decimal digits at most is; None for another text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else None
