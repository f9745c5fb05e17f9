"""Bodies that are not what they say: a 4xx that explains, nothing stored, never a 500."""

from __future__ import annotations

import gzip

import pytest

from tests.api.caller import Caller, problem

DEEP = 100_000
BODIES = {
    "empty": b"",
    "blank": b" \n",
    "an open brace": b"{",
    "text after the end": b'{"type": "order.created"} {}',
    "a comma too many": b'{"type": "order.created",}',
    "nested 1,500 deep": (
        b'{"type":"order.created","data":' + b'{"a":' * 1_500 + b"1" + b"}" * 1_501
    ),
    "nested 100,000 deep": b'{"type":"order.created","data":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "an integer of 5,000 digits": b'{"type":"order.created","data":{"n":' + b"9" * 5_000 + b"}}",
    "NaN": b'{"type":"order.created","data":{"n":NaN}}',
    "Infinity": b'{"type":"order.created","data":{"n":Infinity}}',
    "-Infinity": b'{"type":"order.created","data":{"n":-Infinity}}',
    "1e400": b'{"type":"order.created","data":{"n":1e400}}',
    "doubled keys": b'{"type":"order.created","type":"order.paid"}',
    "doubled keys inside": b'{"type":"order.created","data":{"n":1,"n":2}}',
    "NUL": b'{"type":"order.created","data":{"n":"\\u0000"}}',
    "NUL in a key": b'{"type":"order.created","data":{"\\u0000":1}}',
    "a lone surrogate": b'{"type":"order.created","data":{"n":"\\ud800"}}',
    "invalid UTF-8": b'{"type":"order.created","data":{"n":"\xff\xfe"}}',
    "UTF-16": '{"type":"order.created"}'.encode("utf-16"),
    "a raw control character": b'{"type":"order.created","data":{"n":"\x01"}}',
    "a raw line break": b'{"type":"order.created","data":{"n":"\n"}}',
}
NOT_OBJECTS = {"null": b"null", "array": b"[]", "number": b"1", "text": b'"x"', "true": b"true"}
ADDRESSES = ("/events", "/webhooks", "/event-types")


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.usefixtures("nothing_stored")
def test_a_body_that_is_not_json_is_refused_with_the_reason(
    api: Caller, path: str, subtests: pytest.Subtests
) -> None:
    for name, body in BODIES.items():
        with subtests.test(name):
            content = problem(api.send("POST", path, body), 400)
            assert content["type"].endswith("#malformed")


def test_a_webhook_is_not_changed_by_a_body_that_is_not_json(
    api: Caller, webhook: dict[str, object], subtests: pytest.Subtests
) -> None:
    for name, body in BODIES.items():
        with subtests.test(name):
            problem(api.send("PATCH", f"/webhooks/{webhook['id']}", body), 400)
            after = api.get(f"/webhooks/{webhook['id']}").get_json()
            assert after["version"] == webhook["version"]


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.usefixtures("nothing_stored")
def test_json_that_is_not_an_object_is_refused(
    api: Caller, path: str, subtests: pytest.Subtests
) -> None:
    for name, body in NOT_OBJECTS.items():
        with subtests.test(name):
            problem(api.send("POST", path, body), 422, "")


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.usefixtures("nothing_stored")
def test_another_content_type_is_refused(api: Caller, path: str, subtests: pytest.Subtests) -> None:
    for content_type in (
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/jsonp",
        "application/problem+json",
        "json",
        "application/json, text/plain",
    ):
        with subtests.test(content_type):
            answer = api.send("POST", path, b'{"type":"order.created"}', content_type)
            problem(answer, 415)


def test_json_in_utf_8_is_taken(api: Caller, subtests: pytest.Subtests) -> None:
    for content_type in (
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "APPLICATION/JSON",
        'application/json; charset="utf-8"',
    ):
        with subtests.test(content_type):
            answer = api.send("POST", "/events", b'{"type":"order.created"}', content_type)
            assert answer.status_code == 202


@pytest.mark.usefixtures("nothing_stored")
def test_a_compressed_body_is_not_unpacked(api: Caller, subtests: pytest.Subtests) -> None:
    bomb = gzip.compress(b'{"type":"order.created","data":{"a":"' + b"a" * 20_000_000 + b'"}}')
    for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "x-unknown"):
        with subtests.test(encoding):
            answer = api.call(
                "POST",
                "/events",
                data=bomb,
                content_type="application/json",
                headers={"Content-Encoding": encoding},
            )
            problem(answer, 415)
            assert answer.headers["Accept-Encoding"] == "identity"


def test_identity_is_no_compression(api: Caller) -> None:
    answer = api.call(
        "POST",
        "/events",
        data=b'{"type":"order.created"}',
        content_type="application/json",
        headers={"Content-Encoding": "identity"},
    )
    assert answer.status_code == 202
