"""The RSGI application that Granian serves: each request with its body goes to one of
PORTAL_WEB_THREADS threads, where the WSGI application answers it.

A WSGI server takes a thread as soon as a request's head has come, and lets it wait for the body for
as long as the sender likes. Here it is a task that waits for a client, and costs next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import logging
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from portal import processes
from portal.addresses import network_of, site_of
from portal.api.blueprint import PREFIX
from portal.config import Config
from portal.fairness import courtesy
from portal.fairness.company import Company
from portal.front import bodies, large, refusals, sockets
from portal.front.accounts import BATCHES, EVENTS, HEALTH, Accounts
from portal.front.credentials import Credentials, session_of
from portal.front.pages import Pages
from portal.front.rsgi import LEFT, Exchange, Headers, Scope
from portal.front.threads import Threads, is_for_health
from portal.front.work import Work
from portal.front.wsgi import Application, Body
from portal.journal import security_log
from portal.journal.seldom import Seldom
from portal.web.proxies import passed_on

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

CONNECTIONS = 2_048
"""How many connections a process of the server lets in at once."""
SHARE = 256
"""How many of these one network may have, and how many requests under way."""
SITE_SHARE = 512
"""How many all networks of one site may have together (addresses.site_of)."""
OTHER_FILES = 256
"""How many other files a process may need."""
HEAD_SECONDS = 10
"""How long the head of a request may take, and a connection be idle."""
MAX_HEAD = 64 * 1024
REFUSAL_SECONDS = 0.5
"""How long who asks too often waits to be told so: it may ask again at once."""
_NEEDED = (
    "host",
    "cookie",
    "content-type",
    "content-encoding",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "origin",
    "x-csrftoken",
    "x-forwarded-for",
    "x-forwarded-proto",
)
"""Headers without which a request would be another one. Without its key it is refused anyway."""

_log = Seldom(logging.getLogger(__name__), 60)


class Front:
    """The portal, for Granian's interface `rsgi`."""

    def __init__(
        self,
        application: WSGIApplication,
        config: Config,
        look: Callable[[str], object] | None = None,
        is_sign_in: Callable[[str], bool] = lambda _cookie: False,
    ):
        """`look` says (courtesy.is_for) whose the key in an Authorization header is, `is_sign_in`
        whether a session's cookie was given to somebody who signed in."""
        self._application, self._look, self._is_sign_in = application, look, is_sign_in
        self._proxies, self._count = config.proxies, config.web_threads
        self._documentation = f"{config.public_url}/api/docs"
        self._under_way: Counter[str] = Counter()
        self._company = Company(config.data_dir)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        processes.notice_signals_of(loop)
        self._large, self._pages = large.Large(self._count), Pages(self._count)
        self._accounts = Accounts(self._company, self._count)
        self._credentials = Credentials(self._is_sign_in)
        self._wsgi, self._threads = Application(self._application, loop), Threads(loop, self._count)
        # A proxy has as many as it needs; of those before it the requests are counted.
        files = processes.open_files(CONNECTIONS + OTHER_FILES)
        sockets.Guard(None if self._proxies else shares_with(files)).start()

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        if not scope.client:
            raise RuntimeError("The portal is served over TCP, not on a Unix socket (--uds).")
        client = self._client_of(scope)
        network, site = network_of(client), site_of(client)
        if self._under_way[network] >= SHARE or self._under_way[site] >= SITE_SHARE:
            security_log.note_of("limit_reached", network)
            self._refuse(refusals.too_many(), scope, exchange)
            return
        counted = {network, site}
        for name in counted:
            self._under_way[name] += 1
        try:
            _refuse_unreadable(scope.headers)
            session = session_of(scope.headers)
            is_health = is_for_health(scope.method, scope.path)
            owner, credential = (
                (site, None)
                if is_health
                else self._credentials.owner(
                    scope.headers, session, site, is_page=not scope.path.startswith("/api/")
                )
            )
            take = functools.partial(self._accounts.take_piece, owner, is_stranger=owner == site)
            body, rest = await bodies.begin(scope.headers, exchange, take)
            if is_health:
                # It is no company for others, so that who is alone has everything though the portal
                # is watched; but who asks without pause has no more than a share either.
                work = await self._accounts.enter((site, HEALTH), is_known=False, is_stranger=True)
                try:
                    await self._answer(scope, exchange, io.BytesIO(body), work, lambda: None)
                finally:
                    self._accounts.leave(work)
                return
            if rest is not None and credential is not None and owner == site:
                owner = await self._prove(scope, site, credential)
            give_back = await self._pages.place(scope.path, session)
            try:
                work = await self._accounts.enter(
                    (owner, _part(scope, rest is not None, is_stranger=owner == site)),
                    is_known=credential is None or owner != site,
                    is_stranger=owner == site,
                )
            except BaseException:
                give_back()
                raise
            try:
                if rest is None:
                    later = await self._answer(scope, exchange, io.BytesIO(body), work, give_back)
                else:
                    charge = functools.partial(self._accounts.hold, work)
                    async with self._large.turn(
                        owner, is_stranger=owner == site, charge=charge
                    ) as turn:
                        whole = bodies.Rest(
                            body, rest, self._loop, bodies.declared(scope.headers), take, turn
                        )
                        later = await self._answer(
                            scope, exchange, io.BufferedReader(whole, bodies.SMALL), work, give_back
                        )
            finally:
                if not work.is_with_thread:
                    give_back()
                self._accounts.leave(work)
                # The one that came, too: who keeps to it would remain a stranger.
                for shown in (credential, work.session_given):
                    if shown is not None and work.whose is not None:
                        self._credentials.learn(shown, work.whose)
            if later is not None:
                await asyncio.sleep(REFUSAL_SECONDS)
                with contextlib.suppress(*LEFT):
                    later()
        except refusals.Refused as refused:
            self._refuse(refused, scope, exchange)
        finally:
            for name in counted:
                self._under_way[name] -= 1
                if not self._under_way[name]:
                    del self._under_way[name]

    async def _prove(self, scope: Scope, site: str, credential: int) -> str:
        """Whose a request with a large body is that brings a key for the first time: else a sender
        of batches alone would wait behind strangers. The site, where that cannot be told."""
        key = scope.headers.get("authorization")
        if self._look is None or key is None:
            return site
        look = self._look
        work = await self._accounts.enter((site, "programs"), is_known=False, is_stranger=True)

        def find() -> None:
            work.begin()
            courtesy.do(work)
            # What fails here fails again, and is answered then.
            with contextlib.suppress(Exception):
                look(key)
            work.end()

        try:
            await self._perform(scope, work, find, lambda: None)
        finally:
            self._accounts.leave(work)
        if not work.whose:
            return site
        self._credentials.learn(credential, work.whose)
        return work.whose

    def _client_of(self, scope: Scope) -> str:
        """Who asks, by the same rule as in the pages (portal.web.proxies)."""
        client = scope.client.rpartition(":")[0].strip("[]")
        if self._proxies:
            named = ",".join(
                value for name, value in scope.headers.items() if name == "x-forwarded-for"
            )
            client = passed_on(named, self._proxies) or client
        return client

    def _refuse(self, refused: refusals.Refused, scope: Scope, exchange: Exchange) -> None:
        with contextlib.suppress(*LEFT):
            exchange.response_bytes(*refused.answer(scope.path, self._documentation))

    async def _answer(
        self,
        scope: Scope,
        exchange: Exchange,
        body: Body,
        work: Work,
        give_back: Callable[[], None],
    ) -> Callable[[], None] | None:
        """Have a thread answer; what says the answer, where it is to be said later."""
        later: Callable[[], None] | None = None

        def begins_to_stream() -> None:
            work.set_aside()
            self._loop.call_soon_threadsafe(self._accounts.give_place_back, work)
            self._loop.call_soon_threadsafe(give_back)

        def answer() -> None:
            nonlocal later
            work.begin()
            courtesy.do(work)
            try:
                later = self._wsgi.answer(scope, exchange, body, work, begins_to_stream)
            except LEFT:
                # The client has, which is no failure here.
                pass
            except BaseException:  # noqa: BLE001 - it is this request's failure; the thread goes on
                # A SystemExit too, or there would be a thread less from then on. Granian answers
                # 500, or has begun an answer that was cut.
                _log.warn(
                    _place_of(sys.exc_info()), "A request could not be answered.", exc_info=True
                )
            finally:
                work.end()

        await self._perform(scope, work, answer, give_back)
        return later

    async def _perform(
        self, scope: Scope, work: Work, do: Callable[[], None], give_back: Callable[[], None]
    ) -> None:
        def then() -> None:
            give_back()
            work.is_with_thread = False
            self._accounts.leave(work)

        work.is_with_thread = True
        await self._threads.perform(scope.method, scope.path, do, then)


def shares_with(files: int) -> tuple[int, int]:
    """How many connections a network and a site may have where a process may have so many files:
    four networks together take all of them at most."""
    connections = max(files // 2, files - OTHER_FILES)
    return max(1, min(SHARE, connections // 4)), max(2, min(SITE_SHARE, connections // 2))


def _part(scope: Scope, is_large: bool, *, is_stranger: bool) -> str:
    if is_large and is_stranger:
        # It may stall, and all other strangers would wait for it.
        return BATCHES
    if scope.path == f"{PREFIX}/events" and scope.method == "POST":
        return BATCHES if is_large else EVENTS
    return "programs" if scope.path.startswith("/api/") else "people"


def _refuse_unreadable(headers: Headers) -> None:
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
