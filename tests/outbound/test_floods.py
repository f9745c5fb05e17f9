"""Receivers that make more work than answers do: each is ended, and others' requests go on beside
them. Where a time is meant it is the processor's, of which a busy machine takes none away."""

from __future__ import annotations

import ipaddress
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from portal.composing.compose import Frame, Outgoing
from portal.outbound import effort, transfer
from portal.outbound.effort import HALF_LIFE_SECONDS, Efforts
from portal.outbound.heads import MAX_INTERIM
from portal.outbound.libcurl import CurlTransport, send_now
from portal.outbound.response import Response
from portal.outbound.transfer import MAX_PIECES, Transfer
from portal.outbound.transport import AT_ONCE_SECONDS
from tests.certificates import Authority
from tests.outbound.test_reused_connections import Http2Server, frame, ok
from tests.raw_receiver import OK, Behaviour, RawReceiver

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
FLOODS = 20
_DATA, _HEADERS, _WINDOW_UPDATE = 0, 1, 8
_INTERIM = b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"


def outgoing(url: str) -> Outgoing:
    return Outgoing(Frame("POST", url, [], url, []), [], b'{"a":1}', "own")


@pytest.fixture
def receive() -> Iterator[Callable[[Behaviour], str]]:
    receivers: list[RawReceiver] = []

    def start(behaviour: Behaviour) -> str:
        receivers.append(RawReceiver(behaviour))
        return f"http://127.0.0.1:{receivers[-1].port}/"

    yield start
    for receiver in receivers:
        receiver.close()


@pytest.fixture
def flood(tmp_path, monkeypatch) -> Iterator[Callable[[Callable[[int], bytes]], str]]:
    authority = Authority(tmp_path)
    monkeypatch.setattr(transfer, "certifi", SimpleNamespace(where=lambda: str(authority.path)))
    servers: list[Http2Server] = []

    def start(say: Callable[[int], bytes]) -> str:
        servers.append(Http2Server(authority.server(), say))
        return servers[-1].url

    yield start
    for server in servers:
        server.close()


def windows(_stream: int) -> bytes:
    return frame(_WINDOW_UPDATE, 0, 0, (1).to_bytes(4, "big")) * 2_000_000


def interim(stream: int) -> bytes:
    # `:status` by the number of its name in HPACK's static table (RFC 7541, 6.2.2).
    return frame(_HEADERS, 4, stream, b"\x08\x03103") * 60_000


def single_bytes(stream: int) -> bytes:
    answer = frame(_HEADERS, 4, stream, b"\x88")
    return answer + frame(_DATA, 0, stream, b"x") * 60_000 + frame(_DATA, 1, stream, b"")


def beside(
    transport: CurlTransport[str], url: str, count: int
) -> tuple[list[Response], list[float]]:
    """Answers to the floods under way, and how much of the processor the loop took while each of
    so many of somebody else's requests waited for its own."""
    floods: list[Response] = []
    waited: list[float] = []
    end = time.monotonic() + 60
    while (transport.in_flight or len(waited) < count) and time.monotonic() < end:
        started = time.thread_time()
        if len(waited) < count:
            transport.submit(outgoing(url), 30, "other", 2)
        answered = len(waited) >= count
        while True:
            for tag, answer in transport.run(0.05):
                if tag == "flood":
                    floods.append(answer)
                    continue
                assert answer.status == 200
                waited.append(time.thread_time() - started)
                answered = True
            if answered:
                break
    return floods, waited


@pytest.mark.parametrize(
    ("say", "error"),
    [(windows, "bad_answer"), (interim, "headers_too_large"), (single_bytes, None)],
)
def test_frames_of_http2_without_an_end_keep_nobody_waiting(
    flood, receive, say: Callable[[int], bytes], error: str | None
):
    def answers(connection: socket.socket) -> None:
        connection.sendall(OK)

    url, other = flood(say), receive(answers)
    transport: CurlTransport[str] = CurlTransport(LOOPBACK)
    # As Redis by a Unix socket is, which has no address: what is watched is always ready here.
    watched, talks = socket.socketpair()
    talks.send(b"x")
    transport.watch(watched.fileno())
    try:
        for number in range(FLOODS):
            transport.submit(outgoing(f"{url}{number}"), 50, "flood", 1)
        floods, waited = beside(transport, other, 30)
        assert transport.woken
    finally:
        transport.close()
        watched.close()
        talks.close()
    assert [answer.error for answer in floods] == [error] * FLOODS
    assert statistics.median(waited) < 0.3


def test_interim_answers_without_an_end_are_no_answer_and_fill_no_memory(receive):
    sent = 0

    def floods(connection: socket.socket) -> None:
        nonlocal sent
        while True:
            sent += connection.send(_INTERIM * 1_000)

    answer = send_now(outgoing(receive(floods)), 30, LOOPBACK)
    assert (answer.status, answer.error, answer.headers) == (None, "headers_too_large", [])
    assert "interim" in answer.error_detail
    assert sent < 4 * 1024 * 1024


def test_as_many_interim_answers_as_a_patient_receiver_gives_are_taken(receive):
    def answers(connection: socket.socket) -> None:
        connection.sendall(_INTERIM * MAX_INTERIM + OK)

    answer = send_now(outgoing(receive(answers)), 30, LOOPBACK)
    assert (answer.status, answer.error, answer.body) == (200, None, b"ok")
    assert [value for name, value in answer.headers if name == "X"] == []


