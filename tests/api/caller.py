"""A key's way of calling the API, and what every refusal must look like."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

BASE = "/api/v1"
PROBLEM = "application/problem+json"


class Caller:
    """Calls the API with one key (None: without)."""

    def __init__(self, client: FlaskClient, key: str | None):
        self._client = client
        self._key = key

    def call(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = dict(options.pop("headers", {}))
        if self._key is not None:
            headers.setdefault("Authorization", f"Bearer {self._key}")
        return self._client.open(BASE + path, method=method, headers=headers, **options)

    def get(self, path: str, **query: Any) -> TestResponse:
        return self.call("GET", path, query_string=query)

    def post(self, path: str, content: Any = None) -> TestResponse:
        return self.call("POST", path) if content is None else self.send("POST", path, content)

    def patch(self, path: str, content: Any) -> TestResponse:
        return self.send("PATCH", path, content)

    def delete(self, path: str) -> TestResponse:
        return self.call("DELETE", path)

    def send(
        self, method: str, path: str, content: Any, content_type: str | None = "application/json"
    ) -> TestResponse:
        """`content` as it is where it is bytes, as JSON where not."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.call(method, path, data=raw, content_type=content_type)


Make = Callable[..., Any]


def problem(response: TestResponse, status: int, pointer: str | None = None) -> dict[str, Any]:
    """Check that an answer is a problem of this status, naming this field; its content."""
    assert response.status_code == status, response.text
    return check_problem(response.headers["Content-Type"], response.get_json(), status, pointer)


def check_problem(
    content_type: str, content: dict[str, Any], status: int, pointer: str | None = None
) -> dict[str, Any]:
    """The same for an answer that came over a socket."""
    assert content_type == PROBLEM
    assert content["status"] == status
    assert content["type"].startswith("http")
    assert content["title"]
    assert content["detail"]
    assert "Traceback" not in json.dumps(content)
    if pointer is not None:
        pointers = [error["pointer"] for error in content["errors"]]
        assert pointer in pointers, content
        assert all(error["detail"] for error in content["errors"])
    return content
