"""The RSGI application that Granian serves: each request with its body goes to one of
PORTAL_WEB_THREADS threads, where the WSGI application answers it.

A WSGI server takes a thread as soon as a request's head has come, and lets it wait for the body for
as long as the sender likes. Here it is a task that waits for a client, and costs next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import queue
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from granian.rsgi import ProtocolClosed, ProtocolError

from portal import courtesy, processes, security_log
from portal.addresses import network_of
from portal.api.blueprint import PREFIX
from portal.config import Config
from portal.front import bodies, refusals, sockets
from portal.front.accounts import BATCHES, EVENTS, Accounts, Work, end
from portal.front.company import Company
from portal.front.credentials import Credentials
from portal.front.pages import Pages
from portal.seldom import Seldom

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

CONNECTIONS = 2_048
"""How many connections a process of the server lets in at once."""
SHARE = 256
"""How many of these one network may have, and how many requests under way."""
OTHER_FILES = 256
"""How many other files a process may need."""
HEAD_SECONDS = 10
"""How long the head of a request may take, and a connection be idle."""
MAX_HEAD = 64 * 1024
WHOLE = 1024 * 1024
"""Bytes of an answer that are handed over at once; what is larger, or has no end yet, is sent as
its reader takes it."""
END_SECONDS = 0.005
"""How long the task of an answered request may wait for others to end with."""
REFUSAL_SECONDS = 0.5
"""How long who asks too often waits to be told so: it may ask again at once."""
_LEFT = (ProtocolClosed, ProtocolError)
"""What Granian raises where the client is no longer there."""
_NEEDED = (
    "host", "cookie", "content-type", "content-encoding", "idempotency-key",
    "if-match", "if-none-match", "origin", "x-csrftoken", "x-forwarded-for", "x-forwarded-proto",
)
"""Headers without which a request would be another one. Without its key it is refused anyway."""
_HEALTH = {"/healthz": 1, "/readyz": 8}
"""Requests for health have threads of their own, and so wait for no others."""

_log = Seldom(logging.getLogger(__name__), 60)


class Scope(Protocol):
    """A request's head, as RSGI has it."""

    proto: str
    http_version: str
    server: str
    client: str
    scheme: str
    method: str
    path: str
    query_string: str
    headers: bodies.Headers


class Exchange(bodies.Incoming, Protocol):
    """A request's body, and the way back (RSGI's HTTP protocol)."""

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...
    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...
    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Any: ...


