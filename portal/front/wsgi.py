"""The WSGI application: how a request comes to it, and its answer to the client."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from portal.front import sockets
from portal.front.credentials import session_given
from portal.front.rsgi import LEFT, Exchange, Scope
from portal.front.work import Work

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

WHOLE = 1024 * 1024
"""Bytes of an answer that are handed over at once; what is larger, or has no end yet, is sent as
its reader takes it."""

Body = io.BytesIO | io.BufferedReader


class Application:
    """A WSGI application behind RSGI."""

    def __init__(self, application: WSGIApplication, loop: asyncio.AbstractEventLoop):
        self._application, self._loop = application, loop

    def answer(
        self,
        scope: Scope,
        exchange: Exchange,
        body: Body,
        work: Work | None,
        begins_to_stream: Callable[[], object],
    ) -> Callable[[], None] | None:
        """Answer a request; what says the answer, where it is to be said later. To be called by a
        thread. Raises what the application does, and one of LEFT where the client has gone."""
        status, headers = 500, list[tuple[str, str]]()

        def start(
            line: str, named: list[tuple[str, str]], _exc_info: Any = None
        ) -> Callable[[bytes], object]:
            nonlocal status, headers
            status, headers = int(line.partition(" ")[0]), named
            return _no_write

        parts = self._application(environ_of(scope, body), start)
        if work is not None:
            work.session_given = session_given(headers)
        try:
            if scope.method == "HEAD" or _length(headers) <= WHOLE:
                whole = b"".join(parts)
                if status == HTTPStatus.TOO_MANY_REQUESTS:
                    return lambda: exchange.response_bytes(status, headers, whole)
                if whole:
                    exchange.response_bytes(status, headers, whole)
                else:
                    exchange.response_empty(status, headers)
            else:
                begins_to_stream()
                wire = sockets.wire_to(scope.client)
                if wire is not None:
                    self._stream(wire, exchange.response_stream(status, headers), parts, work)
            return None
        finally:
            closing = getattr(parts, "close", None)
            if closing:
                closing()

    def _stream(
        self, wire: sockets.Wire, transport: Any, parts: Iterable[bytes], work: Work | None
    ) -> None:
        async def send(part: bytes) -> None:
            await transport.send_bytes(part)

        try:
            for part in parts:
                if work is not None:
                    work.breathe()
                if part:
                    wire.wait_until_taken(sockets.UNTAKEN_SECONDS)
                    asyncio.run_coroutine_threadsafe(send(part), self._loop).result()
                if work is not None:
                    # Its reader's time is not its own.
                    work.begin()
        except (sockets.Gone, *LEFT):
            wire.cut()
        except BaseException:
            # A file that merely ended would look whole.
            wire.cut()
            raise
        finally:
            wire.close()


def environ_of(scope: Scope, body: Body) -> WSGIEnvironment:
    """The WSGI environment of a request (PEP 3333)."""
    name, _, port = scope.server.rpartition(":")
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string.encode().decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "SERVER_NAME": name.strip("[]"),
        "SERVER_PORT": port,
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for header, value in scope.headers.items():
        if "_" in header:
            # It would have the name of one that a proxy sets, such as X-Forwarded-For.
            continue
        key = header.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        if key in environ:
            value = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
        environ[key] = value
    return environ


def _length(headers: list[tuple[str, str]]) -> float:
    for name, value in headers:
        if name.lower() == "content-length":
            return int(value)
    return float("inf")


def _no_write(_data: bytes) -> None:
    raise NotImplementedError("the portal gives its answers as iterables")
