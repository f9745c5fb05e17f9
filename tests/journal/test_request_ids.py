"""The ID of a request: in its answer, whatever that is, and in its lines in the log."""

from __future__ import annotations

import logging
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.journal.log_lines import Lines
from portal.web import access

ID = re.compile(r"[0-9a-f]{12}7[0-9a-f]{19}")
PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    ("method", "address", "headers", "status"),
    [
        ("GET", "/sign-in", {}, 200),
        ("GET", "/static/app.css", {}, 200),
        ("GET", "/static/none.css", {}, 404),
        ("GET", "/nowhere", {}, 404),
        ("POST", "/healthz", {}, 405),
        ("GET", "/healthz", {}, 200),
        ("GET", "/readyz", {}, 200),
        ("GET", "/sign-in", {"Host": "evil.example"}, 421),
        ("GET", "/account", {}, 303),
        ("GET", "/api/v1/webhooks", {}, 401),
        ("GET", "/api/v1/nowhere", {}, 404),
        ("PUT", "/api/v1/events", {}, 405),
        ("GET", "/api/v1/webhooks", {"Host": "evil.example"}, 421),
        ("GET", "/inspect/none", {}, 404),
        ("GET", "/shared/none", {}, 404),
    ],
)
def test_every_answer_has_one(
    client: FlaskClient, method: str, address: str, headers: dict[str, str], status: int
):
    answers = [client.open(address, method=method, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, status]
    ids = [answer.headers.getlist("X-Request-Id") for answer in answers]
    assert all(len(one) == 1 and ID.fullmatch(one[0]) for one in ids)
    assert ids[0] < ids[1]
    for answer, (request_id,) in zip(answers, ids, strict=True):
        if status == 404:
            assert request_id not in answer.text
        elif answer.content_type == PROBLEM:
            assert answer.json["request_id"] == request_id


def test_what_is_too_large_has_one(client: FlaskClient, api_key: str):
    answer = client.post(
        "/api/v1/webhooks",
        data=b"x" * (2**24 + 1),
        headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
    )
    assert answer.status_code == 413
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


def test_one_from_outside_is_not_taken(client: FlaskClient):
    answer = client.get("/healthz", headers={"X-Request-Id": "mine"})
    assert "mine" not in answer.headers.getlist("X-Request-Id")


class TestDefects:
    @pytest.fixture
    def failing(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
        """A portal whose sign-in page and first API route fail."""

        def fail(**_: object) -> str:
            raise RuntimeError("a defect")

        app.config["PROPAGATE_EXCEPTIONS"] = False
        for endpoint in ("auth.sign_in", "api.list_webhooks"):
            monkeypatch.setitem(access.ACCESS, endpoint, access.PUBLIC)
            monkeypatch.setitem(app.view_functions, endpoint, fail)
        return app.test_client()

    @pytest.mark.parametrize("part", [{}, {"HX-Request": "true", "HX-Request-Type": "partial"}])
    def test_the_page_shows_the_id_that_the_log_names(
        self, failing: FlaskClient, part: dict[str, str], caplog: pytest.LogCaptureFixture
    ):
        caplog.handler.setFormatter(Lines())
        answer = failing.get("/sign-in", headers=part)
        assert answer.status_code == 500
        request_id = answer.headers["X-Request-Id"]
        assert f"<code>{request_id}</code>" in answer.text
        assert f"ERROR portal.web.defects [{request_id}]: GET /sign-in failed." in caplog.text

    def test_the_problem_has_the_id_that_the_log_names(
        self, failing: FlaskClient, caplog: pytest.LogCaptureFixture
    ):
        caplog.handler.setFormatter(Lines())
        answer = failing.get("/api/v1/webhooks")
        assert answer.status_code == 500
        assert answer.json["request_id"] == answer.headers["X-Request-Id"]
        assert f"[{answer.json['request_id']}]: GET /api/v1/webhooks failed." in caplog.text


def test_outside_of_a_request_a_line_has_none():
    record = logging.LogRecord("portal.x", logging.INFO, "", 1, "x", (), None)
    assert Lines().format(record).endswith("Z INFO portal.x: x")
