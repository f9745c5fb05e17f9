"""How things look in pages: fragment or page, and the filters that templates use.

What strangers wrote (names, URLs, bodies, headers) leaves here as inert text: escaped, bounded,
with control and direction characters made visible.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, make_response, render_template, request, url_for
from markupsafe import Markup, escape
from pygments import highlight as pygments_highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers.data import JsonLexer
from pygments.lexers.go import GoLexer
from pygments.lexers.javascript import JavascriptLexer
from pygments.lexers.php import PhpLexer
from pygments.lexers.python import PythonLexer
from pygments.lexers.ruby import RubyLexer
from pygments.lexers.shell import BashLexer

from portal import clock
from portal.characters import CONTROLS, DIRECTIONS, HALVES, INVISIBLE, one_of
from portal.logs.spellings import spellings
from portal.web import cookies

HIGHLIGHT_LIMIT = 100_000
"""Characters that are coloured; longer text is shown plain, since colouring takes its time."""
SHOWN_LIMIT = 2_000_000
"""Characters of one text that a page holds."""

_JSON_PARTS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')
_OPEN, _CLOSE = ("{", "["), ("}", "]")
# C0 and C1 controls but tab and line breaks; direction overrides and isolates; invisible spaces.
_UNSEEN = one_of(CONTROLS, r"\u061c", DIRECTIONS, INVISIBLE, HALVES, but="\t\n\r")
_TAG = re.compile("(<[^>]*>)")
_FORMATTER = HtmlFormatter(nowrap=True)
# No HTML, HTTP or XML: their lexers take minutes for 100 KB of text that is made for it.
_LEXERS = {
    "bash": BashLexer(stripnl=False, ensurenl=False),
    "json": JsonLexer(stripnl=False, ensurenl=False),
    # For the programs of portal.web.snippets, which strangers do not write.
    "python": PythonLexer(),
    "node": JavascriptLexer(),
    "php": PhpLexer(),
    "ruby": RubyLexer(),
    "go": GoLexer(),
}


def wants_fragment() -> bool:
    """Whether HTMX asks for a part of the page, not for the whole of it."""
    return request.headers.get("HX-Request-Type") == "partial"


def render(
    page: str, fragment: str | None = None, /, status: int = 200, **context: Any
) -> Response:
    """A page, or only its `fragment` where HTMX asks for a part.

    Takes two template names and their context. The page includes the fragment, so both show
    the same. Without a `fragment` it is always the page.
    """
    part = fragment is not None and wants_fragment()
    response = make_response(
        render_template(fragment if part and fragment else page, **context), status
    )
    response.vary.add("HX-Request-Type")
    return response


def visible(value: object) -> str:
    """Text in which what cannot be seen can be seen: `\\u202e` in place of the character.

    Bytes are read as UTF-8; a byte that is not UTF-8 is shown as `\\xff`.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = "" if value is None else str(value)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def pretty_json(text: str) -> str:
    """JSON text with line breaks and indents; its numbers and strings stay as they were written.

    What is not JSON, or is nested too deep to check or to indent, comes back unchanged.
    """
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return text
    pieces: list[str] = []
    depth = indents = 0
    parts = _JSON_PARTS.findall(text)
    for before, part, after in zip(["", *parts], parts, [*parts[1:], ""], strict=False):
        depth += (part in _OPEN) - (part in _CLOSE)
        if part == ":":
            pieces.append(": ")
        elif part in _CLOSE and before not in _OPEN:
            pieces.append(f"\n{'  ' * depth}{part}")
            indents += depth
        elif part == "," or (part in _OPEN and after not in _CLOSE):
            pieces.append(f"{part}\n{'  ' * depth}")
            indents += depth
        else:
            pieces.append(part)
        if indents > SHOWN_LIMIT:
            return text
    return "".join(pieces)


def highlight(value: object, language: str = "json") -> Markup:
    """Text, bytes or JSON-like data as HTML with Pygments classes, safe whatever it holds.

    `language` is one of _LEXERS, such as `json`; any other, and text over HIGHLIGHT_LIMIT, is
    shown plain; over SHOWN_LIMIT it is cut, and says so.
    """
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    text = visible(value)
    rest = len(text) - SHOWN_LIMIT
    if rest > 0:
        return escape(text[:SHOWN_LIMIT]) + Markup("\n<em>… {:,} more characters</em>").format(rest)
    if language == "json":
        text = pretty_json(text)
    if language not in _LEXERS or len(text) > HIGHLIGHT_LIMIT:
        return escape(text)
    return Markup(pygments_highlight(text, _LEXERS[language], _FORMATTER))


