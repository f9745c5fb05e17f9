"""What strangers wrote leaves the portal as inert, bounded text."""

from __future__ import annotations

import html
import json
import re
import time

import pytest
from flask import Flask

from portal.web import rendering
from portal.web.rendering import (
    amount,
    attributes,
    duration,
    highlight,
    marked,
    pretty_json,
    size,
    status_class,
    visible,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", "a\\u202eb"),
        ("nul\x00", "nul\\u0000"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("grüße 你好", "grüße 你好"),
        (b"caf\xc3\xa9 \xff", "café \\xff"),
        ("lone \ud800", "lone \\ud800"),
        (None, ""),
        (7, "7"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: object, shown: str) -> None:
    assert visible(text) == shown


def test_pretty_json_keeps_numbers_strings_and_doubled_names_as_written() -> None:
    text = '{"a":1.50e3,"a":100000000000000000000000000,"s":"x, {\\u00e9} : [","l":[],"o":[{}]}'
    assert pretty_json(text) == (
        '{\n  "a": 1.50e3,\n  "a": 100000000000000000000000000,\n'
        '  "s": "x, {\\u00e9} : [",\n  "l": [],\n  "o": [\n    {}\n  ]\n}'
    )


@pytest.mark.parametrize("text", ["", "{", "<html>", '{"a": 1} x', "[" * 100_000, "'"])
def test_what_is_not_json_stays_as_it_is(text: str) -> None:
    assert pretty_json(text) == text


def test_json_that_would_be_mostly_indents_stays_as_it_is() -> None:
    text = "[" * 900 + ",".join("1" * 5_000) + "]" * 900
    assert pretty_json(text) == text


def test_pretty_json_has_the_same_content() -> None:
    record = {"total": "99.50", "lines": [{"sku": "A", "n": [1, [2, {"x": None}]]}], "e": {}}
    assert json.loads(pretty_json(json.dumps(record))) == record


@pytest.mark.parametrize("language", ["json", "bash", "html", "http", "no such language"])
def test_markup_in_a_body_is_text(language: str) -> None:
    shown = highlight("<script>alert('1')</script><b style=x>", language)
    assert "<script" not in shown
    assert "<b" not in shown


def test_json_is_coloured_with_classes_only() -> None:
    shown = highlight({"a": "b"})
    assert '<span class="nt">"a"</span>' in shown
    assert "style=" not in shown


@pytest.mark.parametrize(
    ("found", "marks"),
    [
        ("BELL", "Brass <mark>bell</mark>"),
        ('say "', "<mark>say \\&#34;</mark>"),
        ("<b>", "<mark>&lt;b&gt;</mark>"),
        ("amp", ""),
        ("quot", ""),
        ("span", ""),
        ("", ""),
    ],
)
def test_what_was_looked_for_is_marked_as_text(found: str, marks: str) -> None:
    record = {"name": "Brass bell", "note": 'say "hi" & <b>'}
    shown = marked(highlight(record), found)
    assert marks in shown
    assert shown.count("<mark>") == bool(marks)
    assert html.unescape(re.sub("<[^>]*>", "", shown)).strip() == pretty_json(json.dumps(record))


@pytest.mark.parametrize(
    "piece", ["<!--", "<a b='", "A", '"', "[", "[1,", "\\", "$(", "${", "<<a\n", "a=b ", "`", "/*"]
)
@pytest.mark.parametrize("language", ["json", "bash", "html", "http"])
def test_no_text_takes_long(piece: str, language: str) -> None:
    text = (piece * rendering.HIGHLIGHT_LIMIT)[: rendering.HIGHLIGHT_LIMIT]
    start = time.perf_counter()
    highlight(text, language)
    assert time.perf_counter() - start < 5


def test_endless_text_is_cut_and_says_so() -> None:
    shown = highlight("x" * (rendering.SHOWN_LIMIT + 1_234))
    assert len(shown) < rendering.SHOWN_LIMIT + 100
    assert "1,234 more characters" in shown


@pytest.mark.parametrize(
    ("microseconds", "shown"),
    [
        (None, "–"),
        (400, "0.4 ms"),
        (41_000, "41 ms"),
        (1_250_000, "1.25 s"),
        (125_000_000, "2 min 5 s"),
    ],
)
def test_durations_are_for_people(microseconds: int | None, shown: str) -> None:
    assert duration(microseconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "–"),
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1 KiB"),
        (1_536, "1.5 KiB"),
        (16 * 1024**2, "16 MiB"),
        (10 * 1024**3, "10 GiB"),
        (5 * 1024**4, "5120 GiB"),
    ],
)
def test_sizes_are_for_people(count: int | None, shown: str) -> None:
    assert size(count) == shown


def test_a_status_has_a_class() -> None:
    assert [status_class(code) for code in (None, 204, 301, 404, 503, 999, 42)] == [
        "none",
        "2xx",
        "3xx",
        "4xx",
        "5xx",
        "odd",
        "odd",
    ]


def test_a_count_that_was_cut_off_says_so() -> None:
    assert [amount(37), amount(999), amount(1_000), amount(50, cap=50)] == [
        "37",
        "999",
        "1,000+",
        "50+",
    ]


def test_attributes_are_escaped_and_left_out_when_false() -> None:
    values = {"hx_get": '/x"><script>', "required": True, "disabled": False, "min": None, "max": 0}
    assert attributes(values) == (' hx-get="/x&#34;&gt;&lt;script&gt;" required max="0"')


def test_a_fragment_is_given_only_to_those_who_ask_for_a_part(app: Flask) -> None:
    for kind, part in (("partial", True), ("full", False), ("", False)):
        with app.test_request_context(headers={"HX-Request-Type": kind}):
            shown = rendering.render(
                "errors/page.html", "errors/_message.html", title="t", remedy="r", status_code=400
            )
        assert (b"<html" not in shown.data) is part
        assert "HX-Request-Type" in shown.headers["Vary"]


def test_the_address_of_a_file_changes_with_its_content(app: Flask) -> None:
    with app.test_request_context():
        assert rendering.asset("app.css").startswith("/static/app.css?v=")
        assert rendering.asset("app.css") != rendering.asset("app.js").replace("js", "css")


@pytest.mark.parametrize(
    ("part", "text"),
    [(None, "–"), (0, "0 %"), (0.5, "50 %"), (0.9996, "99.9 %"), (1.0, "100 %"), (0.29, "29 %")],
)
def test_a_part_is_never_rounded_up_to_the_whole(part: float | None, text: str):
    assert rendering.percent(part) == text


@pytest.mark.parametrize(
    ("current", "before", "text"),
    [
        (112, 100, "+12 %"),
        (97, 100, "−3 %"),
        (100, 100, "as much"),
        (5, 0, ""),
        (None, 9, ""),
        (5, None, ""),
        (64, 2, "over 10 times as much"),
    ],
)
def test_a_change_is_said_where_there_is_something_to_compare_with(
    current: int | None, before: int | None, text: str
):
    assert rendering.change(current, before) == text
