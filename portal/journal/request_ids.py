"""An ID for each request, by which an answer and its lines in the log find each other.

The portal makes it, and takes none from outside: what a stranger chose would stand in the log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import uuid_utils
from flask import has_request_context, request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HEADER = "X-Request-Id"
_KEY = "portal.request_id"


def add_to(application: WSGIApplication) -> WSGIApplication:
    """The same application, whose every answer carries an ID, whatever made the answer."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[_KEY] = request_id = new()

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            headers.append((HEADER, request_id))
            return start_response(status, headers, exc_info)

        return application(environ, start)

    return answer


def new() -> str:
    """An ID: 32 hex digits, in order of time (UUIDv7, RFC 9562)."""
    return uuid_utils.uuid7().hex


@contextlib.contextmanager
def of(environ: WSGIEnvironment) -> Iterator[None]:
    """The time in which the request with this environment is answered without Flask's context."""
    token = _without_context.set(environ.get(_KEY))
    try:
        yield
    finally:
        _without_context.reset(token)


_without_context: ContextVar[str | None] = ContextVar("request_id", default=None)


def current() -> str | None:
    """The ID of the request that is being answered; None outside of a request."""
    return request.environ.get(_KEY) if has_request_context() else _without_context.get()
