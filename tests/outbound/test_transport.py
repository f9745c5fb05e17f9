"""Hostile receivers, over real sockets: each ends in a named error, in time, in little memory."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from portal.composing.compose import Frame, Outgoing
from portal.outbound import names, transfer
from portal.outbound.libcurl import CurlTransport, send_now
from portal.outbound.response import Response
from portal.outbound.transfer import MAX_BODY
from tests.certificates import Authority
from tests.raw_receiver import OK, Behaviour, RawReceiver, certificate, drips, says

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


@pytest.fixture
def receive() -> Iterator[Callable[..., RawReceiver]]:
    receivers: list[RawReceiver] = []

    def start(behaviour: Behaviour, context: ssl.SSLContext | None = None) -> RawReceiver:
        receivers.append(RawReceiver(behaviour, context))
        return receivers[-1]

    yield start
    for receiver in receivers:
        receiver.close()


def outgoing(url: str, body: bytes | None = b'{"a":1}', **headers: str) -> Outgoing:
    method = "GET" if body is None else "POST"
    return Outgoing(Frame(method, url, list(headers.items()), url, []), [], body, "own")


def ask(receiver: RawReceiver, seconds: float = 2.0) -> Response:
    return send_now(outgoing(f"http://127.0.0.1:{receiver.port}/hook"), seconds, LOOPBACK)


def test_an_answer_comes_with_status_headers_body_and_timing(receive):
    receiver = receive(says(OK))
    answer = ask(receiver)
    assert (answer.status, answer.error, answer.body) == (200, None, b"ok")
    assert ("X-Trace", "7") in answer.headers
    assert answer.duration_us > 0
    assert answer.connect_us is not None
    assert answer.wait_us is not None
    assert answer.send_us is not None
    assert receiver.requests[0].startswith(b"POST /hook HTTP/1.1\r\n")
    assert receiver.requests[0].endswith(b'\r\n\r\n{"a":1}')


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda _connection: time.sleep(3),
        drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
        drips(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["hangs", "drips a body", "drips a header", "endless 100 Continue", "endless chunks"],
)
def test_a_slow_receiver_ends_at_the_deadline(receive, behaviour):
    started = time.monotonic()
    answer = ask(receive(behaviour), seconds=0.6)
    assert answer.error == "timeout"
    assert answer.status is None
    assert 0.5 < time.monotonic() - started < 2.5


def test_at_most_64_kib_of_an_answer_are_kept_and_it_is_judged_by_its_status(receive):
    def floods(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            connection.sendall(b"x" * 100_000)

    answer = ask(receive(floods))
    assert (answer.status, answer.error, answer.truncated) == (200, None, True)
    assert len(answer.body) == MAX_BODY


def test_a_compressed_bomb_is_kept_as_it_came(receive):
    bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    answer = ask(receive(says(bomb)))
    assert (answer.status, answer.body) == (200, b"\x1f\x8b\x08\x00")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "empty_answer"),
        (b"SSH-2.0-OpenSSH_9\r\n", "not_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "answer_cut_short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n", "not_http"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n", "headers_too_large"),
        (
            b"HTTP/1.1 200 OK\r\n" + (b"A: " + b"b" * 900 + b"\r\n") * 400 + b"\r\n",
            "headers_too_large",
        ),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 65_600 + b"\r\n\r\n", "headers_too_large"),
    ],
    ids=["nothing", "not HTTP", "short body", "bad chunk", "101 headers", "350 KiB", "64 KiB"],
)
def test_a_broken_answer_is_a_named_error(receive, data: bytes, error: str):
    answer = ask(receive(says(data)))
    assert answer.error == error
    assert answer.error_detail


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, b"HTTP/1.1 100 Continue\r\n\r\n" + OK],
)
def test_the_answer_after_an_interim_one_counts(receive, data: bytes):
    answer = ask(receive(says(data)))
    assert (answer.status, answer.body) == (200, b"ok")
    assert "Link" not in dict(answer.headers)


def test_the_text_of_a_header_is_utf8_and_where_it_is_not_each_byte_is_a_character(receive):
    answer = ask(
        receive(
            says(
                b"HTTP/1.1 400 Bad\r\nX-Utf8: Gr\xc3\xb6\xc3\x9fe \xe5\xad\x97\r\n"
                b"X-Latin: Gr\xf6\xdfe\r\n"
                b"Content-Length: 0\r\n\r\n"
            )
        )
    )
    headers = dict(answer.headers)
    assert (headers["X-Utf8"], headers["X-Latin"]) == ("Größe 字", "Größe")


def test_a_redirect_is_not_followed(receive):
    elsewhere = receive(says(OK))
    answer = ask(
        receive(
            says(
                b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:%d/\r\n"
                b"Content-Length: 0\r\n\r\n" % elsewhere.port
            )
        )
    )
    assert answer.status == 307
    assert elsewhere.requests == []


def test_bytes_that_are_no_text_are_kept(receive):
    answer = ask(receive(says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\x00\xff\xfe")))
    assert answer.body == b"\x00\xff\xfe"


def test_nobody_listening_and_no_such_name_are_named():
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    assert send_now(outgoing(f"http://127.0.0.1:{port}/"), 2, LOOPBACK).error == (
        "connection_refused"
    )
    assert send_now(outgoing("http://no-such-host.invalid/"), 5, LOOPBACK).error == "dns_failed"


def test_a_request_that_never_left_took_no_time_to_send_or_wait(receive):
    plain = receive(says(OK))
    for url in ("http://no-such-host.invalid/", f"https://127.0.0.1:{plain.port}/"):
        answer = send_now(outgoing(url), 5, LOOPBACK)
        assert (answer.sends, answer.duration_us > 0) == (0, True), url
        assert (answer.send_us, answer.wait_us, answer.download_us) == (None, None, None), url


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "127.0.0.1.",
    ],
)
def test_an_address_inside_is_never_connected_to(receive, host: str):
    canary = receive(says(OK))
    answer = send_now(outgoing(f"http://{host}:{canary.port}/"), 3, [])
    assert answer.error in ("egress_refused", "dns_failed")
    assert answer.status is None
    time.sleep(0.05)
    assert canary.requests == []


def test_the_environments_proxy_is_not_used(receive, monkeypatch):
    proxy, target = receive(says(OK)), receive(says(OK))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{proxy.port}")
    assert ask(target).status == 200
    assert proxy.requests == []


@pytest.mark.parametrize("days", [30, -1], ids=["self-signed", "expired"])
def test_a_bad_certificate_is_a_tls_error_and_nothing_is_sent(receive, tmp_path, days: int):
    receiver = receive(says(OK), certificate(tmp_path, host="localhost", days=days))
    answer = send_now(outgoing(f"https://127.0.0.1:{receiver.port}/"), 3, LOOPBACK)
    assert (answer.error or "").startswith("tls_")
    assert answer.status is None
    assert b"".join(receiver.requests) == b""


def test_a_plain_server_behind_https_is_a_tls_error(receive):
    receiver = receive(says(OK))
    answer = send_now(outgoing(f"https://127.0.0.1:{receiver.port}/"), 3, LOOPBACK)
    assert (answer.error or "").startswith("tls_")


def test_many_requests_are_in_flight_at_once(receive):
    def slow(connection: socket.socket) -> None:
        time.sleep(0.3)
        connection.sendall(OK)

    receiver = receive(slow)
    transport: CurlTransport[int] = CurlTransport(LOOPBACK)
    started = time.monotonic()
    for number in range(40):
        transport.submit(outgoing(f"http://127.0.0.1:{receiver.port}/{number}"), 5, number)
    assert transport.in_flight == 40
    answers: dict[int, Response] = {}
    while len(answers) < 40:
        answers.update(transport.run(1.0))
    transport.close()
    assert {answer.status for answer in answers.values()} == {200}
    assert sorted(answers) == list(range(40))
    assert time.monotonic() - started < 3


def test_an_empty_header_value_is_sent(receive):
    receiver = receive(says(OK))
    send_now(outgoing(f"http://127.0.0.1:{receiver.port}/", None, Empty="", Full="x"), 2, LOOPBACK)
    assert b"\r\nEmpty:" in receiver.requests[0]
    assert b"\r\nFull: x\r\n" in receiver.requests[0]
    assert receiver.requests[0].startswith(b"GET / ")


def test_a_connection_that_its_receiver_closes_in_a_pause_costs_nothing_and_the_next_is_new(
    receive,
):
    receiver = receive(lambda connection: (connection.sendall(OK), time.sleep(0.3)))
    transport: CurlTransport[int] = CurlTransport(LOOPBACK)
    answers: dict[int, Response] = {}
    for number in range(3):
        transport.submit(outgoing(f"http://127.0.0.1:{receiver.port}/{number}"), 5, number)
        while number not in answers:
            answers.update(transport.run(1.0))
        # Until the connection is closed and that was noticed: it wakes for that, and once before
        # where libcurl had last waited to write.
        wakes, until = 0, time.monotonic() + 0.7
        while (left := until - time.monotonic()) > 0:
            assert transport.run(left) == []
            wakes += 1
        assert wakes <= 3
        waited = time.monotonic()
        assert transport.run(0.5) == []
        assert time.monotonic() - waited > 0.4
    transport.close()
    assert [answer.status for answer in answers.values()] == [200, 200, 200]
    assert len(receiver.requests) == 3


def test_what_is_watched_may_be_closed_before_it_is_watched_no_more():
    transport: CurlTransport[int] = CurlTransport(LOOPBACK)
    watched, other = socket.socketpair()
    number = watched.fileno()
    transport.watch(number)
    watched.close()
    transport.unwatch(number)
    # The number again, of what nobody watches.
    with socket.socket() as another:
        assert another.fileno() == number
        transport.unwatch(number)
    other.close()
    transport.close()


def test_a_connection_is_used_again_and_the_number_of_a_closed_one_too(receive):
    def twice(connection: socket.socket) -> None:
        connection.sendall(OK)
        receiver.requests.append(connection.recv(65_536))
        connection.sendall(OK)

    receiver = receive(twice)
    transport: CurlTransport[int] = CurlTransport(LOOPBACK)
    answers: dict[int, Response] = {}
    for number in range(8):
        transport.submit(outgoing(f"http://localhost:{receiver.port}/{number}"), 5, number)
        while number not in answers:
            answers.update(transport.run(1.0))
    transport.close()
    assert [answer.status for answer in answers.values()] == [200] * 8
    assert len([request for request in receiver.requests if request]) == 8
    assert max(answer.duration_us for answer in answers.values()) < 1_000_000


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0;",
    ],
)
def test_what_frames_an_answer_has_an_end_too(receive, head: bytes):
    sent = 0

    def floods(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(head)
        while True:
            sent += connection.send(b"a" * 65_536)

    answer = ask(receive(floods), 10)
    assert (answer.status, answer.error) == (None, "bad_answer")
    assert "chunk extensions" in answer.error_detail
    assert sent < 32 * 1024 * 1024
    assert answer.duration_us < 5_000_000


def test_a_connection_may_bring_many_answers(receive):
    body = b"x" * 60_000

    def answers(connection: socket.socket) -> None:
        for _ in range(200):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
            # In pieces, each of which is read by itself.
            for start in range(0, len(body), 3_000):
                connection.sendall(body[start : start + 3_000])
            connection.recv(65_536)

    receiver = receive(answers)
    transport: CurlTransport[int] = CurlTransport(LOOPBACK)
    try:
        for number in range(200):
            transport.submit(outgoing(f"http://127.0.0.1:{receiver.port}/"), 5, number)
            found: list[tuple[int, Response]] = []
            while not found:
                found = transport.run(5)
            assert (found[0][1].status, len(found[0][1].body)) == (200, 60_000)
        assert len(receiver.requests) == 1, "one connection"
    finally:
        transport.close()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX-Trace: 7\r\n",
    ],
)
def test_an_answer_that_is_cut_off_amid_its_headers_is_none(receive, head: bytes):
    answer = ask(receive(says(head)))
    assert answer.error in ("answer_cut_short", "empty_answer"), answer


def test_a_receiver_of_tls_1_2_makes_no_group_of_its_own(receive, tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    monkeypatch.setattr(transfer.certifi, "where", lambda: str(authority.path))
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    path, group = tmp_path / "server.pem", tmp_path / "group.pem"
    path.write_text("".join(authority.issue("127.0.0.1", key=key)))
    group.write_text(GROUP)

    def offering(ciphers: str) -> Response:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        context.load_dh_params(group)
        receiver = receive(says(OK), context)
        return send_now(outgoing(f"https://127.0.0.1:{receiver.port}/"), 5, LOOPBACK)

    assert offering("ECDHE+AESGCM:DHE+AESGCM").status == 200
    assert offering("AES256-GCM-SHA384").status == 200
    assert offering("DHE-RSA-AES256-GCM-SHA384").error == "tls_failed"


GROUP = """-----BEGIN X9.42 DH PARAMETERS-----
MIICDAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAgKCAQB//////////9b8KixRXaVN
V+4rEBOennjsXOLB5xabStTwmyCKMhn95knO5xJNn3y+l/GxsYY67HtA2QFXYjC9
ae+Paur+srCSGfqPr4M3aEKxsqqe9o152quJrz+r5JrMJ4Y4cHNFu/FTRO159/Q5
DvisUJtW85qYVmUnpB08vV4FWMFZkn2w6IRUpdlkcf3ctW1bsGv6NA6noVHvHKb6
Vyt287G5XYyFg9PkdwU2uE8BfnDm+/F2YBoCZpQaF7DIuX9OdMLB/8cniRl3eUDB
4f8djaY31rmd2v5eF2EQAuLHeMG+i0HZY3mlE2DZd/1ENaEcMJQuS///////////
-----END X9.42 DH PARAMETERS-----
"""
"""ffdhe2048 of RFC 7919, A.1."""


@pytest.mark.parametrize("host", ["0x7f.1", "2130706433", "127.1", "127.0.0.1.", "0177.0.0.1"])
def test_libcurl_gets_an_address_as_the_guard_reads_it(receive, host: str):
    receiver = receive(says(OK))
    url = f"http://{host}:{receiver.port}/x?127.1"
    assert names.plain(url) == f"http://127.0.0.1:{receiver.port}/x?127.1"
    assert send_now(outgoing(url), 3, LOOPBACK).status == 200
    assert f"\r\nHost: 127.0.0.1:{receiver.port}\r\n".encode() in receiver.requests[0]


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("http://u@127.1:9/", "http://u@127.0.0.1:9/"),
        ("https://[2001:DB8:0::1]:9/x", "https://[2001:db8::1]:9/x"),
        ("http://[fe80::1%25eth0]/", "http://[fe80::1]/"),
        ("https://a.example/127.1", "https://a.example/127.1"),
        ("http://a:b:c/", "http://a:b:c/"),
        ("http://\u0663.1/", "http://%D9%A3.1/"),
        ("http://1_0.1/", "http://1_0.1/"),
        ("http://+1.2/", "http://+1.2/"),
        ("http://127.0.0.1%00.a.example/", "http://127.0.0.1%00.a.example/"),
        ("http://127%2e0.1/", "http://127%2e0.1/"),
    ],
)
def test_what_is_an_address_the_guard_says(url: str, plain: str):
    assert names.plain(url) == plain
