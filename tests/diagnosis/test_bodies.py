"""Bodies are shown as their headers say they are to be read, in bounds, and kept as they came."""

from __future__ import annotations

import encodings
import gzip
import time
import zlib

import pytest

from portal.diagnosis.bodies import MAX_UNPACKED, Readable, is_web_page, readable


def typed(kind: str, coding: str = "") -> list[tuple[str, str]]:
    return [("Content-Type", kind), ("CONTENT-ENCODING", coding)]


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("body", "kind", "text", "charset"),
    [
        ("在庫なし".encode("shift_jis"), "text/plain; charset=Shift_JIS", "在庫なし", "cp932"),
        ("Größe 5 €".encode("cp1252"), "text/plain;charset=ISO-8859-1", "Größe 5 €", "cp1252"),
        ("Größe".encode("iso8859-15"), 'a/b; x=1; Charset="iso-8859-15"', "Größe", "iso8859-15"),
        ("Größe".encode("utf-16"), "text/plain; charset=UTF-16", "Größe", "utf-16"),
        ("Größe".encode("utf-16-be"), "text/plain; charset=utf-16be", "Größe", "utf-16-be"),
        ("Größe".encode("utf-16"), "", "Größe", "utf-16"),
        ("Größe".encode(), "text/plain; charset=utf8", "Größe", None),
        ("Größe".encode("utf-8-sig"), "text/plain; charset=latin1", "Größe", None),
        ("Größe".encode(), "text/plain; charset=klingon", "Größe", None),
        ("Größe".encode(), "text/plain; charset=base64", "Größe", None),
        ("Größe".encode(), "text/plain; charset=", "Größe", None),
        (b"a\xffb", "text/plain; charset=utf-8", "a\ufffdb", None),
        ("Größe".encode()[:3], "", "Gr", None),
        ("在庫".encode("shift_jis")[:3], "a/b; charset=sjis", "在", "cp932"),
        (
            "<html><meta charset='windows-1251'>При".encode("cp1251"),
            "text/html",
            "<html><meta charset='windows-1251'>При",
            "cp1251",
        ),
        ("①～エラー㈱".encode("cp932"), "text/plain; charset=Shift_JIS", "①～エラー㈱", "cp932"),
        ("①～㈱".encode("cp932"), "text/plain; charset=x-sjis", "①～㈱", "cp932"),
        ("错误：镕".encode("gbk"), "text/plain; charset=gb2312", "错误：镕", "gb18030"),
        ("똠방".encode("cp949"), "text/plain; charset=EUC-KR", "똠방", "cp949"),
        (
            "<html><meta charset=utf-16>Größe".encode(),
            "text/html",
            "<html><meta charset=utf-16>Größe",
            None,
        ),
        (
            "“<meta charset=iso-8859-1>Größe".encode(),
            "text/plain",
            "“<meta charset=iso-8859-1>Größe",
            None,
        ),
    ],
)
def test_a_body_is_decoded_as_it_is_declared(body, kind, text, charset):
    assert readable(body, typed(kind)) == Readable(text, "text", False, charset=charset)


def test_names_of_charsets_that_answers_make_up_are_not_kept():
    names: dict[str, object] = encodings._cache  # type: ignore[attr-defined]
    for spelling in ("latin1", "latin-1"):
        assert readable(b"a", typed(f"text/plain; charset={spelling}")).text == "a"
    before = set(names)
    for number in range(9):
        readable(b"a", typed(f"text/plain; charset=klingon-{number}-{'x' * 60_000}"))
        readable(b"a", typed(f"text/plain; charset=latin{'-' * number}1"))
    assert set(names) == before


