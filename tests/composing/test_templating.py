"""Merchants' templates do what Liquid does, and cannot be used against the portal."""

from __future__ import annotations

import time

import pytest

from portal.composing.templating import TemplateFailed, render
from portal.strict_json import loads

EVENT = {"id": "evt_1", "object_id": "1042", "data": {"total": "99.50", "lines": [{"sku": "A"}]}}
RECORD = {
    "note": None,
    "paid": True,
    "open": False,
    "tags": ["a", None, True, {"x": 1}],
    "small": 1e-05,
    "large": 1e22,
    "price": 99.5,
    "count": 12,
    "name": "Žofie",
    "lines": "a\r\nb\rc\nd",
    "nested": [[1, None], [False]],
    "bare": {},
    "none": [],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain text", "plain text"),
        ("Order {{ event.object_id }}: {{ event.data.total }}", "Order 1042: 99.50"),
        ('{"text": {{ event.data.total | json }}}', '{"text": "99.50"}'),
        ("{% for line in event.data.lines %}{{ line.sku }}{% endfor %}", "A"),
        ("{{ event.data.missing.deeper | default: '-' }}", "-"),
        ("{{ event.data.missing | json }}", "null"),
    ],
)
def test_a_template_is_filled_from_the_event(template: str, text: str):
    assert render(template, EVENT) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        # Nil is nothing, a boolean is its name, and what has parts is JSON.
        ("{{ r.note }}|{{ r.missing }}|{{ r.paid }}|{{ r.open }}", "||true|false"),
        ("{{ r.tags }}", '["a",null,true,{"x":1}]'),
        ("{{ r.bare }}{{ r.none }}", "{}[]"),
        ("{{ r.tags[3] }}", '{"x":1}'),
        ("{% echo r.tags %}", '["a",null,true,{"x":1}]'),
        ("{% cycle r.paid, 'b' %}{% cycle r.tags, 'b' %}", 'true["a",null,true,{"x":1}]'),
        ("{% capture c %}{{ r.nested }}{% endcapture %}{{ c }}", "[[1,null],[false]]"),
        ("{% assign t = r.tags %}{{ t }}", '["a",null,true,{"x":1}]'),
        ("{% for t in r.tags %}{{ t }},{% endfor %}", 'a,,true,{"x":1},'),
        ("{{ (1..3) }} {{ (1..3) | json }}", "1..3 [1,2,3]"),
        # Inside of filters too.
        (
            "{{ 'x' | append: r.paid }}{{ 'x' | append: r.note }}{{ 'x' | prepend: r.open }}",
            "xtruexfalsex",
        ),
        (
            "{{ r.paid | append: '!' }}{{ r.note | append: '!' }}{{ r.tags | append: '' }}",
            'true!!["a",null,true,{"x":1}]',
        ),
        ("{{ r.tags | join: ';' }}", 'a;;true;{"x":1}'),
        ("{{ r.nested | join: r.paid }}", "1truetruefalse"),
        ("{{ 'note: ~' | replace: '~', r.note }}{{ 'a true' | remove: r.paid }}", "note: a "),
        (
            "{{ r.note | default: r.tags }}{{ r.open | default: true }}",
            '["a",null,true,{"x":1}]true',
        ),
        ("{{ r.open | default: r.name, allow_false: true }}", "false"),
        ("{{ r.paid | upcase }}{{ r.paid | slice: 0, 2 }}{{ r.tags | slice: 0 }}", 'TRUEtr["a"]'),
        ("{{ r.tags | map: 'y' }}{{ r.tags | slice: 3 | map: 'y' }}", "[null]"),
        ("{{ r.paid | url_encode }}{{ r.bare | url_encode }}", "true%7B%7D"),
        ("{% case r.paid %}{% when true %}yes{% when 'true' %}text{% endcase %}", "yes"),
        ("{% if r.note == nil %}1{% endif %}{% if r.open == false %}2{% endif %}", "12"),
        (
            "{{ r.lines }}\r\n{% capture c %}{{ r.lines }}{% endcapture %}{{ c }}",
            "a\r\nb\rc\nd\r\na\r\nb\rc\nd",
        ),
        # Numbers, without an exponent.
        (
            "{{ r.small }} {{ r.large }} {{ r.price }} {{ r.count }}",
            "0.00001 10000000000000000000000 99.5 12",
        ),
        (
            "{{ r.small | append: '€' }} {{ r.small | times: 3 }} {{ r.price | plus: 1 }}",
            "0.00001€ 0.00003 100.5",
        ),
    ],
)
def test_what_is_no_text_is_printed_for_a_receiver(template: str, text: str):
    assert render(template.replace("r.", "event.data."), {"data": RECORD}) == text


