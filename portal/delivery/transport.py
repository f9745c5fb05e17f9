"""The only outbound HTTP: many requests at once in one thread, on libcurl's multi interface.

Every connection passes the egress guard in the socket callback, with the address that the kernel
gets next. Redirects are not followed, proxies and .netrc of the environment are not read, and one
deadline covers a whole attempt, from resolving to the last byte.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import certifi
import pycurl

from portal.delivery import egress
from portal.delivery.compose import Frame, Outgoing

MAX_BODY = 64 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 * 1024
MAX_CONNECTIONS = 1_024
"""Connections kept, busy ones included. More requests at once than this would close one for each
that ends, and open one for each that starts."""
NAMES_SECONDS = 8
"""How long addresses of names are kept. That there are none libcurl keeps half as long, which is
less than the 5 s after which the schedule tries again."""

_EVENTS = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}

Tag = TypeVar("Tag")


@dataclass(slots=True)
class Answer:
    """What came back, or why nothing did. Times are in µs; a part that did not happen is None."""

    status: int | None = None
    error: str | None = None
    error_detail: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    truncated: bool = False
    duration_us: int = 0
    dns_us: int | None = None
    connect_us: int | None = None
    tls_us: int | None = None
    send_us: int | None = None
    wait_us: int | None = None
    download_us: int | None = None


class Transport(Generic[Tag]):
    """Sends requests and gives back their answers with the tag each was submitted with.

    Not for several threads. `allow` are the private networks that may be reached; `inspect_url`
    is how the portal's own inspectors begin (egress.is_inspector), which may be reached too.
    """

    def __init__(self, allow: Sequence[egress.Network], inspect_url: str | None = None):
        self._allow = tuple(allow)
        self._inspect_url = inspect_url
        self._epoll = select.epoll()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, MAX_CONNECTIONS)
        self._wake_at: float | None = None
        self.woken = False
        """Whether a watched fd could be read in the last `run`."""
        self.waited_seconds = 0.0
        """How long `run` had nothing to do, over all calls."""
        self._watched: set[int] = set()
        self._wanted: set[int] = set()
        """Sockets that libcurl waits for now. Between two requests a connection stays registered
        with epoll, which costs less than to leave and to come back."""
        self._idle: list[_Transfer[Tag]] = []
        self._busy: dict[Any, _Transfer[Tag]] = {}

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return len(self._busy)

    def submit(self, outgoing: Outgoing, timeout_seconds: float, tag: Tag) -> None:
        """Start a request; `run` gives its answer, at the latest after `timeout_seconds`."""
        transfer = self._idle.pop() if self._idle else _Transfer[Tag](
            self._allow, self._inspect_url
        )
        transfer.begin(outgoing, timeout_seconds, tag)
        self._busy[transfer.easy] = transfer
        self._multi.add_handle(transfer.easy)

    def watch(self, fd: int) -> None:
        """Let `run` return early when `fd` can be read."""
        self._watched.add(fd)
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Undo `watch`."""
        self._watched.discard(fd)
        self._epoll.unregister(fd)

    def run(self, seconds: float) -> list[tuple[Tag, Answer]]:
        """Work for up to `seconds`, or until an answer has come or a watched fd can be read."""
        wait = seconds
        self.woken = False
        started = time.monotonic()
        if self._wake_at is not None:
            wait = min(seconds, max(0.0, self._wake_at - started))
        # epoll rounds down to milliseconds and would spin through the last one.
        ready = self._epoll.poll(wait if wait == 0 else wait + 0.0005)
        self.waited_seconds += time.monotonic() - started
        for fd, events in ready:
            if fd in self._watched:
                self.woken = True
                continue
            if fd not in self._wanted:
                # An idle connection that its receiver closes: libcurl notices when it takes it.
                with contextlib.suppress(OSError):
                    self._epoll.unregister(fd)
                continue
            mask = 0
            if events & (select.EPOLLIN | select.EPOLLHUP):
                mask |= pycurl.CSELECT_IN
            if events & select.EPOLLOUT:
                mask |= pycurl.CSELECT_OUT
            if events & select.EPOLLERR:
                mask |= pycurl.CSELECT_ERR
            self._multi.socket_action(fd, mask)
        if self._wake_at is not None and time.monotonic() >= self._wake_at:
            self._wake_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return self._finished()

    def abort(self) -> None:
        """Drop every request under way and every connection."""
        for easy in list(self._busy):
            self._multi.remove_handle(easy)
        self._busy.clear()
        self._multi.close()
        self._epoll.close()

    def _finished(self) -> list[tuple[Tag, Answer]]:
        answers: list[tuple[Tag, Answer]] = []
        queued = 1
        while queued:
            queued, succeeded, failed = self._multi.info_read()
            ended = [(easy, 0, "") for easy in succeeded] + list(failed)
            for easy, code, message in ended:
                transfer = self._busy.pop(easy)
                self._multi.remove_handle(easy)
                answers.append((transfer.tag, transfer.answer(code, message)))
                transfer.end()
                self._idle.append(transfer)
        return answers

    def _watch_socket(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        if what == pycurl.POLL_REMOVE:
            self._wanted.discard(fd)
            return
        self._wanted.add(fd)
        try:
            self._epoll.modify(fd, _EVENTS[what])
        except FileNotFoundError:
            # New, or the number of one that was closed, which epoll forgot by itself.
            self._epoll.register(fd, _EVENTS[what])

    def _set_timer(self, milliseconds: int) -> None:
        self._wake_at = None if milliseconds < 0 else time.monotonic() + milliseconds / 1_000


def send_now(
    outgoing: Outgoing, timeout_seconds: float, allow: Sequence[egress.Network],
    inspect_url: str | None = None,
) -> Answer:
    """Send one request and wait for its answer, at most `timeout_seconds`."""
    transport: Transport[None] = Transport(allow, inspect_url)
    try:
        transport.submit(outgoing, timeout_seconds, None)
        while True:
            for _, answer in transport.run(1.0):
                return answer
    finally:
        transport.abort()


class _Transfer(Generic[Tag]):
    """One libcurl easy handle and what it collects; used for one request after another."""

    tag: Tag

    def __init__(self, allow: tuple[egress.Network, ...], inspect_url: str | None):
        self._allow = allow
        self._inspect_url = inspect_url
        self._frame: Frame | None = None
        self._timeout_seconds = 0.0
        self._refused: str | None = None
        self._lines: list[bytes] = []
        self._body = bytearray()
        self._truncated = False
        self.easy = easy = pycurl.Curl()
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.PROXY, "")
        easy.setopt(pycurl.NETRC, 0)
        easy.setopt(pycurl.DNS_CACHE_TIMEOUT, NAMES_SECONDS)
        easy.setopt(pycurl.FOLLOWLOCATION, 0)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.HTTP09_ALLOWED, 0)
        easy.setopt(pycurl.PATH_AS_IS, 1)
        easy.setopt(pycurl.CAINFO, certifi.where())
        easy.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        easy.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        # libcurl bounds what it takes of headers (300 KiB), so the lines are just kept.
        easy.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        easy.setopt(pycurl.WRITEFUNCTION, self._take_body)

    def begin(self, outgoing: Outgoing, timeout_seconds: float, tag: Tag) -> None:
        self.tag = tag
        easy, frame = self.easy, outgoing.frame
        if frame is not self._frame:
            self._frame = frame
            easy.setopt(pycurl.URL, frame.url)
            easy.setopt(pycurl.CUSTOMREQUEST, frame.method)
            self._choose_guard(frame.url)
        if outgoing.body is None:
            easy.setopt(pycurl.HTTPGET, 1)
        else:
            easy.setopt(pycurl.POSTFIELDS, outgoing.body)
        # "Expect:" keeps libcurl from waiting for 100 Continue before a large body.
        easy.setopt(pycurl.HTTPHEADER, [b"Expect:", *outgoing.lines()])
        if timeout_seconds != self._timeout_seconds:
            self._timeout_seconds = timeout_seconds
            easy.setopt(pycurl.TIMEOUT_MS, max(1, int(timeout_seconds * 1_000)))

    def _choose_guard(self, url: str) -> None:
        is_inspector = egress.is_inspector(url, self._inspect_url)
        self._refusal = egress.inspector_refusal if is_inspector else egress.refusal
        # What this guard lets through is for this request alone: no other may find the
        # connection in libcurl's pool, or share it while it is in use as HTTP/2 allows.
        self.easy.setopt(pycurl.FORBID_REUSE, is_inspector)
        self.easy.setopt(
            pycurl.HTTP_VERSION,
            pycurl.CURL_HTTP_VERSION_1_1 if is_inspector else pycurl.CURL_HTTP_VERSION_2TLS,
        )

    def end(self) -> None:
        self._refused = None
        self._lines.clear()
        self._body = bytearray()
        self._truncated = False

    def answer(self, code: int, message: str) -> Answer:
        easy = self.easy
        error, detail = (None, None)
        headers = self._headers()
        if code and not (code == pycurl.E_WRITE_ERROR and self._truncated):
            error, detail = self._error(code, message)
        elif len(headers) > MAX_HEADERS or sum(map(len, self._lines)) > MAX_HEADER_BYTES:
            error, detail, headers = "headers_too_large", _HEADERS_TOO_LARGE, []
        status = easy.getinfo(pycurl.RESPONSE_CODE) or None
        if error is not None and error != "answer_cut_short":
            status = None
        return Answer(
            status=status,
            error=error,
            error_detail=detail,
            headers=headers,
            body=bytes(self._body),
            truncated=self._truncated,
            **self._timing(),
        )

    def _timing(self) -> dict[str, Any]:
        easy = self.easy
        dns = easy.getinfo(pycurl.NAMELOOKUP_TIME_T)
        connect = easy.getinfo(pycurl.CONNECT_TIME_T)
        tls = easy.getinfo(pycurl.APPCONNECT_TIME_T)
        ready = easy.getinfo(pycurl.PRETRANSFER_TIME_T)
        # An answer may come before all of the request has gone.
        sent = easy.getinfo(pycurl.POSTTRANSFER_TIME_T)
        first = easy.getinfo(pycurl.STARTTRANSFER_TIME_T)
        total = easy.getinfo(pycurl.TOTAL_TIME_T)
        # libcurl counts each from the start of the transfer; 0 means it did not happen.
        return {
            "duration_us": total,
            "dns_us": dns or None,
            "connect_us": max(0, connect - dns) if connect else None,
            "tls_us": max(0, tls - connect) if tls else None,
            "send_us": max(0, sent - ready) if sent else None,
            "wait_us": max(0, first - max(sent, ready)) if first else None,
            "download_us": max(0, total - first) if first else None,
        }

    def _headers(self) -> list[tuple[str, str]]:
        headers: list[tuple[str, str]] = []
        for line in self._lines:
            if line.startswith(b"HTTP/"):
                # 100 and 103 answers come before the one that counts.
                headers.clear()
                continue
            name, colon, value = line.decode("latin-1").partition(":")
            if colon or name.strip():
                headers.append((name.strip(), value.strip()))
        return headers

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
        return socket.socket(address.family, address.socktype, address.protocol)

    def _take_body(self, chunk: bytes) -> int | None:
        room = MAX_BODY - len(self._body)
        self._body += chunk[:room]
        if len(chunk) > room:
            self._truncated = True
            return 0
        return None

    def _error(self, code: int, message: str) -> tuple[str, str]:
        detail = message or "The request failed."
        if self._refused is not None:
            return "egress_refused", f"The target's address may not be reached: {self._refused}."
        if code == pycurl.E_OPERATION_TIMEDOUT:
            connected = self.easy.getinfo(pycurl.CONNECT_TIME_T)
            return ("timeout" if connected else "connect_timeout"), detail
        if code == pycurl.E_COULDNT_CONNECT:
            refused = self.easy.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED
            return ("connection_refused" if refused else "connect_failed"), detail
        if code == pycurl.E_PEER_FAILED_VERIFICATION:
            return self._certificate_error(detail), detail
        return _ERRORS.get(code, "request_failed"), detail

    def _certificate_error(self, message: str) -> str:
        result = self.easy.getinfo(pycurl.SSL_VERIFYRESULT)
        if result in _X509_ERRORS:
            return _X509_ERRORS[result]
        if "subject name" in message or "match" in message:
            return "tls_wrong_host"
        return "tls_untrusted"