@pytest.mark.parametrize("kind", ["", "text/plain; charset=klingon", "text/plain; charset=zip"])
def test_what_is_no_utf8_and_not_declared_is_shown_as_bytes(kind: str):
    assert readable(b"Gr\xf6\xdfe", typed(kind)).is_binary
    assert readable(b"a\x00b", typed("text/plain; charset=utf-8")).is_binary


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("gzip", lambda data: gzip.compress(data)[:-6]),
    ],
)
def test_a_packed_body_is_unpacked_also_where_its_end_is_missing(coding, pack):
    shown = readable(pack(b'{"error":"no"}'), typed("application/json", coding))
    assert (shown.text, shown.language, shown.packing) == ('{"error":"no"}', "json", coding.lower())
    shown = readable(pack("Größe".encode("latin-1")), typed("a/b; charset=latin1", coding))
    assert (shown.text, shown.charset) == ("Größe", "cp1252")


def test_a_bomb_is_unpacked_to_what_is_kept_at_most_and_at_once():
    bomb = gzip.compress(b"x" * 60_000_000)[: 64 * 1024]
    started = time.thread_time()
    shown = readable(bomb, typed("text/plain", "gzip"))
    assert (len(shown.text), shown.is_cut) == (MAX_UNPACKED, True)
    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, gzip", "identity", "klingon"])
def test_what_is_not_packed_as_it_says_is_shown_as_it_came(coding: str):
    for text in ("plain", "{}", "[]", "1", "ok", "success", "no", "no such order" * 1_000):
        shown = readable(text.encode(), typed("text/plain", coding))
        assert (shown.text, shown.packing) == (text, None)


def test_all_parts_of_a_packed_body_are_unpacked():
    parts = gzip.compress(b"one, ") + gzip.compress(b"") + gzip.compress(b"two")
    shown = readable(parts, typed("text/plain", "gzip"))
    assert (shown.text, shown.is_cut) == ("one, two", False)
    shown = readable(gzip.compress(b"x" * 40_000) * 2, typed("text/plain", "gzip"))
    assert (shown.text, shown.is_cut) == ("x" * MAX_UNPACKED, True)
    shown = readable(gzip.compress(b"x" * MAX_UNPACKED), typed("text/plain", "gzip"))
    assert (len(shown.text), shown.is_cut) == (MAX_UNPACKED, False)


def test_of_a_packed_body_of_which_nothing_came_what_came_is_shown():
    assert readable(gzip.compress(b"lost")[:5], typed("text/plain", "gzip")).is_binary


def test_a_web_page_is_one_also_when_it_is_packed_or_in_utf16():
    page = "<!doctype html><html><title>Sign in</title>"
    assert is_web_page(typed("", "gzip"), gzip.compress(page.encode()))
    assert is_web_page(typed("a/b; charset=utf-16"), page.encode("utf-16"))
    assert is_web_page(None, page.encode())
    assert not is_web_page(typed("", "gzip"), gzip.compress(b"{}"))


def test_json_is_utf_8_whatever_it_quotes():
    body = '{"html":"<meta charset=iso-8859-1>Größe"}'
    assert "Größe" in readable(body.encode(), typed("application/json")).text


@pytest.mark.parametrize("coding", ["gzip, gzip", "identity, gzip, x-gzip", "gzip,identity,gzip"])
def test_what_was_packed_twice_is_unpacked_twice(coding: str):
    packed = gzip.compress(gzip.compress("Größe".encode()))
    assert readable(packed, typed("text/plain", coding)).text == "Größe"


@pytest.mark.parametrize("body", [gzip.compress(b"", mtime=0), b""], ids=["packed", "empty"])
def test_nothing_that_was_packed_is_nothing(body: bytes):
    shown = readable(body, typed("text/plain", "gzip"))
    assert (shown.text, shown.is_binary) == ("", False)


@pytest.mark.parametrize("name", sorted(set(encodings.aliases.aliases.values()) | {"utf-7"}))
@pytest.mark.parametrize(
    "body", [b"+2AA-\xff", b"\xd8\x00\x00a", b"\x00\xd8", b"\\ud800", bytes(range(256))]
)
def test_whatever_a_receiver_says_it_sends_the_text_can_be_written(name: str, body: bytes):
    """Half a character made the attempt an error of the API for as long as its body was kept."""
    readable(body, typed(f"text/plain; charset={name}")).text.encode()
