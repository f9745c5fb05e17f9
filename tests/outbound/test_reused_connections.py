"""Connections that die: a request whose connection had been used before is sent once more, on a new
one, and never a third time; who answers is not taken for one who is away."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from portal.composing.compose import Frame, Outgoing
from portal.outbound import outcome, transfer
from portal.outbound.connections import Connections
from portal.outbound.libcurl import CurlTransport, send_now
from portal.outbound.response import Response
from tests.certificates import Authority
from tests.raw_receiver import KeepingReceiver, Serve, answers

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]


def closes(_connection: socket.socket) -> bool:
    return False


def resets(connection: socket.socket) -> bool:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


@pytest.fixture
def start() -> Iterator[Callable[..., KeepingReceiver]]:
    servers: list[KeepingReceiver] = []

    def begin(serve: Serve = answers, port: int = 0, host: str = "127.0.0.1") -> KeepingReceiver:
        servers.append(KeepingReceiver(serve, port, host))
        return servers[-1]

    yield begin
    for server in servers:
        # The test may have done it.
        with contextlib.suppress(OSError):
            server.kill()


@pytest.fixture
def transport() -> Iterator[CurlTransport[int]]:
    transport: CurlTransport[int] = CurlTransport(LOOPBACK)
    yield transport
    transport.close()


def send(
    transport: CurlTransport[int], url: str, count: int = 1, *, seconds: float = 5
) -> list[Response]:
    """The answers to requests that are all under way at once."""
    frame = Frame("POST", url, [], url, [])
    for number in range(count):
        transport.submit(Outgoing(frame, [], b'{"a":1}', "own"), seconds, number)
    found: list[Response] = []
    while transport.in_flight:
        found += [answer for _, answer in transport.run(1.0)]
    return found


def outcomes(found: list[Response]) -> set[tuple[int | None, str | None, int]]:
    return {(answer.status, answer.error, answer.sends) for answer in found}


def waits(connection: socket.socket) -> bool:
    time.sleep(0.2)
    return answers(connection)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("idle", [1, 100])
def test_a_receiver_that_restarts_delays_nothing(start, transport, host: str, idle: int):
    server = start(waits, host=host)
    assert outcomes(send(transport, server.url, idle)) == {(200, None, 1)}
    server.kill()
    again = start(port=server.port, host=host)
    found = [answer for _ in range(60) for answer in send(transport, again.url)]
    # What was known to be closed was not sent into, so nothing had to be sent twice.
    assert outcomes(found) == {(200, None, 1)}
    assert again.requests == 60


def test_a_restart_while_requests_are_under_way_costs_each_one_more_try(start, transport):
    server = start(waits)
    send(transport, server.url, 40)
    server.serve = lambda _connection: time.sleep(5) or True
    frame = Frame("POST", server.url, [], server.url, [])
    for number in range(40):
        transport.submit(Outgoing(frame, [], b"{}", "own"), 5, number)
    deadline = time.monotonic() + 3
    while server.requests < 80 and time.monotonic() < deadline:
        transport.run(0.05)
    server.kill()
    start(port=server.port)
    found: list[Response] = []
    while transport.in_flight:
        found += [answer for _, answer in transport.run(1.0)]
    assert outcomes(found) == {(200, None, 2)}


@pytest.mark.parametrize("end", [closes, resets])
def test_who_reads_and_closes_gets_two_requests_on_used_connections_and_one_on_a_new_one(
    start, transport, end
):
    server = start(waits)
    send(transport, server.url, 20)
    server.requests, server.serve = 0, end
    (answer,) = send(transport, server.url)
    assert answer.status is None
    assert answer.error in ("empty_answer", "connection_reset")
    assert (answer.sends, server.requests) == (2, 2)
    # The other idle ones went with the one that died.
    for count in range(3, 9):
        (answer,) = send(transport, server.url)
        assert (answer.status, answer.sends, server.requests) == (None, 1, count)


def test_many_deaths_on_one_handle_are_told_apart(start, transport):
    """libcurl's own count of tries is never set back, and would end the sixth at once."""
    server = start()
    for _ in range(12):
        server.serve = answers
        assert outcomes(send(transport, server.url)) == {(200, None, 1)}
        dies_once = itertools.chain([closes], itertools.repeat(answers))
        server.serve = lambda connection, each=dies_once: next(each)(connection)
        assert outcomes(send(transport, server.url)) == {(200, None, 2)}


@pytest.mark.parametrize("idle", [1, 3, 20])
def test_connections_that_something_between_has_forgotten_cost_one_more_try_in_all(
    start, transport, idle: int
):
    server = start(waits)
    send(transport, server.url, idle)
    old = list(server.connections)

    def forgets(connection: socket.socket) -> bool:
        return resets(connection) if connection in old else answers(connection)

    server.serve = forgets
    found = [answer for _ in range(30) for answer in send(transport, server.url)]
    assert [answer.status for answer in found] == [200] * 30
    assert [answer.sends for answer in found] == [2] + [1] * 29


