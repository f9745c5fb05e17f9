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
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.usefixtures("nothing_stored")
def test_a_body_that_is_not_json_is_refused_with_the_reason(
    api: Caller, path: str, name: str
) -> None:
    content = problem(api.send("POST", path, BODIES[name]), 400)
    assert content["type"].endswith("#malformed")


@pytest.mark.parametrize("name", BODIES)
def test_a_webhook_is_not_changed_by_a_body_that_is_not_json(
    api: Caller, webhook: dict[str, object], name: str
) -> None:
    problem(api.send("PATCH", f"/webhooks/{webhook['id']}", BODIES[name]), 400)
    assert api.get(f"/webhooks/{webhook['id']}").get_json()["version"] == webhook["version"]


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize("name", NOT_OBJECTS)
@pytest.mark.usefixtures("nothing_stored")
def test_json_that_is_not_an_object_is_refused(api: Caller, path: str, name: str) -> None:
    problem(api.send("POST", path, NOT_OBJECTS[name]), 422, "")


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize(
    "content_type",
    [
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
    ],
)
@pytest.mark.usefixtures("nothing_stored")
def test_another_content_type_is_refused(api: Caller, path: str, content_type: str | None) -> None:
    answer = api.send("POST", path, b'{"type":"order.created"}', content_type)
    problem(answer, 415)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "APPLICATION/JSON",
        'application/json; charset="utf-8"',
    ],
)
def test_json_in_utf_8_is_taken(api: Caller, content_type: str) -> None:
    answer = api.send("POST", "/events", b'{"type":"order.created"}', content_type)
    assert answer.status_code == 202


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-unknown"])
@pytest.mark.usefixtures("nothing_stored")
def test_a_compressed_body_is_not_unpacked(api: Caller, encoding: str) -> None:
    bomb = gzip.compress(b'{"type":"order.created","data":{"a":"' + b"a" * 20_000_000 + b'"}}')
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
