"""What cannot be seen is found, and left out or replaced."""

from __future__ import annotations

import re

import pytest

from portal.characters import (
    CONTROLS,
    HALVES,
    NOT_IN_LINE,
    NOT_TEXT,
    one_of,
    printable,
    whole_number,
)


@pytest.mark.parametrize("character", ["\x00", "\t", "\n", "\x1f", "\x7f", "\x85", "\x9f"])
def test_controls_are_in_no_text_and_in_no_line(character: str):
    assert NOT_TEXT.search(f"a{character}b")
    assert NOT_IN_LINE.search(f"a{character}b")


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u202e", "\u2066"])
def test_a_line_holds_no_other_end_and_keeps_its_direction(character: str):
    assert NOT_IN_LINE.search(f"a{character}b")
    assert not NOT_TEXT.search(f"a{character}b")


@pytest.mark.parametrize("text", ["", "Zürich", "在庫なし", "🛒", "a b", "~\xa0\xff"])
def test_what_people_write_is_let_through(text: str):
    assert not NOT_TEXT.search(text)
    assert not NOT_IN_LINE.search(text)


def test_some_of_a_set_may_be_let_through():
    pattern = one_of(CONTROLS, HALVES, but="\t\n")
    assert pattern.sub("?", "-a\tb\nc\rd\x00e\ud800f-") == "-a\tb\nc?d?e?f-"


def test_what_cannot_be_printed_is_left_out_or_replaced():
    assert printable("a\r\nb\u202ec") == "abc"
    assert printable("a\r\nb\u202ec", instead=" ") == "a  b c"
    assert printable("Zürich 🛒") == "Zürich 🛒"


def test_the_sets_read_the_same_in_json_schema():
    assert re.fullmatch(r"(\\u[0-9a-f]{4}|-)+", CONTROLS + HALVES)


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1.0", "1e3", "²", "١", "1234567890"])
def test_what_is_no_whole_number_is_none(text: str):
    assert whole_number(text) is None


def test_a_whole_number_has_so_many_digits_at_most():
    assert (whole_number("0"), whole_number("007"), whole_number("123456789")) == (0, 7, 123456789)
    assert (whole_number("12345", digits=5), whole_number("123456", digits=5)) == (12345, None)
