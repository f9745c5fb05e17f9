"""Answers in JSON, their keys in the order that was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Response

from portal.strict_json import dump


def answer(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An object as application/json."""
    response = Response(dump(content), status, content_type="application/json")
    response.headers.update(headers or {})
    return response


def listed(rows: Iterable[Mapping[str, Any]], next_cursor: str | None = None) -> Response:
    """A page of a list; `next_cursor` is None where nothing follows."""
    return answer({"data": list(rows), "next_cursor": next_cursor})
