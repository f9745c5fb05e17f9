"""The portal's web server with deadlines that a test can wait for, and an application to stream:
`python -m tests.front_server TARGET`, as supervisor.serve takes it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException

from portal.config import load_config
from portal.fairness import courtesy
from portal.front import application, bodies, large, sockets
from portal.front.accounts import Accounts

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SHARE = application.SHARE = 40
SITE_SHARE = application.SITE_SHARE = 60
HEAD_SECONDS = application.HEAD_SECONDS = 2
BODY_SECONDS = bodies.SECONDS = 2.0
LATE_SECONDS = 1.2
UNTAKEN_SECONDS = sockets.UNTAKEN_SECONDS = 1.0
large.WAIT_SECONDS = 4.0
sockets.LOOK_SECONDS = 0.1

WORK_SECONDS = 0.05

_streams = _pieces = 0
_mutex = threading.Lock()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes] | Iterator[bytes]:
    """What a test asks for by its path."""
    path = environ["PATH_INFO"]
    if path == "/endless":
        start_response("200 OK", [])
        return _endless()
    if path == "/broken":
        start_response("200 OK", [])
        return _broken()
    if path == "/exit":
        raise SystemExit(1)
    if path == "/too-often":
        start_response("429 TOO MANY REQUESTS", [("Content-Length", "0")])
        return []
    courtesy.is_for(environ.get("HTTP_AUTHORIZATION", courtesy.NOBODYS))
    if path == "/work" or environ["QUERY_STRING"] == "work":
        until = time.thread_time() + WORK_SECONDS
        while time.thread_time() < until:
            pass
    if path in ("/streams", "/pieces"):
        said = str(_streams if path == "/streams" else _pieces)
    elif path == "/environ":
        said = "\n".join(f"{name}={environ[name]}" for name in environ if name.isupper())
    elif path == "/memory":
        lines = Path("/proc/self/status").read_text().splitlines()
        said = next(line.split()[1] for line in lines if line.startswith("VmRSS"))
    else:
        if path == "/late":
            time.sleep(LATE_SECONDS)
        try:
            said = str(len(environ["wsgi.input"].read()))
        except HTTPException as error:
            return list(error.get_response(environ)(environ, start_response))
    start_response("200 OK", [("Content-Length", str(len(said.encode())))])
    return [said.encode()]


_take_piece = Accounts.take_piece


async def _count_piece(accounts: Accounts, owner: str, *, is_stranger: bool) -> None:
    global _pieces
    _pieces += 1
    await _take_piece(accounts, owner, is_stranger=is_stranger)


Accounts.take_piece = _count_piece  # type: ignore[method-assign]


def _look(authorization: str) -> None:
    courtesy.is_for(authorization if authorization != "wrong" else courtesy.NOBODYS)


def _endless() -> Iterator[bytes]:
    global _streams
    with _mutex:
        _streams += 1
    try:
        while True:
            yield b"x" * 65_536
    finally:
        with _mutex:
            _streams -= 1


def _broken() -> Iterator[bytes]:
    yield b"the first part"
    raise ValueError("this download cannot go on")


if __name__ == "__main__":
    from portal.run import supervisor

    supervisor.serve(load_config(first_start=True), sys.argv[1])
else:
    front = application.Front(app, load_config(first_start=True), _look)