_HEADERS_TOO_LARGE = (
    f"The answer has more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES // 1024} KiB of them."
)
_X509_ERRORS = {9: "tls_not_yet_valid", 10: "tls_expired", 18: "tls_self_signed"}
"""OpenSSL's X509_V_ERR_ codes that people can act on by name."""

_ERRORS = {
    pycurl.E_COULDNT_RESOLVE_HOST: "dns_failed",
    pycurl.E_URL_MALFORMAT: "invalid_url",
    pycurl.E_UNSUPPORTED_PROTOCOL: "not_http",
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "not_http",
    pycurl.E_GOT_NOTHING: "empty_answer",
    pycurl.E_PARTIAL_FILE: "answer_cut_short",
    pycurl.E_SEND_ERROR: "connection_reset",
    pycurl.E_RECV_ERROR: "connection_reset",
    pycurl.E_SSL_CONNECT_ERROR: "tls_failed",
    pycurl.E_SSL_CERTPROBLEM: "tls_failed",
    pycurl.E_SSL_CIPHER: "tls_failed",
    pycurl.E_HTTP2: "http2_error",
    92: "http2_error",  # CURLE_HTTP2_STREAM, which pycurl does not name
    100: "headers_too_large",  # CURLE_TOO_LARGE, likewise
    pycurl.E_BAD_CONTENT_ENCODING: "bad_answer",
}
