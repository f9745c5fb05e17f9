"""One request with libcurl, and what comes back of it.

Names are looked up outside of libcurl, which asks for each that it needs. Every connection passes
the egress guard in the socket callback, with the address that the kernel gets next. Redirects are
not followed, proxies and .netrc of the environment are not read, and one deadline covers a whole
attempt, from resolving to the last byte.

A request whose connection, used before, dies without a byte of an answer is sent once more, on a
new one (RFC 9110, 9.2.2; a receiver knows the two by their ID). libcurl would send it up to six
times and tell nobody, so each time is counted before it is sent.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Sequence
from typing import Any, Generic

import certifi
import pycurl

from portal.composing.compose import Certificate, Frame, Outgoing
from portal.outbound import certificates, egress, failures, heads, names, timing
from portal.outbound.connections import Connections, Ends
from portal.outbound.effort import Efforts
from portal.outbound.heads import Head
from portal.outbound.response import Response
from portal.outbound.transport import Tag

MAX_BODY = 64 * 1024
MAX_PIECES = 2_000
"""Pieces of a body that are taken, as chunks and frames make them: each costs as much as any other
step of a delivery, and a body may be in as many as it has bytes."""
RECEIVE_BYTES = 32 * 1024
"""What the kernel keeps of what a connection brings until it is read: so a flood is read in small
pieces, between which others have their turn, and a thousand connections fill no memory."""
CIPHERS = "DEFAULT:!kDHE"
"""Of TLS 1.2. In a group that a receiver makes up (DHE) one may take a second of all time."""
MOST_SENDS = 2
"""How often a request is sent within one attempt."""
NAMES_SECONDS = 8
"""How long addresses of names are kept."""
_GO_ON: int = pycurl.PREREQFUNC_OK
_STOP: int = pycurl.PREREQFUNC_ABORT


class Transfer(Generic[Tag]):
    """One libcurl easy handle and what it collects; used for one request after another."""

    tag: Tag
    whose: int | None = None
    """The merchant that it is sent for."""
    ends_at = 0.0
    """When its time is over (this process's clock)."""

    def __init__(
        self,
        allow: Sequence[egress.Admitted],
        inspect_url: str | None,
        connections: Connections,
        efforts: Efforts,
        *,
        looks_only: bool = False,
    ):
        self._allow = allow
        self._connections = connections
        self._efforts = efforts
        self.looks_only = looks_only
        self._inspect_url = inspect_url
        self._frame: Frame | None = None
        self._timeout_seconds = 0.0
        self._has_certificate = False
        self._refused: str | None = None
        self._started = 0.0
        self._sends = 0
        self._opens = False
        """Whether a connection was opened for this request since it was last sent."""
        self._is_sent = self._reuses = False
        """Whether it was sent since it was begun, and over a connection that had been used
        before."""
        self._turned_away = False
        """Whether it was kept from being sent, once more or over a connection that has died."""
        self._before_us = 0
        """How long it had taken when it was begun once more."""
        self.name: str | None = None
        """The name whose addresses it needs or has got since it was last begun, without which
        libcurl goes no further."""
        self._port = 0
        self.needs_addresses = False
        self._asked_at = 0.0
        self._names_us = 0
        """How long it has waited for addresses."""
        self.ends: Ends = ("", 0), ("", 0)
        """Those of the connection that it was last sent over."""
        self._opened = 0
        """How many connections had been opened when it was last sent."""
        self._head = Head()
        self._came = self._pieces = 0
        self._body = bytearray()
        self._truncated = False
        self.easy = easy = pycurl.Curl()
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.PROXY, "")
        easy.setopt(pycurl.NETRC, 0)
        easy.setopt(pycurl.DNS_CACHE_TIMEOUT, NAMES_SECONDS)
        easy.setopt(pycurl.RESOLVER_START_FUNCTION, self._before_looking_up)
        easy.setopt(pycurl.FOLLOWLOCATION, 0)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.HTTP09_ALLOWED, 0)
        easy.setopt(pycurl.PATH_AS_IS, 1)
        easy.setopt(pycurl.CAINFO, certifi.where())
        easy.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        easy.setopt(pycurl.SSL_CIPHER_LIST, CIPHERS)
        easy.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        easy.setopt(pycurl.PREREQFUNCTION, self._before_sending)
        easy.setopt(pycurl.HEADERFUNCTION, self._head.take)
        easy.setopt(pycurl.WRITEFUNCTION, self._take_body)
        easy.setopt(pycurl.XFERINFOFUNCTION, self.has_worked)
        self._tells_of_work = False
        if looks_only:
            easy.setopt(pycurl.CONNECT_ONLY, 1)
            # A connection that is there already tells nothing of now.
            easy.setopt(pycurl.FRESH_CONNECT, 1)
            easy.setopt(pycurl.OPT_CERTINFO, 1)

    def begin(
        self, outgoing: Outgoing, timeout_seconds: float, tag: Tag, whose: int | None
    ) -> None:
        """Prepare the handle for a request; the time for it counts from now."""
        self.tag, self.whose = tag, whose
        self._started = time.monotonic()
        self.ends_at = self._started + timeout_seconds
        easy, frame = self.easy, outgoing.frame
        if frame is not self._frame:
            self._frame = frame
            easy.setopt(pycurl.URL, names.plain(frame.url))
            easy.setopt(pycurl.CUSTOMREQUEST, frame.method)
            self._choose_guard(frame.url)
            self._choose_certificate(frame.certificate)
        if outgoing.body is None:
            easy.setopt(pycurl.HTTPGET, 1)
        else:
            easy.setopt(pycurl.POSTFIELDS, outgoing.body)
        # "Expect:" keeps libcurl from waiting for 100 Continue before a large body.
        easy.setopt(pycurl.HTTPHEADER, [b"Expect:", *outgoing.lines()])
        if timeout_seconds != self._timeout_seconds:
            self._timeout_seconds = timeout_seconds
            easy.setopt(pycurl.TIMEOUT_MS, max(1, int(timeout_seconds * 1_000)))
        self.tell_of_work()

    def tell_of_work(self) -> None:
        """Have libcurl tell what it does for this request, where efforts are counted."""
        if self._tells_of_work is not self._efforts.counts:
            self._tells_of_work = self._efforts.counts
            self.easy.setopt(pycurl.NOPROGRESS, not self._tells_of_work)

    def once_more(self, code: int) -> bool:
        """After a failure: whether to add the handle again, since the connection that it was given
        had died; it is then prepared to open a new one, within the time that is left."""
        died = (
            self._reuses
            and code in failures.DIED
            and not self._head.lines
            and not self._connections.has_flooded(self.ends)
        )
        if not (died or self._turned_away) or self._sends == MOST_SENDS:
            return False
        if self._sends:
            self._connections.leave(self.ends[1], self._opened)
        self._turned_away = self._is_sent = self._reuses = False
        self._refused = self.name = None
        self._go_on()
        self.easy.setopt(pycurl.FRESH_CONNECT, 1)
        return True

    def take_addresses(self, addresses: Sequence[str]) -> None:
        """Prepare the handle to be added again, now that there are addresses of `name`. libcurl
        keeps them for all requests, for as long as if it had found them itself."""
        self.needs_addresses = False
        self._names_us += int((time.monotonic() - self._asked_at) * 1e6)
        listed = ",".join(f"[{one}]" if ":" in one else one for one in addresses)
        self.easy.setopt(pycurl.RESOLVE, [f"+{self.name}:{self._port}:{listed}"])
        self._go_on()

    def without_addresses(self, *, is_over: bool) -> Response:
        """What came of the request where `name` has no address, or (`is_over`) its time has passed
        before that was known."""
        self._measure()
        if is_over:
            milliseconds = self._before_us // 1_000
            words = f"Resolving timed out after {milliseconds} milliseconds"
            return self.answer(pycurl.E_OPERATION_TIMEDOUT, words)
        words = f"Could not resolve host: {self.name}"
        return self.answer(pycurl.E_COULDNT_RESOLVE_HOST, words)

    def _measure(self) -> None:
        self._before_us = max(1, int((time.monotonic() - self._started) * 1e6))

    def _go_on(self) -> None:
        """Use what is left of the time."""
        self.tell_of_work()
        self._measure()
        left = self._timeout_seconds - self._before_us / 1e6
        self.easy.setopt(pycurl.TIMEOUT_MS, max(1, int(left * 1_000)))

    def _choose_guard(self, url: str) -> None:
        is_inspector = egress.is_inspector(url, self._inspect_url)
        self._refusal = egress.inspector_refusal if is_inspector else egress.refusal_here
        # What this guard lets through is for this request alone: no other may find the
        # connection in libcurl's pool, or share it while it is in use as HTTP/2 allows.
        self.easy.setopt(pycurl.FORBID_REUSE, is_inspector)
        self.easy.setopt(
            pycurl.HTTP_VERSION,
            pycurl.CURL_HTTP_VERSION_1_1 if is_inspector else pycurl.CURL_HTTP_VERSION_2TLS,
        )

    def _choose_certificate(self, certificate: Certificate | None) -> None:
        # libcurl takes no connection from its pool that was made with another certificate.
        if certificate is not None:
            self.easy.setopt(pycurl.SSLCERT_BLOB, certificate.chain.encode())
            self.easy.setopt(pycurl.SSLKEY_BLOB, certificate.key.encode())
        elif self._has_certificate:
            self.easy.unsetopt(pycurl.SSLCERT_BLOB)
            self.easy.unsetopt(pycurl.SSLKEY_BLOB)
        self._has_certificate = certificate is not None

    @property
    def frame(self) -> Frame | None:
        """What the handle is prepared for."""
        return self._frame

    @property
    def came(self) -> int:
        """How many bytes of an answer have come, interim ones included."""
        return self._head.came + self._came

    def end(self) -> None:
        """Forget the request, and be ready for the next."""
        self._connections.answered(self.ends, self.came)
        self._came = self._pieces = 0
        self._refused, self._sends = None, 0
        self._opens = self._turned_away = self._is_sent = self._reuses = False
        self.name, self.needs_addresses = None, False
        if self._before_us:
            self._before_us = self._names_us = 0
            self._timeout_seconds = 0.0
            self.easy.setopt(pycurl.FRESH_CONNECT, 0)
        self._head.clear()
        self._body = bytearray()
        self._truncated = False

    def answer(self, code: int, message: str) -> Response:
        """What came of the request, given libcurl's code and message."""
        easy = self.easy
        error, detail = (None, None)
        headers = self._head.headers()
        if code and not (code == pycurl.E_WRITE_ERROR and self._truncated):
            error, detail = self._error(code, message)
        elif self._head.is_too_large:
            error, detail = "headers_too_large", heads.TOO_LARGE
        elif self._head.is_cut:
            error, detail = "answer_cut_short", heads.CUT
        status = easy.getinfo(pycurl.RESPONSE_CODE) or None
        if error is not None and error != "answer_cut_short":
            status = None
        return Response(
            status,
            error,
            detail,
            headers,
            bytes(self._body),
            self._truncated,
            self._sends,
            self.came,
            *timing.of(easy, self._before_us, self._names_us, self._sends > 0),
            self._certificate_ends_at() if self.looks_only else None,
        )

    def _certificate_ends_at(self) -> int | None:
        """From what the target showed; its own certificate stands first."""
        chain = self.easy.getinfo(pycurl.INFO_CERTINFO)
        pem = dict(chain[0]).get("Cert") if chain else None
        with contextlib.suppress(ValueError):
            return None if pem is None else certificates.ends_at(pem)
        return None

    def _open_socket(self, _purpose: int, address: Any) -> Any:
        try:
            target = ipaddress.ip_address(address.addr[0].split("%")[0])
        except (ValueError, AttributeError, TypeError, IndexError):
            self._refused = "not an IP address"
            return pycurl.SOCKET_BAD
        kind = self._refusal(target, self._allow)
        if kind is not None:
            self._refused = f"{target} is {kind}"
            return pycurl.SOCKET_BAD
        self._opens = True
        self._connections.opener = self.whose
        opened = socket.socket(address.family, address.socktype, address.protocol)
        # Before it connects, so that the other end is told so.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        return opened

    def _before_looking_up(self, *_nothing: object) -> int:
        """What libcurl calls each time when it needs addresses that it does not have."""
        if self._is_sent:
            # As below: this is for another connection, in place of one that has died.
            self._turned_away = True
            return 1
        assert self._frame is not None
        found = names.named_in(self._frame.url)
        if found is None:
            return 0
        # If it asks again though it has got them, it does not know them by this name.
        self.name, self._port = found if self.name is None else ("", 0)
        self.needs_addresses = True
        self._asked_at = time.monotonic()
        return 1

    def _before_sending(self, their_ip: str, own_ip: str, their_port: int, own_port: int) -> int:
        """What libcurl calls each time when it is about to send the request."""
        connections = self._connections
        ends = (own_ip, own_port), (their_ip, their_port)
        opened, self._opens = self._opens, False
        if opened:
            connections.open(ends)
        if self._is_sent or not connections.may_use(ends):
            # This connection has died, or the one before it, and libcurl tries again by itself, for
            # which the time would start anew. `once_more` goes on from here.
            self._turned_away = True
            return _STOP
        self._sends += 1
        self._is_sent = True
        self.ends = ends
        connections.sent(ends, self.whose)
        self._reuses, self._opened = not opened, connections.opened
        return _GO_ON

    def has_worked(self, *_progress: int) -> int:
        """What libcurl calls when it has done something for this request, where it is to tell."""
        self._efforts.took(self.whose)
        return 0

    def _take_body(self, chunk: bytes) -> int | None:
        room = MAX_BODY - len(self._body)
        self._body += chunk[:room]
        self._came += len(chunk)
        self._pieces += 1
        if len(chunk) > room or self._pieces > MAX_PIECES:
            self._truncated = True
            return 0
        return None

    def _error(self, code: int, message: str) -> tuple[str, str]:
        if self._head.is_too_large:
            return "headers_too_large", heads.TOO_LARGE
        detail = message or "The request failed."
        # libcurl tells no time of connecting where the connection had been used before.
        connected = self._is_sent or self.easy.getinfo(pycurl.CONNECT_TIME_T)
        if self._refused is not None and not connected:
            return "egress_refused", f"The target's address may not be reached: {self._refused}."
        if self._is_sent and self._connections.has_flooded(self.ends):
            return "bad_answer", (
                "The answer brought far more than its headers and its body are, such as chunk "
                "extensions or frames of HTTP/2 without an end."
            )
        if code == pycurl.E_ABORTED_BY_CALLBACK:
            return "connection_reset", "The connection was closed without an answer, twice."
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return ("timeout" if connected else "connect_timeout"), detail
        return failures.of(self.easy, code, detail), detail