NUMBERS = loads("""{
    "price": 99.50, "text": "3.10", "half": 2.5, "minus_half": -2.5, "cents": 1.005,
    "small": 1.50e-5, "power": 1e22,
    "large": 123456789012345678.91, "larger": 123456789012345678.92,
    "whole": 123456789012345678901234567890, "tiny": 1e-999999, "tiniest": 1e-99999999999999999999,
    "list": [0.1, 0.2, 0.30], "lines": [{"p": 10.10}, {"p": "2.20"}, {"q": 1}],
    "mixed": [123456789012345678.92, 123456789012345678.91, 2, 10.50]
}""")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ r.price }} {{ r.price | plus: 1 }} {{ r.price | minus: 0.50 }}", "99.50 100.50 99.00"),
        ("{{ r.price | times: 2 }} {{ r.price | divided_by: 2 }}", "199.00 49.75"),
        ("{{ r.price | modulo: 10 }} {{ 99.50 | plus: 1 }} {{ 1.10 }}", "9.50 100.50 1.10"),
        (
            "{{ r.text | plus: 1 }} {{ ' 3.10 ' | at_least: 2 }} {{ 1 | plus: r.text }}",
            "4.10 3.10 4.10",
        ),
        # What is no number is 0.
        ("{{ 'abc' | plus: 1 }} {{ nil | plus: 1.10 }} {{ true | plus: 1 }}", "1 1.10 1"),
        # Long ones keep every digit.
        (
            "{{ r.large | plus: 0.01 }} {{ r.large | times: 1 }}",
            "123456789012345678.92 123456789012345678.91",
        ),
        (
            "{{ r.large | divided_by: 1 }} {{ r.large | minus: 1 }} {{ r.large | abs }}",
            "123456789012345678.91 123456789012345677.91 123456789012345678.91",
        ),
        (
            "{{ r.whole | times: 10 }} {{ r.whole | divided_by: 7 }}",
            "1234567890123456789012345678900 17636684144620811271604938270",
        ),
        (
            "{{ r.whole | plus: 0.5 }} {{ r.whole | modulo: 1000 }} {{ r.large | ceil }}",
            "123456789012345678901234567890.5 890 123456789012345679",
        ),
        (
            "{{ r.large | at_most: r.larger }} {{ r.large | at_least: r.larger }}",
            "123456789012345678.91 123456789012345678.92",
        ),
        (
            "{{ r.large | round: 1 }} {{ r.large | floor }}",
            "123456789012345678.9 123456789012345678",
        ),
        # Halves go away from zero, and none gains a place.
        (
            "{{ r.half | round }} {{ r.minus_half | round }} {{ 0.5 | round }} {{ 1.5 | round }}",
            "3 -3 1 2",
        ),
        (
            "{{ r.cents | round: 2 }} {{ 99.996 | round: 2 }} {{ 99.5 | round: 2 }}",
            "1.01 100.00 99.5",
        ),
        (
            "{{ '0.00' | times: -1 }} {{ 0.0 | divided_by: -2 }} {{ -6.0 | modulo: 3 }}",
            "0.00 0.0 0.0",
        ),
        ("{{ 1250 | round: -2 }} {{ 5.666 | round: -2 }} {{ -0.001 | round: 2 }}", "1300 0 0.00"),
        ("{{ 3.5 | round: 'x' }} {{ 1.2345 | round: '3' }} {{ 12 | round: 2 }}", "4 1.235 12"),
        ("{{ 1.5 | round: 99999999999 }} {{ 15 | round: -99999999999 }}", "1.5 0"),
        # Whole numbers divide into whole ones, downwards; remainders have the divisor's sign.
        (
            "{{ 20 | divided_by: 7 }} {{ 20 | divided_by: 7.0 }} {{ -7 | divided_by: 2 }}",
            "2 2.857142857142857142857142857 -4",
        ),
        ("{{ -7 | modulo: 3 }} {{ -7.5 | modulo: 3 }} {{ 7.5 | modulo: -2 }}", "2 1.5 -0.5"),
        ("{{ r.half | ceil }} {{ r.minus_half | ceil }} {{ r.minus_half | floor }}", "3 -2 -3"),
        # Exponents.
        (
            "{{ r.small }} {{ r.small | plus: 0 }} {{ r.small | json }}",
            "0.0000150 0.0000150 1.50e-5",
        ),
        (
            "{{ r.power }} {{ r.power | plus: 1 }}",
            "10000000000000000000000 10000000000000000000001",
        ),
        ("{{ r.tiny }} {{ r.tiny | json }} {{ r.tiniest }}", "1e-999999 1e-999999 0"),
        ("{{ '1e3' | plus: 0 }} {{ r.price | plus: 1 | json }}", "1000 100.50"),
        # Lists, and what is compared.
        (
            "{{ r.list | sum }} {{ r.lines | sum: 'p' }} {{ r.list | join: ' ' }}",
            "0.60 12.30 0.1 0.2 0.30",
        ),
        ("{{ r.mixed | sort | join: ' ' }}", "2 10.50 123456789012345678.91 123456789012345678.92"),
        ("{% for i in r.list limit: 2 %}{{ i | times: 3 }} {% endfor %}", "0.3 0.6 "),
        (
            "{% if r.price == 99.5 %}1{% endif %}{% if r.list[0] == 0.1 %}2{% endif %}"
            "{% case r.price %}{% when 99.5 %}3{% endcase %}{% if r.list contains 0.3 "
            "%}4{% endif %}",
            "1234",
        ),
        (
            "{% if r.large == r.larger %}same{% endif %}{% if r.large < r.larger %}less{% endif %}",
            "less",
        ),
        ("{{ r.lines | where: 'p', 10.1 | size }} {{ r.mixed | uniq | size }}", "1 4"),
        (
            "{{ r.price | append: '€' }} {{ r.price | date: '%Y' }} "
            "{% for i in (1..r.half) %}{{ i }}{% endfor %}",
            "99.50€ 1970 12",
        ),
    ],
)
def test_numbers_are_computed_with_as_decimals(template: str, text: str):
    assert render(template.replace("r.", "event.data."), {"data": NUMBERS}) == text


