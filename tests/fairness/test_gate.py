"""The gate before servers of WSGI, which may have any number of threads."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import pytest
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

from portal.fairness import gate

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PLACES = 2


def app(environ: WSGIEnvironment, _start: StartResponse) -> list[bytes]:
    return [get_input_stream(environ).read()]


def asked(stream: IO[bytes], length: str, **more: Any) -> WSGIEnvironment:
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/sign-in",
        "CONTENT_LENGTH": length,
        "wsgi.input": stream,
    } | more


@pytest.fixture
def ask() -> Callable[[WSGIEnvironment], bytes]:
    gated = gate.add_to(app, PLACES)

    def ask(environ: WSGIEnvironment) -> bytes:
        answer = gated(environ, lambda *_: lambda _: None)
        try:
            return b"".join(answer)
        finally:
            answer.close()  # type: ignore[attr-defined]

    return ask


@pytest.fixture
def slow() -> Iterator[Callable[[], IO[bytes]]]:
    """Bodies of which one byte has come."""
    ends = []

    def open_one() -> IO[bytes]:
        reading, writing = os.pipe()
        ends.append(writing)
        os.write(writing, b"a")
        return os.fdopen(reading, "rb")

    yield open_one
    for end in ends:
        os.close(end)


def test_slow_bodies_take_no_place(
    ask: Callable[[WSGIEnvironment], bytes], slow: Callable[[], IO[bytes]]
):
    def patiently(environ: WSGIEnvironment) -> None:
        with contextlib.suppress(ClientDisconnected):
            ask(environ)

    for _ in range(PLACES * 4):
        threading.Thread(target=patiently, args=(asked(slow(), "200"),), daemon=True).start()
    heard: list[bytes] = []
    other = threading.Thread(
        target=lambda: heard.append(ask(asked(io.BytesIO(b"abc"), "3"))), daemon=True
    )
    other.start()
    other.join(5)
    assert heard == [b"abc"]


@pytest.mark.parametrize("size", [0, 3, gate.BEGINNING, gate.BEGINNING + 1, 1_000_000])
@pytest.mark.parametrize("is_declared", [True, False])
def test_a_body_is_whole(ask: Callable[[WSGIEnvironment], bytes], size: int, is_declared: bool):
    body = os.urandom(size)
    # Of what is declared no more than that may be read: on a socket it would be waited for.
    sent = io.BytesIO(body + (b"of the next request" if is_declared else b""))
    more = {} if is_declared else {"wsgi.input_terminated": True}
    assert ask(asked(sent, str(size) if is_declared else "", **more)) == body
    assert sent.tell() == size


def test_what_waits_to_be_asked_for_its_body_is_not_asked_before_its_turn(
    ask: Callable[[WSGIEnvironment], bytes],
):
    sent = io.BytesIO(b"a" * 100_000)
    gated = gate.add_to(lambda *_: [b"%d" % sent.tell()], PLACES)
    answer = gated(asked(sent, "100000", HTTP_EXPECT="100-continue"), lambda *_: lambda _: None)
    assert list(answer) == [b"0"]


def test_a_body_that_ends_early_is_not_taken_for_whole(ask: Callable[[WSGIEnvironment], bytes]):
    for length in ("10", "100000"):
        with pytest.raises(ClientDisconnected):
            ask(asked(io.BytesIO(b"abc"), length))
