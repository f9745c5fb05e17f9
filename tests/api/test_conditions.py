"""ETag, If-Match and If-None-Match: nobody's edit is lost, and nothing known is sent again."""

from __future__ import annotations

from typing import Any

import pytest

from portal.clock import now
from portal.db.session import db
from portal.models import Webhook
from tests.api.caller import Caller, problem
from tests.conftest import on_both_databases


@pytest.fixture
def tag(api: Caller, webhook: dict[str, Any]) -> str:
    return str(api.get(f"/webhooks/{webhook['id']}").headers["ETag"])


def change(api: Caller, webhook: dict[str, Any], if_match: str, **fields: Any) -> Any:
    return api.call(
        "PATCH",
        f"/webhooks/{webhook['id']}",
        json=fields or {"description": "Mine"},
        headers={"If-Match": if_match},
    )


@on_both_databases
def test_every_answer_that_shows_a_webhook_carries_the_tag_of_what_follows(
    api: Caller, webhook: dict[str, Any]
) -> None:
    path = f"/webhooks/{webhook['id']}"
    for method, action, fields in (
        ("PATCH", "", {"description": "New"}),
        ("POST", "/rotate-secret", {}),
        ("POST", "/disable", {}),
        ("POST", "/enable", {}),
    ):
        answer = api.send(method, path + action, fields)
        assert answer.headers["ETag"] == api.get(path).headers["ETag"]
    made = api.post("/webhooks", {"url": "https://erp.example.com/", "events": ["*"]})
    again = api.get(f"/webhooks/{made.get_json()['id']}")
    assert made.headers["ETag"] == again.headers["ETag"]
    assert again.headers["ETag"].startswith('"1-')


def test_a_change_with_the_current_tag_is_made(
    api: Caller, webhook: dict[str, Any], tag: str
) -> None:
    for given in (f'"0-old", {tag}', "*"):
        answer = change(api, webhook, given)
        assert answer.status_code == 200, answer.text
        tag = answer.headers["ETag"]


@pytest.mark.parametrize("given", ['"1-000000000000"', "W/{}", "", '"*"', '"', "1"])
def test_a_change_with_another_tag_is_refused_and_changes_nothing(
    api: Caller, webhook: dict[str, Any], tag: str, given: str
) -> None:
    problem(change(api, webhook, given.format(tag)), 412)
    path = f"/webhooks/{webhook['id']}"
    problem(api.call("DELETE", path, headers={"If-Match": given.format(tag)}), 412)
    assert api.get(path).headers["ETag"] == tag


def test_of_two_editors_who_saw_the_same_the_second_is_told(
    api: Caller, webhook: dict[str, Any], tag: str
) -> None:
    assert change(api, webhook, tag, description="First").status_code == 200
    problem(change(api, webhook, tag, description="Second"), 412)
    assert api.get(f"/webhooks/{webhook['id']}").get_json()["description"] == "First"


def test_an_edit_between_the_look_and_the_write_is_not_lost(
    api: Caller, webhook: dict[str, Any], tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from portal.webhooks import checking

    validate = checking.validate

    def edited_meanwhile(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(checking, "validate", validate)
        assert api.patch(f"/webhooks/{webhook['id']}", {"description": "Theirs"}).status_code == 200
        return validate(*arguments, **options)

    monkeypatch.setattr(checking, "validate", edited_meanwhile)
    problem(change(api, webhook, tag), 412)
    assert api.get(f"/webhooks/{webhook['id']}").get_json()["description"] == "Theirs"


def test_the_version_in_the_body_keeps_its_conflict(
    api: Caller, webhook: dict[str, Any], tag: str
) -> None:
    problem(change(api, webhook, tag, version=7), 409)
    problem(change(api, webhook, tag, version=0), 409)
    assert change(api, webhook, tag, version=1).status_code == 200


def test_a_deletion_with_the_current_tag_is_done(
    api: Caller, webhook: dict[str, Any], tag: str
) -> None:
    path = f"/webhooks/{webhook['id']}"
    assert api.call("DELETE", path, headers={"If-Match": tag}).status_code == 204
    problem(api.call("DELETE", path, headers={"If-Match": "*"}), 404)


def test_what_is_known_is_not_sent_again_until_it_changes(
    api: Caller, webhook: dict[str, Any], tag: str
) -> None:
    path = f"/webhooks/{webhook['id']}"
    for given in (tag, f"W/{tag}", f'"1-x", {tag}', "*"):
        answer = api.call("GET", path, headers={"If-None-Match": given})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
    assert api.call("GET", path, headers={"If-None-Match": '"1-x"'}).status_code == 200
    row = db.session.get_one(Webhook, webhook["id"])
    row.failures, row.failing_since, row.updated_at = 1, now(), row.updated_at
    db.session.commit()
    failing = api.call("GET", path, headers={"If-None-Match": tag})
    assert failing.status_code == 200
    assert failing.get_json()["state"] == "failing"


def test_another_merchants_webhook_answers_as_one_that_does_not_exist(
    bobs: Caller, webhook: dict[str, Any], tag: str
) -> None:
    for given in (tag, "*", '"x"'):
        other = change(bobs, webhook, given)
        none = change(bobs, {"id": "wh_nothing"}, given)
        problem(other, 404)
        assert other.data == none.data