class Front:
    """The portal, for Granian's interface `rsgi`."""

    def __init__(self, application: WSGIApplication, config: Config):
        self._application = application
        self._proxies, self._threads = config.proxies, config.web_threads
        self._documentation = f"{config.public_url}/api/docs"
        self._under_way: Counter[str] = Counter()
        self._company = Company(config.data_dir / "web-company")
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._answered: deque[Callable[[], None]] = deque()
        self._is_ending = False

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        processes.notice_signals_of(loop)
        self._large, self._pages = bodies.Large(self._threads), Pages(self._threads)
        self._accounts, self._credentials = Accounts(self._company), Credentials()
        self._health = {
            path: ThreadPoolExecutor(threads, "health") for path, threads in _HEALTH.items()
        }
        for number in range(self._threads):
            threading.Thread(target=self._work, name=f"web-{number}", daemon=True).start()
        # A proxy has as many as it needs; of those before it the requests are counted.
        sockets.Guard(None if self._proxies else SHARE).start()

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        if not scope.client:
            raise RuntimeError("The portal is served over TCP, not on a Unix socket (--uds).")
        network = self._network_of(scope)
        if self._under_way[network] >= SHARE:
            security_log.note_of("limit_reached", network)
            self._refuse(refusals.too_many(), scope, exchange)
            return
        self._under_way[network] += 1
        try:
            _refuse_unreadable(scope.headers)
            body, rest = await bodies.begin(scope.headers, exchange)
            if scope.path in _HEALTH:
                await self._answer(scope, exchange, io.BytesIO(body))
                return
            owner, credential = self._credentials.owner(scope.headers, network)
            work = await self._accounts.enter(
                (owner, _part(scope, rest is not None)),
                is_known=credential is None or owner != network,
            )
            try:
                if rest is None:
                    later = await self._answer(scope, exchange, io.BytesIO(body), work)
                else:
                    async with self._large.turn(network):
                        whole = bodies.Rest(body, rest, self._loop, bodies.declared(scope.headers))
                        later = await self._answer(
                            scope, exchange, io.BufferedReader(whole, bodies.SMALL), work
                        )
            finally:
                self._accounts.leave(work)
                if credential is not None and work.whose is not None:
                    self._credentials.learn(credential, work.whose)
            if later is not None:
                await asyncio.sleep(REFUSAL_SECONDS)
                with contextlib.suppress(*_LEFT):
                    later()
        except refusals.Refused as refused:
            self._refuse(refused, scope, exchange)
        finally:
            self._under_way[network] -= 1
            if not self._under_way[network]:
                del self._under_way[network]

    def _network_of(self, scope: Scope) -> str:
        """Who asks, by the same rule as werkzeug's ProxyFix."""
        client = scope.client.rpartition(":")[0].strip("[]")
        if self._proxies:
            named = [
                value for name, value in scope.headers.items() if name == "x-forwarded-for"
            ]
            passed_on = [part.strip() for part in ",".join(named).split(",")]
            if named and len(passed_on) >= self._proxies:
                client = passed_on[-self._proxies]
        return network_of(client)

    def _refuse(self, refused: refusals.Refused, scope: Scope, exchange: Exchange) -> None:
        with contextlib.suppress(*_LEFT):
            exchange.response_bytes(*refused.answer(scope.path, self._documentation))

    async def _answer(
        self, scope: Scope, exchange: Exchange, body: io.BytesIO | io.BufferedReader,
        work: Work | None = None,
    ) -> Callable[[], None] | None:
        """Have a thread answer; what says the answer, where it is to be said later."""
        give_back = await self._pages.place(scope.path, scope.headers)
        done, later = self._loop.create_future(), None

        def is_ended() -> None:
            # Not when this task is: the thread goes on where the client has left.
            give_back()
            if work is not None:
                self._accounts.leave(work)
            end(done)

        def begins_to_stream() -> None:
            if work is not None:
                work.set_aside()
            self._loop.call_soon_threadsafe(give_back)

        def perform() -> None:
            nonlocal later
            if work is not None:
                work.begin()
            courtesy.do(work)
            try:
                later = self._perform(scope, exchange, body, begins_to_stream, work)
            except _LEFT:
                # The client has, which is no failure here.
                pass
            except BaseException:  # noqa: BLE001 - it is this request's failure; the thread goes on
                # A SystemExit too, or there would be a thread less from then on. Granian answers
                # 500, or has begun an answer that was cut.
                _log.warn(_place_of(sys.exc_info()), "A request could not be answered.",
                          exc_info=True)
            finally:
                if work is not None:
                    work.end()
                self._end_soon(is_ended)

        health = self._health.get(scope.path)
        if health is not None and scope.method in ("GET", "HEAD"):
            health.submit(perform)
        else:
            self._waiting.put(perform)
        await done
        return later

    def _end_soon(self, is_ended: Callable[[], None]) -> None:
        # The client has its answer. Each time the loop is woken it takes the interpreter from a
        # thread that works on the next one, so tasks end together.
        self._answered.append(is_ended)
        if not self._is_ending:
            self._is_ending = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(
                    self._loop.call_later, END_SECONDS, self._end_answered
                )

    def _end_answered(self) -> None:
        # In this order: what comes after the last look schedules the next one.
        self._is_ending = False
        while self._answered:
            self._answered.popleft()()

    def _work(self) -> None:
        while True:
            self._waiting.get()()

    def _perform(
        self, scope: Scope, exchange: Exchange, body: io.BytesIO | io.BufferedReader,
        begins_to_stream: Callable[[], object], work: Work | None,
    ) -> Callable[[], None] | None:
        status, headers = 500, list[tuple[str, str]]()

        def start(
            line: str, named: list[tuple[str, str]], _exc_info: Any = None
        ) -> Callable[[bytes], object]:
            nonlocal status, headers
            status, headers = int(line.partition(" ")[0]), named
            return _no_write

        parts = self._application(environ_of(scope, body), start)
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
                    self._stream(
                        wire, exchange.response_stream(status, headers), parts, work
                    )
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
        except (sockets.Gone, *_LEFT):
            wire.cut()
        except BaseException:
            # A file that merely ended would look whole.
            wire.cut()
            raise
        finally:
            wire.close()


def environ_of(scope: Scope, body: io.BytesIO | io.BufferedReader) -> WSGIEnvironment:
    """The WSGI environment of a request (PEP 3333)."""
    name, _, port = scope.server.rpartition(":")
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": scope.method, "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string.encode().decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}", "SERVER_NAME": name.strip("[]"),
        "SERVER_PORT": port,
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.version": (1, 0), "wsgi.url_scheme": scope.scheme, "wsgi.input": body,
        "wsgi.input_terminated": True, "wsgi.errors": sys.stderr, "wsgi.multithread": True,
        "wsgi.multiprocess": True, "wsgi.run_once": False,
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


def _part(scope: Scope, is_large: bool) -> str:
    if scope.path == f"{PREFIX}/events" and scope.method == "POST":
        return BATCHES if is_large else EVENTS
    return "programs" if scope.path.startswith("/api/") else "people"


def _refuse_unreadable(headers: bodies.Headers) -> None:
    """Granian has the names of all headers, and no value with a letter beyond ASCII: as if it had
    not been sent. Raises Refused."""
    for name in _NEEDED:
        if name in headers and headers.get(name) is None:
            raise refusals.unreadable(name)


def _place_of(failure: Any) -> tuple[object, object]:
    """A defect is the same where it is of the same kind and raised at the same line."""
    kind, _, frames = failure
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return kind, frames and (frames.tb_frame.f_code, frames.tb_lineno)


def _length(headers: list[tuple[str, str]]) -> float:
    for name, value in headers:
        if name.lower() == "content-length":
            return int(value)
    return float("inf")


def _no_write(_data: bytes) -> None:
    raise NotImplementedError("the portal gives its answers as iterables")
