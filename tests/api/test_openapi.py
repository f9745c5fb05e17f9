"""The description says what the API does: each route, each object, each refusal."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from portal.api.openapi import document
from portal.api.operations import OPERATIONS
from portal.web.access import ACCESS, KEY_READ, PUBLIC
from tests.api.caller import BASE, Caller
from tests.api.conftest import ORDER


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document("https://hooks.example.com", "1.0")


def check(described: dict[str, Any], name: str, content: Any) -> None:
    """That an answer is what the description says, with no field that it does not name."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
    Draft202012Validator(schema).validate(content)
    known = described["components"]["schemas"][name].get("properties")
    if known is not None:
        assert set(content) <= set(known)


def test_the_document_is_public_and_valid_openapi(stranger: Caller) -> None:
    answer = stranger.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.get_json()["openapi"].startswith("3.1")
    validate(answer.get_json())


def test_every_route_is_described_and_no_other(app: Flask) -> None:
    routes = {
        (rule.endpoint.removeprefix("api."), method, _template(rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("api.") and ACCESS[rule.endpoint] is not PUBLIC
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == {(one.name, one.method, one.path) for one in OPERATIONS}


def _template(rule: str) -> str:
    return re.sub(r"<([^>]+)>", r"{\1}", rule.removeprefix(BASE))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_the_scope_that_is_described_is_the_one_that_is_asked(operation: Any) -> None:
    reads = ACCESS[f"api.{operation.name}"] == KEY_READ
    assert operation.scope == ("read" if reads else "write")


def test_answers_are_as_described(
    api: Caller, described: dict[str, Any], webhook: dict[str, Any]
) -> None:
    check(described, "WebhookWithSecret", webhook)
    event = api.post("/events", ORDER).get_json()
    check(described, "Accepted", event)
    check(described, "AcceptedEvents", api.post("/events", {"events": [ORDER]}).get_json())
    for path, name in (
        ("/events", "Events"),
        (f"/events/{event['id']}", "EventWithRecord"),
        (f"/events/{event['id']}/related", "RelatedEvents"),
        (f"/events/{event['id']}/deliveries", "Deliveries"),
        ("/event-types", "EventTypes"),
        ("/webhooks", "Webhooks"),
        (f"/webhooks/{webhook['id']}", "Webhook"),
        ("/deliveries", "Deliveries"),
        ("/attempts", "Attempts"),
    ):
        content = api.get(path).get_json()
        check(described, name, content)
        for row in content.get("data") or [] if name.endswith("s") else []:
            check(described, {"Deliveries": "Delivery"}.get(name, name[:-1]), row)


def test_refusals_are_as_described(api: Caller, described: dict[str, Any]) -> None:
    check(described, "Problem", api.post("/events", {}).get_json())
    check(described, "Problem", api.get("/events/evt_nothing").get_json())


def test_the_page_lists_every_endpoint(app: Flask) -> None:
    answer = app.test_client().get("/api/docs")
    assert answer.status_code == 200
    for operation in OPERATIONS:
        assert f"{operation.method} {operation.path}" in answer.text
        assert f'id="{operation.name}"' in answer.text
    assert "style=" not in answer.text
    assert "<script>" not in answer.text