@pytest.mark.parametrize("interim_lines", [1, 20])
def test_one_interim_answer_more_is_too_many(receive, interim_lines: int):
    one = b"HTTP/1.1 103 Early Hints\r\n" + b"X: y\r\n" * interim_lines + b"\r\n"

    def answers(connection: socket.socket) -> None:
        connection.sendall(one * (MAX_INTERIM + 1) + OK)

    answer = send_now(outgoing(receive(answers)), 30, LOOPBACK)
    assert (answer.status, answer.error, answer.headers) == (None, "headers_too_large", [])


@pytest.mark.parametrize(
    ("lines", "length", "status"),
    [
        (90, 700, 200),
        (100, 30, 200),
        (1, 60_000, 200),
        (2, 30_000, 200),
        (97, 700, None),
        (101, 30, None),
        (1, 66_000, None),
        (3, 30_000, None),
    ],
)
def test_headers_are_taken_up_to_a_number_and_a_size(
    receive, lines: int, length: int, status: int | None
):
    def answers(connection: socket.socket) -> None:
        head = [b"X: " + b"y" * (length - 5)] * lines
        connection.sendall(b"\r\n".join([b"HTTP/1.1 200 OK", *head, b"", b""]))

    answer = send_now(outgoing(receive(answers)), 30, LOOPBACK)
    assert answer.status == status
    assert answer.error == (None if status else "headers_too_large")
    assert len(answer.headers) == (lines if status else 0)


def test_of_a_body_in_pieces_of_a_byte_some_are_kept_and_it_is_judged_by_its_status(receive):
    def answers(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n")

    answer = send_now(outgoing(receive(answers)), 30, LOOPBACK)
    assert (answer.status, answer.error, answer.truncated) == (200, None, True)
    assert MAX_PIECES <= len(answer.body) < 2 * MAX_PIECES


def test_headers_are_ended_as_soon_as_they_are_too_many(receive):
    sent = 0

    def floods(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            sent += connection.send(b"A: b\r\n" * 10)
            time.sleep(0.001)

    answer = send_now(outgoing(receive(floods)), 30, LOOPBACK)
    assert (answer.status, answer.error) == (None, "headers_too_large")
    assert sent < 100_000


def test_an_http2_receiver_that_was_ended_gets_the_next_request_on_a_new_connection(flood):
    said = iter([windows, ok])
    url = flood(lambda stream: next(said)(stream))
    transport: CurlTransport[str] = CurlTransport(LOOPBACK)
    answers: list[Response] = []
    try:
        for number in range(2):
            transport.submit(outgoing(url), 30, "flood", 1)
            while len(answers) == number:
                answers += [answer for _, answer in transport.run(1)]
    finally:
        transport.close()
    assert [(answer.status, answer.error) for answer in answers] == [
        (None, "bad_answer"),
        (200, None),
    ]


# ── Whose turn it is ──────────────────────────────────────────────────────────────────────


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_who_took_least_goes_first_and_of_ones_own_what_has_waited_longest():
    efforts = Efforts()
    much, little, nothing = 1, 2, 3
    whose = {1: much, 2: much, 3: little, 4: nothing, 5: much}.get

    def order(moment: float) -> list[int]:
        ready = [(fd, 1) for fd in (1, 2, 3, 4, 5)]
        efforts.sort(ready, moment, whose)
        return [fd for fd, _ in ready]

    assert order(1.0) == [1, 2, 3, 4, 5]
    efforts.begin()
    burn(0.02)
    efforts.took(much)
    burn(0.001)
    efforts.took(little)
    assert order(1.0) == [4, 3, 1, 2, 5]
    efforts.waits(5)
    efforts.waits(2)
    efforts.waits(5)
    assert order(1.0) == [4, 3, 5, 2, 1]
    efforts.done(5)
    assert order(1.0) == [4, 3, 2, 1, 5]
    # What was long ago counts for nothing.
    for halves in range(1, 40):
        last = order(1.0 + halves * HALF_LIFE_SECONDS)
    assert last == [3, 4, 2, 1, 5] or last == [2, 1, 3, 4, 5]


def test_work_is_told_of_while_there_is_no_time_for_all_of_several_and_else_not(
    receive, monkeypatch: pytest.MonkeyPatch
):
    def answers(connection: socket.socket) -> None:
        connection.sendall(OK)

    told: list[int | None] = []
    has_worked = Transfer.has_worked

    def counted(self: Transfer[str], *progress: int) -> int:
        told.append(self.whose)
        return has_worked(self, *progress)

    monkeypatch.setattr(Transfer, "has_worked", counted)
    url = receive(answers)
    transport: CurlTransport[str] = CurlTransport(LOOPBACK)

    def send(*whose: int, at_once_seconds: float) -> list[int | None]:
        told.clear()
        for one in whose:
            transport.submit(outgoing(url), 30, "", one)
        answered = 0
        while answered < len(whose):
            answered += len(transport.run(1, at_once_seconds))
            # So that several are ready next time.
            time.sleep(0.01)
        return list(told)

    try:
        assert send(*[1] * 30, at_once_seconds=1e-6) == [], "nobody else could be first"
        assert set(send(*[1, 2] * 15, at_once_seconds=1e-6)) == {1, 2}
        time.sleep(effort.CROWD_SECONDS)
        assert send(*[1, 2] * 15, at_once_seconds=AT_ONCE_SECONDS * 1_000) == []
    finally:
        transport.close()
