"""Webhooks that are refused: the field is named, and nothing is stored."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.api.caller import Caller, problem
from tests.api.conftest import webhook_fields
from tests.webhooks.pure_rules import CURRENT, wrong

ENDLESS = "{% for a in (1..100000) %}{% for b in (1..100000) %}{% endfor %}{% endfor %}"
HUGE = "{% for a in (1..100000) %}" + "x" * 1_000 + "{% endfor %}"
HOST = "https://erp.example.com"

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "url null": ({"url": None}, "/url"),
    "url empty": ({"url": ""}, "/url"),
    "url a number": ({"url": 7}, "/url"),
    "url without a scheme": ({"url": "erp.example.com/hook"}, "/url"),
    "url without a scheme but slashes": ({"url": "//erp.example.com/hook"}, "/url"),
    "url ftp": ({"url": "ftp://erp.example.com/"}, "/url"),
    "url javascript": ({"url": "javascript:alert(1)"}, "/url"),
    "url file": ({"url": "file:///etc/passwd"}, "/url"),
    "url port 0": ({"url": "https://erp.example.com:0/"}, "/url"),
    "url port 99999": ({"url": "https://erp.example.com:99999/"}, "/url"),
    "url port in words": ({"url": "https://erp.example.com:http/"}, "/url"),
    "url with a user": ({"url": "https://ann@erp.example.com/"}, "/url"),
    "url with a password": ({"url": "https://ann:x@erp.example.com/"}, "/url"),
    "url with a fragment": ({"url": HOST + "/#top"}, "/url"),
    "url with a tab": ({"url": HOST + "/a\tb"}, "/url"),
    "url with a line break": ({"url": HOST + "/a\nb"}, "/url"),
    "url with a backslash": ({"url": "https:\\\\erp.example.com\\"}, "/url"),
    "url of 2,049 characters": ({"url": HOST + "/" + "a" * (2_049 - len(HOST) - 1)}, "/url"),
    "url with a label of 64": ({"url": f"https://{'a' * 64}.example.com/"}, "/url"),
    "url of a homograph": ({"url": "https://еrp.example.com/"}, "/url"),
    "url of loopback": ({"url": "http://127.0.0.1:9/hook"}, "/url"),
    "url of loopback as a number": ({"url": "http://2130706433/hook"}, "/url"),
    "url of loopback in hex": ({"url": "http://0x7f.1/hook"}, "/url"),
    "url of loopback in IPv6": ({"url": "http://[::1]/hook"}, "/url"),
    "url of the metadata service": ({"url": "http://169.254.169.254/latest"}, "/url"),
    "url of a private network": ({"url": "http://10.0.0.1/hook"}, "/url"),
    "method DELETE": ({"method": "DELETE"}, "/method"),
    "method in small letters": ({"method": "post"}, "/method"),
    "method a list": ({"method": ["POST"]}, "/method"),
    "method null": ({"method": None}, "/method"),
    "no events": ({"events": []}, "/events"),
    "events null": ({"events": None}, "/events"),
    "events text": ({"events": "order.created"}, "/events"),
    "events of numbers": ({"events": [1]}, "/events"),
    "events unknown": ({"events": ["order.craeted"]}, "/events"),
    "events a half star": ({"events": ["order*"]}, "/events"),
    "1,000 events": ({"events": ["order.created"] * 1_000}, "/events"),
    "description of 1 MB": ({"description": "d" * 1_000_000}, "/description"),
    "description a number": ({"description": 1}, "/description"),
    "short secret": ({"secret": "whsec_YWJj"}, "/secret"),
    "secret without a prefix": ({"secret": "a" * 44}, "/secret"),
    "secret a number": ({"secret": 1}, "/secret"),
    "timeout negative": ({"timeout_seconds": -1}, "/timeout_seconds"),
    "timeout zero": ({"timeout_seconds": 0}, "/timeout_seconds"),
    "timeout huge": ({"timeout_seconds": 10**30}, "/timeout_seconds"),
    "timeout a fraction": ({"timeout_seconds": 1.5}, "/timeout_seconds"),
    "timeout true": ({"timeout_seconds": True}, "/timeout_seconds"),
    "schedule empty": ({"retry_schedule": []}, "/retry_schedule"),
    "schedule negative": ({"retry_schedule": [-1]}, "/retry_schedule"),
    "schedule of 1,000": ({"retry_schedule": [1] * 1_000}, "/retry_schedule"),
    "51 headers": ({"headers": {f"X-{n}": "v" for n in range(51)}}, "/headers"),
    "headers a list": ({"headers": ["X-Auth: k"]}, "/headers"),
    "header a number": ({"headers": {"X-Auth": 1}}, "/headers/X-Auth"),
    "header of 100 KB": ({"headers": {"X-Auth": "k" * 100_000}}, "/headers/X-Auth"),
    "header with a line break": ({"headers": {"X-Auth": "a\r\nHost: b"}}, "/headers/X-Auth"),
    "header name with a space": ({"headers": {"X Auth": "k"}}, "/headers/X Auth"),
    "header name with a line break": ({"headers": {"X\r\nA": "k"}}, "/headers/X\r\nA"),
    "header name empty": ({"headers": {"": "k"}}, "/headers/"),
    "header Host": ({"headers": {"Host": "x"}}, "/headers/Host"),
    "header Content-Length": ({"headers": {"content-length": "1"}}, "/headers/content-length"),
    "header Transfer-Encoding": (
        {"headers": {"Transfer-Encoding": "chunked"}},
        "/headers/Transfer-Encoding",
    ),
    "header X-Forwarded-For": ({"headers": {"X-Forwarded-For": "x"}}, "/headers/X-Forwarded-For"),
    "header webhook-id": ({"headers": {"Webhook-Id": "x"}}, "/headers/Webhook-Id"),
    "header Evox-Signature": ({"headers": {"Evox-Signature": "x"}}, "/headers/Evox-Signature"),
    "51 parameters": ({"query_params": {f"p{n}": "v" for n in range(51)}}, "/query_params"),
    "parameter a number": ({"query_params": {"store": 7}}, "/query_params/store"),
    "parameters null": ({"query_params": None}, "/query_params"),
    "record flag as text": ({"include_object_record": "yes"}, "/include_object_record"),
    "enabled a number": ({"enabled": 1}, "/enabled"),
    "sources text": ({"only_sources": "erp"}, "/only_sources"),
    "sources of numbers": ({"except_sources": [1]}, "/except_sources"),
    "template that loops for ever": ({"body_template": ENDLESS}, "/body_template"),
    "template that makes 10 MB": ({"body_template": HUGE}, "/body_template"),
    "template that is not Liquid": ({"body_template": "{% if %}"}, "/body_template"),
    "template of 1 MB": ({"body_template": "x" * 1_000_000}, "/body_template"),
    "template in a header": ({"headers": {"X-Id": "{{ event.object_id"}}, "/headers/X-Id"),
    "endless template in a parameter": ({"query_params": {"p": ENDLESS}}, "/query_params/p"),
    "a field that does not exist": ({"target": "x"}, "/target"),
    "a field of the portal": ({"merchant_id": 2}, "/merchant_id"),
}


THROUGH_THE_DOOR = (
    "url of loopback as a number",
    "events unknown",
    "header name with a line break",
    "template that loops for ever",
    "template that makes 10 MB",
    "endless template in a parameter",
    "a field of the portal",
)
"""Of each kind one, and what fills a template elsewhere than the rules do."""


@pytest.fixture
def settings() -> dict[str, str]:
    """No private network may be reached."""
    return {"EGRESS_ALLOW": ""}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_field_is_named(name: str) -> None:
    fields, pointer = BAD[name]
    said = wrong(**webhook_fields(**fields))
    assert pointer in said
    assert all(said.values())


@pytest.mark.parametrize("name", BAD)
def test_of_a_webhook_that_is_changed_too(name: str) -> None:
    fields, pointer = BAD[name]
    current = deepcopy(CURRENT)
    said = wrong(current, **fields)
    assert pointer in said
    assert all(said.values())
    assert current == CURRENT


@pytest.mark.parametrize("name", THROUGH_THE_DOOR)
@pytest.mark.usefixtures("nothing_stored")
def test_no_webhook_is_made_of_it(api: Caller, name: str) -> None:
    fields, pointer = BAD[name]
    problem(api.post("/webhooks", webhook_fields(**fields)), 422, pointer)


@pytest.mark.parametrize("name", THROUGH_THE_DOOR)
def test_a_webhook_stays_as_it_was(api: Caller, webhook: dict[str, Any], name: str) -> None:
    fields, pointer = BAD[name]
    problem(api.patch(f"/webhooks/{webhook['id']}", fields), 422, pointer)
    after = api.get(f"/webhooks/{webhook['id']}").get_json()
    assert after == {name: webhook[name] for name in after}


@pytest.mark.parametrize("missing", ["url", "events"])
@pytest.mark.usefixtures("nothing_stored")
def test_url_and_events_are_needed(api: Caller, missing: str) -> None:
    fields = webhook_fields()
    del fields[missing]
    problem(api.post("/webhooks", fields), 422, f"/{missing}")


@pytest.mark.usefixtures("nothing_stored")
def test_the_portals_own_url_is_refused(api: Caller) -> None:
    own = "http://localhost:8000/api/v1/events"
    problem(api.post("/webhooks", webhook_fields(url=own)), 422, "/url")


@pytest.mark.usefixtures("nothing_stored")
def test_every_wrong_field_is_named_at_once(api: Caller) -> None:
    fields = {"url": "ftp://x", "events": [], "method": "PUSH"}
    content = problem(api.post("/webhooks", fields), 422)
    assert {error["pointer"] for error in content["errors"]} == {"/url", "/events", "/method"}


@pytest.mark.parametrize(
    ("call", "content", "pointer"),
    [
        ("rotate-secret", {"overlap_hours": -1}, "/overlap_hours"),
        ("rotate-secret", {"overlap_hours": 169}, "/overlap_hours"),
        ("rotate-secret", {"overlap_hours": "24"}, "/overlap_hours"),
        ("rotate-secret", {"overlap_hours": None}, "/overlap_hours"),
        ("rotate-secret", {"overlap": 1}, "/overlap"),
        ("test", {}, "/type"),
        ("test", {"type": None}, "/type"),
        ("test", {"type": 5}, "/type"),
        ("test", {"type": "order.craeted"}, "/type"),
        ("test", {"type": "x" * 256}, "/type"),
        ("enable", {"reason": "x"}, "/reason"),
        ("disable", {"reason": 5}, "/reason"),
        ("disable", {"reason": "x" * 501}, "/reason"),
        ("recover", {}, "/since"),
        ("recover", {"since": None}, "/since"),
        ("recover", {"since": "2025-11-23T20:33:20"}, "/since"),
        ("recover", {"since": -1}, "/since"),
        ("recover", {"since": 1e308}, "/since"),
        ("recover", {"since": "yesterday"}, "/since"),
        ("discard-held", {"since": "yesterday"}, "/since"),
        ("discard-held", {"until": 0}, "/until"),
    ],
)
def test_what_an_action_needs_is_named(
    api: Caller, webhook: dict[str, Any], call: str, content: dict[str, Any], pointer: str
) -> None:
    problem(api.post(f"/webhooks/{webhook['id']}/{call}", content), 422, pointer)
    after = api.get(f"/webhooks/{webhook['id']}").get_json()
    assert after == {name: webhook[name] for name in after}


@pytest.mark.parametrize("version", ["1", True, 1.5, [1]])
def test_a_version_is_a_number(api: Caller, webhook: dict[str, Any], version: Any) -> None:
    change = {"version": version, "description": "new"}
    problem(api.patch(f"/webhooks/{webhook['id']}", change), 422, "/version")
