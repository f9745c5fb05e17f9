"""Merchants' templates do what Liquid does, and cannot be used against the portal."""

from __future__ import annotations

import time

import pytest

from portal.delivery.templating import TemplateFailed, render

EVENT = {"id": "evt_1", "object_id": "1042", "data": {"total": "99.50", "lines": [{"sku": "A"}]}}


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
