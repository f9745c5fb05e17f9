"""What each field of a webhook must be, without a database."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from portal.errors import Invalid
from portal.models.webhook import MASK
from portal.webhooks import rules
from portal.webhooks.pair_rules import Rows
from tests.webhooks.pure_rules import CONTEXT, CURRENT, cleaned, wrong


@pytest.mark.parametrize("fields", [None, [], "x", 7])
def test_a_webhook_that_is_no_object_is_refused(fields: Any) -> None:
    with pytest.raises(Invalid):
        rules.clean(fields, None, CONTEXT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "x" * 501),
        ("description", "x" * 1_000_000),
        ("description", "a\nb"),
        ("description", "a\u202eb"),
        ("description", None),
        ("url", None),
        ("url", 7),
        ("url", ["https://x.example"]),
        ("method", "post"),
        ("method", "DELETE"),
        ("method", None),
        ("method", ["POST"]),
        ("events", "order.created"),
        ("events", [7]),
        ("events", [None]),
        ("events", {}),
        ("events", ["order.created"] * 1_000),
        ("events", [""]),
        ("events", ["order"]),
        ("events", ["order."]),
        ("events", ["*.created"]),
        ("events", ["nothing.*"]),
        ("events", ["x" * 100_000]),
        ("events", ["order.created\n"]),
        ("include_object_record", 1),
        ("include_object_record", None),
        ("enabled", 0),
        ("only_sources", "erp"),
        ("only_sources", [7]),
        ("only_sources", [""]),
        ("only_sources", ["a b"]),
        ("only_sources", ["erp:"]),
        ("except_sources", ["erp"] * 51),
        ("except_sources", ["erp:\n"]),
        ("body_template", 7),
        ("body_template", "x" * (64 * 1024 + 1)),
        ("body_template", "\0"),
        ("body_template", "{{ event.id"),
        ("body_template", "{% for %}"),
        ("body_template", "{% nonsense %}"),
        ("body_template", "{% include 'x' %}"),
        ("retry_schedule", []),
        ("retry_schedule", [0] * 21),
        ("retry_schedule", [604_801]),
        ("retry_schedule", [True]),
        ("retry_schedule", [1.5]),
        ("retry_schedule", "5"),
        ("timeout_seconds", -1),
        ("timeout_seconds", 61),
        ("timeout_seconds", 10**12),
        ("timeout_seconds", True),
        ("timeout_seconds", "15"),
        ("timeout_seconds", 1.5),
        ("secret", "short"),
        ("secret", "whsec_" + base64.b64encode(b"x" * 23).decode()),
        ("secret", "whsec_" + base64.b64encode(b"x" * 65).decode()),
        ("secret", 7),
        ("secret", "whsec_not base64 at all, really not"),
        ("secret", ""),
        ("headers", []),
        ("headers", "X-A: b"),
        ("query_params", [["a", "b"]]),
    ],
)
def test_a_wrong_value_is_named(field: str, value: Any) -> None:
    assert set(wrong(**{field: value})) == {f"/{field}"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "X Auth",
        "X-Auth:",
        "X-Äuth",
        "X\r\nEvil",
        "X\0",
        "x" * 256,
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Expect",
        "Proxy-Authorization",
        "X-Forwarded-For",
        "webhook-id",
        "Webhook-Signature",
        "Evox-Time",
        "TE",
        "Upgrade",
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(name: str) -> None:
    (pointer,) = wrong(headers={name: "x"})
    assert pointer.startswith("/headers/")


@pytest.mark.parametrize(
    "value",
    [
        "a\r\nX-Evil: 1",
        "a\nb",
        "a\0b",
        "\x1b",
        " a",
        "a ",
        "x" * 100_000,
        7,
        None,
        ["a"],
        {"value": 7},
        {"value": "a", "secret": 1},
        {"value": "a", "more": 1},
        {},
    ],
)
def test_a_header_value_that_cannot_be_sent_is_refused(value: Any) -> None:
    assert set(wrong(headers={"X-A": value})) == {"/headers/X-A"}


def test_fifty_headers_are_taken_and_one_more_is_not() -> None:
    headers = {f"X-{number}": "v" for number in range(51)}
    assert "at most 50" in wrong(headers=headers)["/headers"]
    assert "at most 50" in wrong(query_params=headers)["/query_params"]
    headers.popitem()
    assert len(cleaned(headers=headers, query_params=headers)["headers"]) == 50


@pytest.mark.parametrize(("field", "most"), [("query_params", 2), ("headers", 8)])
def test_what_could_only_make_too_long_a_request_is_refused(field: str, most: int) -> None:
    long = {f"X-{number}": "v" * (8 * 1024 - 3) for number in range(most)}
    assert len(cleaned(**{field: long})[field]) == most
    said = wrong(**{field: long | {"X": ""}})
    assert set(said) == {f"/{field}"}
    assert "at most" in said[f"/{field}"]


def test_a_header_stands_once_whatever_its_case() -> None:
    assert "/headers/x-a" in wrong(headers={"X-A": "1", "x-a": "2"})
    pairs = cleaned(query_params={"A": "1", "a": "2"})["query_params"]
    assert [pair["name"] for pair in pairs] == ["A", "a"]


def test_a_name_with_a_slash_is_escaped_in_the_pointer() -> None:
    assert set(wrong(headers={"a/b~c": "x"})) == {"/headers/a~1b~0c"}


def test_an_unknown_event_is_refused_with_the_nearest_names() -> None:
    assert "Did you mean order.created" in wrong(events=["order.creatd"])["/events"]


def test_a_source_in_both_lists_is_refused() -> None:
    errors = wrong(only_sources=["erp", "admin:17"], except_sources=["admin:17"])
    assert "both source lists" in errors["/except_sources"]


def test_a_template_for_a_get_is_refused() -> None:
    assert (
        "A GET has no body" in wrong(method="GET", body_template="{{ event.id }}")["/body_template"]
    )


def test_the_mask_keeps_a_secret_value_of_the_same_name() -> None:
    headers = {"x-auth": {"value": MASK, "secret": True}}
    (pair,) = cleaned(CURRENT, headers=headers)["headers"]
    assert pair == {"name": "x-auth", "value": "sealed:canary", "secret": True}


def test_a_row_of_a_form_may_not_stand_twice() -> None:
    rows = Rows([{"name": "X-A", "value": "1", "secret": False}] * 2)
    assert "stands twice" in wrong(headers=rows)["/headers/X-A"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Auth": MASK},
        {"X-Auth": {"value": MASK, "secret": False}},
        {"X-Other": {"value": MASK, "secret": True}},
        {"X-Open": {"value": MASK, "secret": True}},
        {"X-Auth": {"value": MASK + "x", "secret": True}},
    ],
)
def test_the_mask_never_stands_for_anything_else(headers: dict[str, Any]) -> None:
    (pointer,) = wrong(CURRENT, headers=headers)
    assert pointer == f"/headers/{next(iter(headers))}"


BEARER = {"type": "bearer", "token": "sealed:abc"}


@pytest.mark.parametrize(
    ("auth", "pointer"),
    [
        ("basic", "/auth"),
        ([], "/auth"),
        ({}, "/auth/type"),
        ({"type": "digest"}, "/auth/type"),
        ({"type": ["basic"]}, "/auth/type"),
        ({"type": "basic", "password": "x"}, "/auth/user"),
        ({"type": "basic", "user": "a:b", "password": "x"}, "/auth/user"),
        ({"type": "basic", "user": "a\n", "password": "x"}, "/auth/user"),
        ({"type": "basic", "user": "a" * 256, "password": "x"}, "/auth/user"),
        ({"type": "basic", "user": 7, "password": "x"}, "/auth/user"),
        ({"type": "basic", "user": "a"}, "/auth/password"),
        ({"type": "basic", "user": "a", "password": ""}, "/auth/password"),
        ({"type": "basic", "user": "a", "password": None}, "/auth/password"),
        ({"type": "basic", "user": "a", "password": MASK}, "/auth/password"),
        ({"type": "basic", "user": "a", "password": MASK + "1"}, "/auth/password"),
        ({"type": "basic", "user": "a", "password": "a\r\nX: y"}, "/auth/password"),
        ({"type": "basic", "user": "a", "password": "x" * 1_025}, "/auth/password"),
        ({"type": "bearer"}, "/auth/token"),
        ({"type": "bearer", "token": "Bearer x"}, "/auth/token"),
        ({"type": "bearer", "token": "ä"}, "/auth/token"),
        ({"type": "bearer", "token": "x" * 8_193}, "/auth/token"),
        ({"type": "bearer", "token": "x", "user": "a"}, "/auth/user"),
    ],
)
def test_authentication_that_cannot_be_sent_is_refused(auth: Any, pointer: str) -> None:
    assert list(wrong(auth=auth)) == [pointer]


def test_a_stored_secret_stays_for_its_own_type_alone() -> None:
    current = CURRENT | {"auth": BEARER}
    assert cleaned(current, auth={"type": "bearer"})["auth"] == BEARER
    assert cleaned(current, auth={"type": "bearer", "token": MASK})["auth"] == BEARER
    assert cleaned(current, description="x")["auth"] == BEARER
    assert cleaned(current, auth=None)["auth"] is None
    assert "/auth/password" in wrong(current, auth={"type": "basic", "user": "erp"})


def test_a_header_authorization_beside_authentication_is_refused() -> None:
    auth = {"type": "bearer", "token": "abc"}
    assert "/headers/authorization" in wrong(auth=auth, headers={"authorization": "Bearer x"})
