"""The header Idempotency-Key: a request that is sent again is done once.

Events need no table: their ID is the natural key, so one that comes without is given an ID made
from the header.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any, ParamSpec

from flask import Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from portal.api import saved_answers
from portal.api.reading import MAX_BODY
from portal.api.saved_answers import SavedAnswer
from portal.errors import Conflict, KeyReused, PortalError, Unavailable

HEADER, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
KEPT_HEADERS = ("Content-Type", "Location", "ETag")

# A string of RFC 9651, as the draft has it, or the same without its quotes.
_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"|([!#-\[\]-~]{1,255})')

_Given = ParamSpec("_Given")


def key_given() -> str | None:
    """The request's key; None without the header. Raises PortalError (400) for what is no key."""
    return key_of(request.headers.get(HEADER))


def key_of(text: str | None) -> str | None:
    """The key in a header's text. Raises PortalError (400) for what is no key."""
    if text is None:
        return None
    found = _KEY.fullmatch(text.strip())
    if found is None:
        raise PortalError(
            f'{HEADER} is 1 to 255 visible ASCII characters in quotes, such as "8e03978e".'
        )
    return found[1] or found[2]


def with_ids(events: list[Any], key: str) -> list[Any]:
    """The events, each without an ID given one that follows from the key and its place."""
    return [
        event | {"id": _event_id(key, index)}
        if isinstance(event, dict) and event.get("id") is None
        else event
        for index, event in enumerate(events)
    ]


def _event_id(key: str, index: int) -> str:
    return f"evt_{hashlib.sha256(f'{index} {key}'.encode()).hexdigest()[:32]}"


def reused(conflict: Conflict) -> KeyReused:
    """What an event's ID in use with other content means where the key has made it."""
    return KeyReused(
        f"An event came with this {HEADER}, or its id, and other content; send new content with "
        "a new key.",
        conflict.errors,
    )


def done_once(view: Callable[_Given, Response]) -> Callable[_Given, Response]:
    """Have a view, which every POST but that of events is, done once for its key."""

    @functools.wraps(view)
    def once(*given: _Given.args, **named: _Given.kwargs) -> Response:
        def do() -> Response:
            return view(*given, **named)

        key = key_given()
        if key is None or (request.content_length or 0) > MAX_BODY:
            return do()
        earlier = saved_answers.claim(g.merchant_id, key, _digest())
        if earlier is not None:
            return Response(
                earlier.body, earlier.status, headers={**earlier.headers, REPLAYED: "true"}
            )
        return _saved(do, key)

    return once


def _saved(do: Callable[[], Response], key: str) -> Response:
    merchant_id = g.merchant_id
    try:
        response = do()
    except (PortalError, HTTPException):
        # Refused, and nothing changed. What a defect left behind nobody knows: its key stays taken.
        _best_effort(saved_answers.release, merchant_id, key)
        raise
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    answer = SavedAnswer(response.status_code, headers, response.get_data(as_text=True))
    _best_effort(saved_answers.save_answer, merchant_id, key, answer)
    return response


def _best_effort(write: Callable[..., None], *arguments: Any) -> None:
    """The request has its answer, also where the database cannot keep it now."""
    try:
        write(*arguments)
    except Unavailable as error:
        current_app.logger.warning("the answer for a key was not kept: %s", error)


def _digest() -> str:
    """SHA-256 (hex) of what is asked: method, address and body."""
    request.max_content_length = MAX_BODY + 1
    told = f"{request.method} {request.full_path}\n".encode()
    return hashlib.sha256(told + request.get_data()).hexdigest()