def test_one_deadline_covers_both_tries_and_the_time_is_that_of_both(start, transport):
    server = start()
    send(transport, server.url)

    def late(connection: socket.socket) -> bool:
        time.sleep(0.4)
        return closes(connection)

    answer_late = itertools.chain([late], itertools.repeat(waits))
    server.serve = lambda connection: next(answer_late)(connection)
    (answer,) = send(transport, server.url, seconds=2)
    assert (answer.status, answer.sends) == (200, 2)
    assert answer.duration_us > 550_000
    parts = (answer.connect_us, answer.send_us, answer.wait_us, answer.download_us)
    assert sum(part or 0 for part in parts) <= answer.duration_us
    assert 150_000 < (answer.wait_us or 0) < answer.duration_us - 300_000

    hang_late = itertools.chain([late], itertools.repeat(lambda _: time.sleep(3) or True))
    server.serve = lambda connection: next(hang_late)(connection)
    started = time.monotonic()
    (answer,) = send(transport, server.url, seconds=0.8)
    assert (answer.status, answer.error, answer.sends) == (None, "timeout", 2)
    assert 0.7 < time.monotonic() - started < 1.2


@pytest.mark.parametrize("before", [0, 1, 5])
def test_who_has_a_request_and_is_silent_is_not_called_unreachable(start, transport, before: int):
    server = start()
    for _ in range(before):
        send(transport, server.url)
    server.serve = lambda _: time.sleep(1) or True
    (answer,) = send(transport, server.url, seconds=0.3)
    assert (answer.error, answer.sends) == ("timeout", 1)
    assert outcome.of(answer.status, answer.error) is outcome.Outcome.SILENT


