"""The way in of the usual event: its POST needs nothing of the framework.

Flask's routing, its hooks and its objects for a request and an answer take as long as all else that
is done for one event but the database. So what is usual is answered here, by the same functions
(events.take): a JSON body of known length, for the portal's own name, with a right key that may
write. What is not goes to Flask untouched. What is refused on the way goes there too, to be
answered as every refusal is, with what was found and counted by then: nothing is done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from flask import Flask, current_app

from portal import runtime
from portal.api import events, idempotency, key_use, limits, reading
from portal.api.blueprint import PREFIX
from portal.journal import request_ids
from portal.strict_json import dump
from portal.web import access, hosts, protection

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PATH = f"{PREFIX}/events"
_UNUSUAL = frozenset(("HTTP_CONTENT_ENCODING", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT"))


class Door:
    """That of one process."""

    is_closed = False
    """Whether the hooks of Flask must see every request for now."""


def add_to(app: Flask, application: WSGIApplication) -> WSGIApplication:
    """The application, behind the door."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] == _PATH:
            with app.app_context(), request_ids.of(environ):
                answered = _answer(environ)
            if answered is not None:
                headers, body = answered
                start_response("202 ACCEPTED", headers)
                return (body,)
        return application(environ, start_response)

    return answer


def _answer(environ: WSGIEnvironment) -> tuple[list[tuple[str, str]], bytes] | None:
    """The headers and the body of a 202; None for what is Flask's."""
    if not _is_usual(environ):
        return None
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    handed = access.Handed()
    try:
        handed.key = key = access.key_of(authorization)
        if key is None or key.scope not in access.KEY_WRITE:
            return None
        handed.counted = limits.count(key.id)
        if handed.counted and handed.counted[1] < 0:
            raise limits.too_many()
        content = events.take(
            key.merchant_id,
            int(environ["CONTENT_LENGTH"]),
            _reader(environ),
            environ.get(_IDEMPOTENCY_KEY),
        )
    except Exception as error:  # noqa: BLE001 - Flask's handlers answer it, a defect too
        handed.error = error
        environ[access.HANDED] = handed
        return None
    limits.prove(authorization)
    key_use.note(key.id, key.last_used_at or 0)
    body = dump(content).encode()
    return [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        *limits.headers_of(handed.counted),
        *protection.headers_of(current_app.config["PORTAL"]),
    ], body


_IDEMPOTENCY_KEY = f"HTTP_{idempotency.HEADER.upper().replace('-', '_')}"


def _is_usual(environ: WSGIEnvironment) -> bool:
    length = environ.get("CONTENT_LENGTH") or ""
    return (
        environ.get("CONTENT_TYPE") == "application/json"
        and length.isascii()
        and length.isdigit()
        and len(length) < 8
        and int(length) <= reading.MAX_BODY
        and _UNUSUAL.isdisjoint(environ)
        and hosts.is_ours(environ.get("HTTP_HOST", ""), current_app.config["PORTAL"])
        # Else its keys are looked at first, as Flask does; one wrong key closes nobody's door.
        and not limits.is_guessing(environ.get("REMOTE_ADDR", ""))
        and not runtime.part(Door).is_closed
    )


def _reader(environ: WSGIEnvironment) -> Callable[[], bytes]:
    def read() -> bytes:
        length = int(environ["CONTENT_LENGTH"])
        return reading.whole(environ["wsgi.input"].read(length), length)

    return read