@pytest.mark.parametrize(
    "number",
    [
        "1e-999999",
        "-1e-999999999999999999",
        "1e-100000000",
        "0." + "0" * 1_000_000 + "1",
        '"1e999999"',
        '"-1e999999999"',
        '"1e99999999999999999999"',
        '"' + "9" * 1_000_000 + '"',
    ],
)
@pytest.mark.parametrize(
    "template",
    [
        "{{ r.n | plus: 1 }}",
        "{{ 1 | minus: r.n }}",
        "{{ r.n | times: r.n }}",
        "{{ 1 | divided_by: r.n }}",
        "{{ r.n | round: 2 }}",
        "{{ r.n | ceil }}",
        "{{ 5.5 | modulo: r.n }}",
        "{{ 5.5 | round: r.n }}",
        "{{ r.n | at_least: 2 }}",
    ],
)
def test_a_number_of_millions_of_digits_costs_nothing(number: str, template: str):
    event = {"data": loads(f'{{"n": {number}}}')}
    started = time.process_time()
    with pytest.raises(TemplateFailed, match="cannot"):
        render(template.replace("r.", "event.data."), event)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ 1763930000 | date: '%Y-%m-%d %H:%M %z' }}", "2025-11-23 20:33 +0000"),
        ("{{ '1763930000' | date: '%H:%M %s %%s' }}", "20:33 1763930000 %s"),
        ("{{ '2025-11-23T20:33:20Z' | date: '%H:%M %s' }}", "20:33 1763930000"),
        ("{{ '2025-11-23T22:33:20+02:00' | date: '%H:%M %z %s' }}", "22:33 +0200 1763930000"),
        ("{{ '2025-11-23 20:33:20' | date: '%H:%M %z %s' }}", "20:33 +0000 1763930000"),
        ("{{ '23 Nov 2025 20:33 EST' | date: '%H:%M %z' }}", "20:33 -0500"),
        ("{{ '23 Nov 2025 20:33 PDT' | date: '%s' }}", "1763955180"),
        ("{{ '23 Nov 2025 20:33 CET' | date: '%H:%M %z' }}", "20:33 +0000"),
        ("{{ '2025-11-23 22:33:20 UTC+02:00' | date: '%H:%M %z %s' }}", "22:33 +0200 1763930000"),
        ("{{ 'Sun Nov 23 2025 15:33:20 GMT-0500 (EST)' | date: '%z %s' }}", "-0500 1763930000"),
        ("{{ 'Sun, 23 Nov 2025 20:33:20 GMT' | date: '%z %s' }}", "+0000 1763930000"),
        ("{{ '03.04.2026' | date: '%d.%m' }} {{ '29.11.2026' | date: '%F' }}", "03.04 2026-11-29"),
        ("{{ '03/04/2026' | date: '%m' }} {{ '23-NOV-2025' | date: '%F' }}", "03 2025-11-23"),
        ("{{ event.none | date: '%Y' }}|{{ '' | date: '%Y' }}|{{ 'soon' | date: '%Y' }}", "||soon"),
        ("{{ '67768036191676800' | date: '%d' }}", "67768036191676800"),
        ("{{ true | date: '%Y' }} {{ event | date: '%Y' }}", 'true {"id":"evt_1"}'),
        ("{{ 0 | date: '' }}{{ '9999999-01-01' | date: '%Y' }}", "09999999-01-01"),
    ],
)
def test_a_date_is_in_utc_wherever_the_portal_runs(
    monkeypatch: pytest.MonkeyPatch, zone: str, template: str, text: str
):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert render(template, {"id": "evt_1"}) == text
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'abc' | split: ',' | uniq: 5 }}",
        "{{ 'a,b' | split: ',' | sum }}",
        "{{ '/w==' | base64_decode }}",
        "{{ 'a' | append }}",
        "{{ event.data.lines | concat: 5 }}",
        "{{ event.data.lines | compact: 5 }}",
        "{{ 5 | modulo: 0 }}",
        "{{ 'inf' | times: 2 }}",
        "{{ 'nan' | round }}",
        "{{ 5.0 | modulo: 'x' }}",
        "{{ 1 | divided_by: 0.0 }}",
        "{{ 'a' | slice: 'b' }}",
        "{% if event.data.total > 5 %}{% endif %}",
        "{{ " + "(" * 2_000 + " }}",
        "{% if " + "true and " * 5_000 + "true %}{% endif %}",
        "{% break %}",
        "{% cycle %}",
    ],
)
def test_whatever_a_template_raises_is_a_sentence(template: str):
    with pytest.raises(TemplateFailed) as failed:
        render(template, EVENT)
    assert "argument:" not in str(failed.value)
    assert not str(failed.value).endswith(".")


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in (1..1000000000) %}x{% endfor %}",
        "{% for a in (1..900) %}{% for b in (1..900) %}{% for c in (1..900) %}x{% endfor %}"
        "{% endfor %}{% endfor %}",
        "{{ (1..1000000000) | join: ',' }}",
        "{{ (1..1000000000) | size }}",
        "{% assign s = 'aaaaaaaaaa' %}{% for i in (1..40) %}{% assign s = s | append: s %}"
        "{% endfor %}{{ s }}",
        "{% assign n = 9 %}{% for i in (1..60) %}{% assign n = n | times: n %}{% endfor %}{{ n }}",
        "{{ 'now' | date: '%999999999d' }}",
        "{% assign s = 'aaaaaaaaaa' %}{% for i in (1..4) %}{% assign s = s | replace: 'a', s %}"
        "{% endfor %}{{ s | replace: 'a', s | replace: 'a', s }}",
        "{% capture s %}{% for i in (1..4000) %}" + "x" * 1_000 + "{% endfor %}{% endcapture %}",
        "{% include 'other' %}",
        "{% render 'other' %}",
        "{{ 'a' | no_such_filter }}",
        "{% if %}",
        "{{ 1 | divided_by: 0 }}",
    ],
)
def test_a_template_that_does_too_much_or_is_wrong_fails_soon(template: str):
    started = time.monotonic()
    with pytest.raises(TemplateFailed):
        render(template, EVENT)
    assert time.monotonic() - started < 5