def test_half_an_answer_is_an_answer_and_is_not_asked_for_again(start, transport):
    server = start()
    send(transport, server.url)
    server.requests = 0

    def begins(connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
        return False

    server.serve = begins
    (answer,) = send(transport, server.url)
    assert (answer.error, answer.sends, server.requests) == ("answer_cut_short", 1, 1)


def test_what_never_reached_a_receiver_was_sent_no_time():
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    frame = Frame("POST", f"http://127.0.0.1:{port}/", [], "", [])
    answer = send_now(Outgoing(frame, [], b"{}", "own"), 2, LOOPBACK)
    assert (answer.error, answer.sends) == ("connection_refused", 0)


def test_a_receiver_that_is_gone_is_refused_and_not_reset(start, transport):
    server = start(waits)
    send(transport, server.url, 10)
    server.kill()
    found = [answer for _ in range(5) for answer in send(transport, server.url)]
    assert outcomes(found) == {(None, "connection_refused", 0)}


def test_a_death_at_one_place_leaves_the_connections_to_others(start, transport):
    one, other = start(), start()
    send(transport, one.url)
    send(transport, other.url)
    one.serve = closes
    send(transport, one.url)
    send(transport, other.url)
    assert len(other.connections) == 1


# ── HTTP/2 ────────────────────────────────────────────────────────────────────────────────

_PREFACE = 24
_SETTINGS, _SETTINGS_ACK = b"\0\0\0\4\0\0\0\0\0", b"\0\0\0\4\1\0\0\0\0"
_GOAWAY, _RST_STREAM, _HEADERS = 7, 3, 1
_REFUSED, _CANCEL = 7, 8


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113, 4.1."""
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def ok(stream: int) -> bytes:
    # `:status: 200` is number 8 of HPACK's static table (RFC 7541, appendix A).
    return frame(_HEADERS, 0x5, stream, b"\x88")


def refused(stream: int) -> bytes:
    return frame(_RST_STREAM, 0, stream, _REFUSED.to_bytes(4, "big"))


def cancelled(stream: int) -> bytes:
    return frame(_RST_STREAM, 0, stream, _CANCEL.to_bytes(4, "big"))


def goes_away(stream: int) -> bytes:
    last = max(0, stream - 2)
    return frame(_GOAWAY, 0, 0, last.to_bytes(4, "big") + bytes(4))


class Http2Server:
    """Says, for each request, what `say` makes of its stream; nothing closes the connection."""

    def __init__(self, context: ssl.SSLContext, say: Callable[[int], bytes | None]) -> None:
        context.set_alpn_protocols(["h2"])
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}/"
        self.say = say
        self.requests = self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as connection:
                self.connections += 1
                stream = connection.makefile("rb")
                stream.read(_PREFACE)
                connection.sendall(_SETTINGS + _SETTINGS_ACK)
                while head := stream.read(9):
                    stream.read(int.from_bytes(head[:3], "big"))
                    # The body's last frame, which ends the request.
                    if head[3] != 0 or not head[4] & 1:
                        continue
                    self.requests += 1
                    said = self.say(int.from_bytes(head[5:], "big"))
                    if said is None:
                        return
                    connection.sendall(said)
        except OSError:
            pass  # The portal hung up.

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def http2(tmp_path, monkeypatch) -> Iterator[Http2Server]:
    authority = Authority(tmp_path)
    monkeypatch.setattr(transfer, "certifi", SimpleNamespace(where=lambda: str(authority.path)))
    server = Http2Server(authority.server(), ok)
    yield server
    server.close()


def test_http2_streams_share_a_connection_also_after_a_pause(http2):
    transport: CurlTransport[int] = CurlTransport(LOOPBACK)
    for _ in range(3):
        assert outcomes(send(transport, http2.url)) == {(200, None, 1)}
        # What HTTP/2 says between requests closes nothing.
        transport.run(0.1)
    transport.close()
    assert (http2.requests, http2.connections) == (3, 1)


@pytest.mark.parametrize("say", [refused, lambda _stream: None], ids=["refused", "closed"])
def test_an_http2_stream_that_nobody_took_is_sent_once_more(http2, say):
    transport: CurlTransport[int] = CurlTransport(LOOPBACK)
    assert outcomes(send(transport, http2.url)) == {(200, None, 1)}
    http2.requests, http2.say = 0, say
    (answer,) = send(transport, http2.url)
    assert answer.status is None
    assert answer.error in ("connection_reset", "empty_answer", "http2_error")
    assert (answer.sends, http2.requests) == (2, 2)
    each = itertools.chain([say], itertools.repeat(ok))
    http2.say = lambda stream: next(each)(stream)
    http2.requests = 0
    found = send(transport, http2.url) + send(transport, http2.url)
    transport.close()
    assert {answer.status for answer in found} <= {200, None}
    assert sum(answer.sends for answer in found) == http2.requests


def test_an_http2_receiver_that_goes_away_gets_the_request_on_a_new_connection(http2):
    transport: CurlTransport[int] = CurlTransport(LOOPBACK)
    assert outcomes(send(transport, http2.url)) == {(200, None, 1)}
    each = itertools.chain([goes_away], itertools.repeat(ok))
    http2.say = lambda stream: next(each)(stream)
    assert outcomes(send(transport, http2.url)) == {(200, None, 2)}
    transport.close()
    assert http2.requests == 3


def test_an_http2_stream_that_is_cancelled_was_answered_and_is_not_sent_again(http2):
    transport: CurlTransport[int] = CurlTransport(LOOPBACK)
    send(transport, http2.url)
    http2.requests, http2.say = 0, cancelled
    (answer,) = send(transport, http2.url)
    transport.close()
    assert (answer.status, answer.error) == (None, "http2_error")
    assert (answer.sends, http2.requests) == (1, 1)


@pytest.fixture
def one_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """The own port of every connection, whatever address it goes to; the kernel gives some to
    several."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]

    def bound(*kind: int) -> socket.socket:
        opened = socket.socket(*kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("127.0.0.1", port))
        return opened

    stands_in = SimpleNamespace(**{**vars(socket), "socket": bound})
    monkeypatch.setattr(transfer, "socket", stands_in)
    return port


def at_length(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)
    return True


def in_pieces(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n")
    for _ in range(20):
        connection.sendall(b"x" * 100)
        # So that each is read by itself.
        time.sleep(0.01)
    return True


def test_two_connections_with_one_port_of_ours_are_not_taken_for_each_other(
    start, transport, one_port: int
):
    much, other = start(at_length), start()
    for _ in range(60):
        assert outcomes(send(transport, much.url)) == {(200, None, 1)}
    assert outcomes(send(transport, other.url)) == {(200, None, 1)}
    much.serve = in_pieces
    for _ in range(3):
        # What came in its whole life is not what came since the other one was opened.
        assert outcomes(send(transport, much.url)) == {(200, None, 1)}
    assert {one.getpeername()[1] for one in (*much.connections, *other.connections)} == {one_port}
    other.kill()
    assert transport.run(0.2) == []
    assert outcomes(send(transport, much.url)) == {(200, None, 1)}
    assert len(much.connections) == 1, "it was not the one that ended"


# ── What is known of them ─────────────────────────────────────────────────────────────────


def test_connections_are_known_until_they_die():
    known = Connections(2)
    here, there = ("192.0.2.1", 443), ("192.0.2.2", 443)

    def usable() -> list[int]:
        return [
            port
            for port in range(1, 6)
            if any(known.may_use((("10.0.0.1", port), address)) for address in (here, there))
        ]

    known.open((("10.0.0.1", 1), here))
    known.open((("10.0.0.1", 2), there))
    assert usable() == [1, 2]
    known.leave(here, known.opened)
    assert usable() == [2]
    known.open((("10.0.0.1", 1), here))
    # One that died had been sent over before this one was opened.
    known.leave(here, 2)
    assert usable() == [1, 2]
    # The oldest is forgotten; ends that are used again belong to a new one.
    known.open((("10.0.0.1", 2), there))
    known.open((("10.0.0.1", 4), here))
    assert usable() == [2, 4]
    known.close((("10.0.0.1", 4), here))
    known.close((("10.0.0.1", 5), here))
    # It is another one that has the same port.
    known.close((("10.0.0.1", 2), here))
    assert usable() == [2]
