"""How many requests a web process works on at once; those that ask for its health wait for none.

For servers of WSGI, which may have any number of threads: behind this gate only PORTAL_WEB_THREADS
of them are at work, which is what pools and streams reckon with. A body that has not come yet keeps
a thread of the server waiting, and no place.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ALWAYS_OPEN = frozenset(
    (method, path) for method in ("GET", "HEAD") for path in ("/healthz", "/readyz")
)


BEGINNING = 64 * 1024
"""Bytes of a body that must be here before a place is taken: a form, an event."""


def add_to(application: WSGIApplication, places: int) -> WSGIApplication:
    """The application, of whose answers only so many are made and given at a time."""
    free = threading.Semaphore(places)

    def gated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) in _ALWAYS_OPEN:
            return application(environ, start_response)
        _await_body(environ)
        free.acquire()
        try:
            return _Answer(application(environ, start_response), free.release)
        except BaseException:
            free.release()
            raise

    return gated


def _await_body(environ: WSGIEnvironment) -> None:
    """Have the body here, or its beginning, for who reads it."""
    said = environ.get("CONTENT_LENGTH") or ""
    if said.isascii() and said.isdigit():
        length = int(said[-20:])
    elif environ.get("wsgi.input_terminated"):
        length = -1
    else:
        return
    if length > BEGINNING and "HTTP_EXPECT" in environ:
        # The sender waits to be asked for it, and there may be reasons not to.
        return
    stream = environ["wsgi.input"]
    # What fails here fails again, and is answered then.
    with contextlib.suppress(OSError, ValueError):
        begun = stream.read(min(length, BEGINNING) if length >= 0 else BEGINNING)
        environ["wsgi.input"] = (
            io.BytesIO(begun)
            if 0 <= length <= BEGINNING
            else (io.BufferedReader(_Begun(begun, stream, length), BEGINNING))
        )


class _Begun(io.RawIOBase):
    """A body of which the beginning has been read; its length is negative where it ends by itself,
    and else no more is asked for, which would never come."""

    def __init__(self, begun: bytes, rest: Any, length: int):
        self._begun, self._rest = memoryview(begun), rest
        self._left = length - len(begun) if length >= 0 else None

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """The next bytes (io.RawIOBase)."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        piece = self._begun[: len(view)]
        if piece:
            self._begun = self._begun[len(piece) :]
        else:
            wanted = len(view) if self._left is None else min(len(view), self._left)
            piece = memoryview(self._rest.read(wanted) if wanted else b"")
            if self._left is not None:
                self._left -= len(piece)
        view[: len(piece)] = piece
        return len(piece)


class _Answer(Iterator[bytes]):
    """An answer that keeps its place until it is closed."""

    def __init__(self, body: Iterable[bytes], give_back: Callable[[], None]):
        self._body, self._parts = body, iter(body)
        self._give_back: Callable[[], None] | None = give_back

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        """End the answer and give its place back; servers call it once they are done with it."""
        give_back, self._give_back = self._give_back, None
        if give_back is None:
            return
        try:
            closing = getattr(self._body, "close", None)
            if closing:
                closing()
        finally:
            give_back()

    def __del__(self) -> None:
        self.close()