def marked(shown: Markup, found: str) -> Markup:
    """What `highlight` gave, with each place that holds a text, whatever the case, as <mark>.

    A place across two colours, such as a name and its value, is left as it is.
    """
    if not found:
        return shown
    spelled = sorted({visible(one) for one in spellings(found)}, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, spelled)), re.IGNORECASE)
    pieces: list[str] = []
    # Each second piece is a tag of the highlighter's own: in texts "<" is escaped.
    for number, piece in enumerate(_TAG.split(shown)):
        if number % 2:
            pieces.append(piece)
            continue
        text, end = html.unescape(piece), 0
        for match in pattern.finditer(text):
            pieces += (escape(text[end : match.start()]), "<mark>", escape(match[0]), "</mark>")
            end = match.end()
        pieces.append(escape(text[end:]))
    return Markup("".join(pieces))


def duration(microseconds: int | None) -> str:
    """µs for people: `0.4 ms`, `41 ms`, `1.25 s`, `2 min 5 s`; an en dash for None."""
    if microseconds is None:
        return "–"
    if microseconds < 10 * clock.MILLISECOND:
        return f"{microseconds / clock.MILLISECOND:.1f} ms"
    if microseconds < clock.SECOND:
        return f"{microseconds // clock.MILLISECOND} ms"
    if microseconds < clock.MINUTE:
        return f"{microseconds / clock.SECOND:.2f} s"
    minutes, rest = divmod(microseconds // clock.SECOND, 60)
    return f"{minutes} min {rest} s"


def size(count: int | None) -> str:
    """A number of bytes for people: `512 B`, `1.5 KiB`, `16 MiB`; an en dash for None."""
    if count is None:
        return "–"
    if count < 1024:
        return f"{count} B"
    power = min(int(math.log(count, 1024)), 3)
    return f"{count / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}".replace(".0 ", " ")


def status_class(status: int | None) -> str:
    """`2xx`, `3xx`, `4xx`, `5xx`; `none` where no answer came; `odd` for other numbers."""
    if status is None:
        return "none"
    return f"{status // 100}xx" if 100 <= status <= 599 else "odd"


def amount(count: int, cap: int = 1_000) -> str:
    """A count that was cut off at `cap`: `37`, or `1,000+`."""
    return f"{cap:,}+" if count >= cap else f"{count:,}"


def number(count: int) -> str:
    """A count for people: `12,345`."""
    return f"{count:,}"


def percent(part: float | None) -> str:
    """A part of a whole for people: `99.2 %`, never rounded up to all; an en dash for None."""
    if part is None:
        return "–"
    tenths = math.floor(part * 1_000 + 1e-9)
    return f"{tenths // 10} %" if tenths % 10 == 0 else f"{tenths / 10:.1f} %"


def change(current: float | None, before: float | None) -> str:
    """How a number differs from what it was: `+12 %`, `−3 %`, `as much`, `over 10 times as
    much`; empty where there is nothing to compare with."""
    if not before or current is None:
        return ""
    difference = round((current - before) * 100 / before)
    if not difference:
        return "as much"
    if difference > 900:
        return "over 10 times as much"
    return f"{'+' if difference > 0 else '−'}{abs(difference):,} %"


def attributes(values: Mapping[str, Any]) -> Markup:
    """HTML attributes from a macro's keyword arguments: `hx_get` becomes `hx-get`; True is an
    attribute without a value, False and None leave it out."""
    parts = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        name = name.replace("_", "-")
        parts.append(
            Markup(" {}").format(name) if value is True else Markup(' {}="{}"').format(name, value)
        )
    return Markup("").join(parts)


def dom_id(text: str) -> str:
    """A short ID for an element, the same for the same text."""
    return f"i{zlib.crc32(text.encode()):08x}"


def record_url(slug: str, object_type: str, object_id: str) -> str:
    """The page of a record. Senders choose what it is called: a browser would take `..` for the
    way up, and browsers, proxies and servers read slashes each in their own way, so such an ID
    stands in the query."""
    if object_id in (".", "..") or "/" in object_id or "\\" in object_id:
        return url_for("records.show", slug=slug, object_type=object_type, id=object_id)
    return url_for("records.show", slug=slug, object_type=object_type, object_id=object_id)


def asset(path: str) -> str:
    """The URL of a file under static/, which changes with its content."""
    return url_for("static", filename=path, v=digest(path))


def digest(path: str) -> str:
    """What the URL of a file under static/ says of its content."""
    file = Path(current_app.static_folder or "") / path
    return _digest(file, file.stat().st_mtime_ns)


@lru_cache
def _digest(file: Path, _changed: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:10]


def theme() -> str | None:
    """`light` or `dark` where the reader chose one; None follows the system."""
    chosen = request.cookies.get(cookies.THEME)
    return chosen if chosen in ("light", "dark") else None


def init_app(app: Flask) -> None:
    """Give templates their filters and globals."""
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(
        amount=amount,
        attributes=attributes,
        change=change,
        dom_id=dom_id,
        duration=duration,
        highlight=highlight,
        iso=clock.iso,
        marked=marked,
        number=number,
        percent=percent,
        size=size,
        status_class=status_class,
        utc=clock.utc,
        visible=visible,
    )
    app.jinja_env.globals.update(asset=asset, record_url=record_url, theme=theme)
