"""How many requests a web process works on at once; those that ask for its health wait for none.

For servers of WSGI, which may have any number of threads: behind this gate only PORTAL_WEB_THREADS
of them are at work, which is what pools and streams reckon with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ALWAYS_OPEN = frozenset((method, path) for method in ("GET", "HEAD") for path in (
    "/healthz", "/readyz",
))


def add_to(application: WSGIApplication, places: int) -> WSGIApplication:
    """The application, of whose answers only so many are made and given at a time."""
    free = threading.Semaphore(places)

    def gated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) in _ALWAYS_OPEN:
            return application(environ, start_response)
        free.acquire()
        try:
            return _Answer(application(environ, start_response), free.release)
        except BaseException:
            free.release()
            raise

    return gated


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
