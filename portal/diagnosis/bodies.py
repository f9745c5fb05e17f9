"""Bodies of requests and answers for people: as text, or as a dump of bytes. Pure.

Bytes are kept as they came; here they are unpacked and decoded as their headers say, within bounds.
"""

from __future__ import annotations

import codecs
import encodings
import encodings.aliases
import json
import pkgutil
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

HEX_BYTES = 4_096
"""Bytes of a binary body that are shown."""
MAX_UNPACKED = 64 * 1024
"""Bytes that a packed body may become; the rest is cut off."""

_Headers = Iterable[tuple[str, str]] | None

_HTML = re.compile(r"\s*(<!--.*?-->\s*)?<(!doctype\s+html|html)[\s>]", re.I | re.S)
_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_CHARSET = re.compile(r";\s*charset\s*=\s*(?:\"([^\"]*)\"|([^\s;\"]+))", re.I)
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.I)
_META_BYTES = 1_024
"""Where a page has to say its charset (HTML, 4.2.5.4)."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NO_CHARSETS = frozenset({"idna", "punycode", "undefined", "utf-7", "utf_7"})
"""What Python knows as encodings of text, and nobody sends text in."""
_HALF = re.compile("[\ud800-\udfff]")
_WIDER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
}
"""What a declared charset stands for, by Python's names: the one that holds all of its letters and
those that are sent under its name (WHATWG Encoding, 4.2)."""
_KNOWN = frozenset(encodings.aliases.aliases).union(
    module.name for module in pkgutil.iter_modules(encodings.__path__)
)
"""Python's names of encodings. It is asked for no other, and for none in another spelling: it
remembers every name that it was ever asked for, and answers name whatever they like."""
_GZIP, _ZLIB, _FRAMELESS = 31, 15, -15
_WINDOW_BITS = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (_ZLIB, _FRAMELESS)}
"""Of zlib, for each content coding that it unpacks (RFC 9110, 8.4.1). Some send "deflate" without
the frame that it has by its name."""
_MAX_CODINGS = 3
"""How often packed a body is unpacked: none is more than once but by mistake."""


@dataclass(frozen=True)
class Readable:
    """A body for people: text and its language, or a dump of bytes (`is_binary`)."""

    text: str
    language: str
    is_binary: bool
    is_cut: bool = False
    charset: str | None = None
    """Which one it was decoded by, where that is not UTF-8."""
    packing: str | None = None
    """What it was unpacked from, such as gzip."""


def readable(body: bytes, headers: _Headers = None) -> Readable:
    """A body as text, unpacked and decoded as its headers say; without a word of theirs where it is
    UTF-8 without control characters. Otherwise a hex dump of its first HEX_BYTES."""
    unpacked, packing, is_cut = _unpacked(body, headers)
    charset = _declared_charset(unpacked, headers)
    text = _utf8(unpacked) if charset is None else _decoded(unpacked, charset)
    if text is None or _UNREADABLE.search(text):
        return _dump(body)
    named = None if charset in (None, "utf-8", "utf-8-sig") else charset
    return Readable(text, "json" if _is_json(text) else "text", False, is_cut, named, packing)


def is_web_page(headers: _Headers, body: bytes | None) -> bool:
    """Whether an answer is an HTML page, such as one to sign in: a receiver of webhooks has
    nothing to show, so something else answered."""
    if not body:
        return False
    headers = list(headers or [])
    if _value(headers, "content-type").startswith("text/html"):
        return True
    shown = readable(body, headers)
    return not shown.is_binary and _HTML.match(shown.text) is not None


def _value(headers: _Headers, name: str) -> str:
    values = (value for one, value in headers or [] if one.lower() == name)
    return ", ".join(values).strip().lower()


def _unpacked(body: bytes, headers: _Headers) -> tuple[bytes, str | None, bool]:
    """The body without its content codings (RFC 9110, 8.4), what they were, and whether more would
    have come. A body with one that is not known is left as it is."""
    value = _value(headers, "content-encoding")
    codings = [one for part in value.split(",") if (one := part.strip()) not in ("", "identity")]
    if not codings or len(codings) > _MAX_CODINGS or not _WINDOW_BITS.keys() >= set(codings):
        return body, None, False
    unpacked, is_cut = body, False
    for coding in reversed(codings):
        for bits in _WINDOW_BITS[coding]:
            if (found := _inflated(unpacked, bits)) is not None:
                break
        else:
            return body, None, False
        unpacked, is_cut = found[0], is_cut or found[1]
    return unpacked, ", ".join(codings), is_cut


def _inflated(body: bytes, bits: int) -> tuple[bytes, bool] | None:
    """What zlib unpacks of all parts of a body, and whether more would have come; None for what is
    not packed so."""
    unpacked, is_packed = bytearray(), not body
    rest = body
    while rest and len(unpacked) < MAX_UNPACKED:
        unpacker = zlib.decompressobj(bits)
        try:
            unpacked += unpacker.decompress(rest, MAX_UNPACKED - len(unpacked))
        except zlib.error:
            break
        is_packed = is_packed or unpacker.eof or bool(unpacked)
        rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        if bits == _FRAMELESS and (rest or not unpacker.eof) and len(body) < MAX_UNPACKED:
            # Without a frame nearly any text begins like something packed.
            return None
        if not unpacker.eof or bits != _GZIP:
            break
    return (bytes(unpacked), bool(rest) and len(unpacked) == MAX_UNPACKED) if is_packed else None


def _declared_charset(body: bytes, headers: _Headers) -> str | None:
    """The charset that a body begins with or is declared to have; None for none that is known."""
    for mark, charset in _MARKS:
        if body.startswith(mark):
            return charset
    kind = _value(headers, "content-type")
    found = _CHARSET.search(kind)
    name = (found[1] or found[2]) if found else None
    if name is not None:
        return _known(name)
    may_be_a_page = not kind or "html" in kind or "xml" in kind
    if may_be_a_page and (meta := _META.search(body[:_META_BYTES])):
        known = _known(meta[1].decode("ascii"))
        # It could be read, so it is not what it says (HTML, 13.2.3.2).
        return "utf-8" if known and known.startswith("utf-16") else known
    return None


def _known(name: str) -> str | None:
    # Some have an x- from before they were registered, such as x-sjis.
    spelt = (_normal(name), _normal(name.lower().removeprefix("x-")))
    found = next((one for one in spelt if one in _KNOWN), None)
    if found is None:
        return None
    try:
        charset = codecs.lookup(found).name
        # Those that make no text of bytes, such as base64, are refused here.
        b"a".decode(charset, "replace")
    except (LookupError, ValueError):
        return None
    if charset in _NO_CHARSETS or "escape" in charset:
        return None
    return _WIDER.get(charset, charset)


def _normal(name: str) -> str:
    return encodings.normalize_encoding(name.strip()).lower()


def _decoded(body: bytes, charset: str) -> str | None:
    """Text, with a mark for what is broken; a character that was cut off at the end is left out."""
    try:
        text = codecs.getincrementaldecoder(charset)("replace").decode(body)
    except (LookupError, ValueError):
        return None
    # A codec may make halves of characters, which no text has.
    return text.encode("utf-8", "replace").decode() if _HALF.search(text) else text


def _utf8(body: bytes) -> str | None:
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        return None


def _dump(body: bytes) -> Readable:
    lines = []
    for start in range(0, min(len(body), HEX_BYTES), 16):
        part = body[start : start + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {letters}")
    return Readable("\n".join(lines), "text", is_binary=True, is_cut=len(body) > HEX_BYTES)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True
