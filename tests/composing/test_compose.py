"""The request that a preview shows is the one that is sent."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from portal.composing.compose import ComposeError, Composer, Payload, Target, event_body
from portal.models.webhook import MASK, Pair

SECRET = "whsec_" + base64.b64encode(b"0" * 32).decode()
NOW = 1_763_930_000_000_000
PAYLOAD = Payload('{"id":"evt_1","object_id":"7 & 8"}', '{"total":"99.50"}', '{"total":"89.50"}')


def pair(name: str, value: str, secret: bool = False) -> Pair:
    return {"name": name, "value": value, "secret": secret}


def target(**changes: object) -> Target:
    fields = {"method": "POST", "url": "https://shop.example/hook", "signing_secrets": [SECRET]}
    return Target(**(fields | changes))  # type: ignore[arg-type]


def test_parameters_join_those_that_the_url_has():
    composed = Composer(
        target(url="https://shop.example/hook?x=1", query_params=[pair("store", "7 ü")])
    ).compose("evt_1", PAYLOAD, NOW)
    assert composed.url == "https://shop.example/hook?x=1&store=7+%C3%BC"


def test_the_body_is_spliced_from_what_was_stored():
    assert event_body(PAYLOAD, include_record=False) == PAYLOAD.head
    assert event_body(PAYLOAD, include_record=True) == (
        '{"id":"evt_1","object_id":"7 & 8","data":{"total":"99.50"},"previous":{"total":"89.50"}}'
    )
    composed = Composer(target(include_object_record=False)).compose("evt_1", PAYLOAD, NOW)
    assert composed.body == PAYLOAD.head.encode()
    assert composed.body_kind == "thin"


def test_liquid_fills_parameters_headers_and_body():
    composed = Composer(
        target(
            query_params=[pair("order", "{{ event.object_id }}")],
            headers=[pair("X-Total", "{{ event.data.total }}")],
            body_template='{"text": "Order {{ event.object_id }}"}',
        )
    ).compose("evt_1", PAYLOAD, NOW)
    assert composed.url.endswith("?order=7+%26+8")
    assert dict(composed.headers)["X-Total"] == "99.50"
    assert composed.body == b'{"text": "Order 7 & 8"}'
    assert composed.body_kind == "own"


def test_a_template_sees_no_record_that_the_webhook_leaves_out():
    composed = Composer(
        target(include_object_record=False, headers=[pair("X-Total", "[{{ event.data.total }}]")])
    ).compose("evt_1", PAYLOAD, NOW)
    assert dict(composed.headers)["X-Total"] == "[]"


def test_secret_values_are_masked_in_what_is_shown_and_sent_as_they_are():
    composed = Composer(
        target(
            query_params=[pair("key", "s3cret-in-url", True), pair("store", "7")],
            headers=[pair("X-Auth", "s3cret-in-header", True)],
        )
    ).compose("evt_1", PAYLOAD, NOW)
    assert "key=s3cret-in-url&store=7" in composed.url
    assert dict(composed.headers)["X-Auth"] == "s3cret-in-header"
    assert composed.shown_url == f"https://shop.example/hook?key={MASK}&store=7"
    assert dict(composed.shown_headers)["X-Auth"] == MASK
    assert "s3cret" not in repr((composed.shown_url, composed.shown_headers))


def test_a_get_has_no_body_and_is_signed_over_nothing():
    composed = Composer(target(method="GET")).compose("evt_1", PAYLOAD, NOW)
    assert composed.body is None
    names = [name for name, _ in composed.headers]
    assert "Content-Type" not in names
    assert "webhook-signature" in names


def test_a_merchants_content_type_replaces_the_default():
    composed = Composer(target(headers=[pair("content-type", "text/plain")])).compose(
        "evt_1", PAYLOAD, NOW
    )
    types = [value for name, value in composed.headers if name.lower() == "content-type"]
    assert types == ["text/plain"]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (" Jane", "Jane"),
        ("Jane\t ", "Jane"),
        ("\xa0Jane\u2003", "Jane"),
        ("\u2028Jane\n", "Jane"),
        ("a\r\nX-Injected: 1", "a  X-Injected: 1"),
        ("a\nb", "a b"),
        ("a\x0bb", "a b"),
        ("a\x08b\x7fc", "a b c"),
        ("a\x85b\u2028c\u2029d\x9fe", "a b c d e"),
        ("a\tb", "a\tb"),
        ("Žofie 字 🦆", "Žofie 字 🦆"),
        ("\u202eabc", "\u202eabc"),
        ("\n", ""),
        ("", ""),
    ],
)
def test_a_records_text_in_a_header_is_made_what_a_header_can_hold(value: str, sent: str):
    payload = Payload('{"id":"evt_1"}', '{"name":' + json.dumps(value) + "}")
    name = "{{ event.data.name }}"
    composed = Composer(
        target(headers=[pair("X-Name", name)], query_params=[pair("name", name)])
    ).compose("evt_1", payload, NOW)
    assert dict(composed.headers)["X-Name"] == sent
    line = next(line for line in composed.lines() if line.startswith(b"X-Name"))
    assert line == (f"X-Name: {sent}" if sent else "X-Name;").encode()
    # A query parameter can hold anything.
    query = parse_qs(urlsplit(composed.url).query, keep_blank_values=True)
    assert query == {"name": [value]}


def test_a_stored_header_from_before_its_rule_is_sent_clean_too():
    composed = Composer(target(headers=[pair("X-A", "a\u2028b")])).compose("evt_1", PAYLOAD, NOW)
    assert dict(composed.headers)["X-A"] == "a b"


@pytest.mark.parametrize(
    "template",
    [
        "{{ event.data.text | sort }}{{ event.data.mixed | sort }}",
        "{{ event.data.mixed | sum }}",
        "{{ 5 | divided_by: event.data.zero }}",
        "{{ 5 | modulo: event.data.zero }}",
        "{{ event.data.mixed | uniq: 5 }}",
        "{{ event.data.mixed | compact: 5 }}",
        "{{ event.data.text | base64_decode }}",
        "{{ event.data.text | slice: 'x' }}",
        "{% if event.data.text > 5 %}{% endif %}",
        "{{ 'nan' | plus: event.data.zero }}",
    ],
)
def test_what_a_records_values_make_impossible_is_a_template_error_that_names_place_and_remedy(
    template: str,
):
    payload = Payload('{"id":"evt_1"}', '{"zero":0,"text":"/w==","mixed":["a",1,null,{"b":2}]}')
    places = {
        "the header X-A": target(headers=[pair("X-A", template)]),
        "the query parameter a": target(query_params=[pair("a", template)]),
        "the body template": target(body_template=template),
    }
    for place, composer in ((place, Composer(made)) for place, made in places.items()):
        with pytest.raises(ComposeError) as failed:
            composer.compose("evt_1", payload, NOW)
        assert failed.value.code == "template_error"
        assert failed.value.detail.startswith(f"In {place}, ")
        assert "at character" in failed.value.detail or "number" in failed.value.detail


def test_a_template_that_fails_says_where():
    with pytest.raises(ComposeError, match="the header X-A") as refused:
        Composer(target(headers=[pair("X-A", "{{ 1 | divided_by: 0 }}")])).compose(
            "evt_1", PAYLOAD, NOW
        )
    assert refused.value.code == "template_error"


@pytest.mark.parametrize(
    ("field", "name", "room"),
    [
        ("query_params", "a", 16 * 1024 - len("https://shop.example/hook?a=")),
        ("headers", "X-A", 64 * 1024 - len("X-A: ")),
    ],
)
def test_a_url_and_headers_have_bounds(field: str, name: str, room: int):
    composed = Composer(target(**{field: [pair(name, "1" * room)]})).compose("evt_1", PAYLOAD, NOW)
    assert "1" * room in composed.url + str(composed.headers)
    with pytest.raises(ComposeError, match="at most") as caught:
        Composer(target(**{field: [pair(name, "1" * (room + 1))]})).compose("evt_1", PAYLOAD, NOW)
    assert caught.value.code == "request_too_large"


@pytest.mark.parametrize("field", ["query_params", "headers"])
def test_a_long_text_in_many_places_is_refused_before_anything_is_made_of_it(field: str):
    # The thread that makes requests sends everybody's: encoded, these are seconds of it.
    places = [pair(f"X-{number}", "{{ event.data.text }}") for number in range(50)]
    composer = Composer(target(**{field: places}))
    long = "\n".join(["ü" * 10] * 30_000)
    began = time.thread_time()
    with pytest.raises(ComposeError, match="would have at least") as caught:
        composer.compose("evt_1", PAYLOAD, NOW, [long])
    assert caught.value.code == "request_too_large"
    assert time.thread_time() - began < 1
