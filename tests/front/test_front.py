"""The front of the web process, and clients that take their time, over real sockets."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path

import pytest

from portal import create_app
from portal.addresses import network_of
from portal.config import load_config
from portal.db.session import db
from portal.front import application, sockets
from portal.front.accounts import FREE_SECONDS, PIECE_SECONDS, RATE
from portal.front.large import BYTES_A_SECOND, PATIENCE_SECONDS
from tests.front_server import (
    BODY_SECONDS,
    HEAD_SECONDS,
    LATE_SECONDS,
    SHARE,
    SITE_SHARE,
    UNTAKEN_SECONDS,
)
from tests.ports import free_port

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("front")]

ROOT = Path(__file__).resolve().parents[2]
SLOW = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200\r\n\r\nx"


class Server:
    """A running web server, and ways to it from addresses of loopback."""

    def __init__(self, directory: Path, target: str, **settings: str):
        self.port = free_port()
        self.environment = environment = {
            "PORTAL_DATA_DIR": str(directory),
            "PORTAL_PORT": str(self.port),
            "PORTAL_REDIS_URL": "redis://127.0.0.1:1",
            "PORTAL_SECRET_KEY": "k" * 40,
            "PORTAL_WEB_PROCESSES": "1",
            "PORTAL_WEB_THREADS": "4",
            "PORTAL_HOST": "::",
        } | {f"PORTAL_{name}": value for name, value in settings.items()}
        if target == "wsgi:front":
            app = create_app(load_config(environment, first_start=True))
            with app.app_context():
                db.create_all()
                db.engine.dispose()
        self.log = directory / "stderr"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.front_server", target],
                cwd=ROOT,
                env=os.environ | environment,
                stderr=log,
            )

    def connect(self, address: str = "127.0.0.1", seconds: float = 10) -> socket.socket:
        """A connection from an address of this machine."""
        host = "::1" if ":" in address else "127.0.0.1"
        return socket.create_connection((host, self.port), seconds, (address, 0))

    def get(
        self, path: str, address: str = "127.0.0.1", key: str = "", method: str = "GET"
    ) -> tuple[int, bytes, float]:
        """Status, body and seconds of an answer."""
        began = time.monotonic()
        client = HTTPConnection("127.0.0.1", self.port, 10, (address, 0))
        with contextlib.closing(client):
            client.request(method, path, headers={"Authorization": key} if key else {})
            answer = client.getresponse()
            return answer.status, answer.read(), time.monotonic() - began

    def number(self, path: str) -> int:
        """What the test's application answers there."""
        return int(self.get(path)[1])


@contextlib.contextmanager
def running(directory: Path, target: str, **settings: str) -> Iterator[Server]:
    server = Server(directory, target, **settings)
    try:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                server.get("/healthz")
                break
            assert time.monotonic() < end
            time.sleep(0.05)
        # Its connections are looked at from now on.
        time.sleep(0.3)
        yield server
    finally:
        server.process.terminate()
        server.process.wait(20)


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("portal"), "wsgi:front") as server:
        yield server


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("bare"), "tests.front_server:front") as server:
        yield server


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("behind")
    with running(directory, "tests.front_server:front", PROXIES="1") as server:
        yield server


@contextlib.contextmanager
def clients(
    connect: Callable[[], socket.socket], count: int, said: bytes
) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        each = [stack.enter_context(connect()) for _ in range(count)]
        for one in each:
            with contextlib.suppress(OSError):
                one.sendall(said)
        yield each


def answer_on(client: socket.socket) -> HTTPResponse:
    answer = HTTPResponse(client)
    answer.begin()
    return answer


def test_slow_bodies_keep_nobody_from_an_answer_and_end_in_time(portal: Server):
    began = time.monotonic()
    with clients(lambda: portal.connect("127.0.0.2"), SHARE, SLOW) as slow:
        for path in ("/sign-in", "/healthz", "/sign-in"):
            status, _, seconds = portal.get(path)
            assert status == 200
            assert seconds < BODY_SECONDS, "it waited for one of them"
        statuses = {answer_on(one).status for one in slow}
        assert statuses == {408}
        assert time.monotonic() - began < BODY_SECONDS + 8
        assert {one.recv(1) for one in slow} == {b""}


def test_a_body_that_keeps_dripping_has_the_same_deadline(portal: Server):
    began = time.monotonic()
    with portal.connect() as client:
        client.sendall(SLOW)
        client.settimeout(0.1)
        while time.monotonic() - began < BODY_SECONDS + 8:
            with contextlib.suppress(TimeoutError):
                assert client.recv(1_000).startswith(b"HTTP/1.1 408")
                break
            client.sendall(b"x")
    assert BODY_SECONDS - 0.5 < time.monotonic() - began < BODY_SECONDS + 8


def test_a_program_hears_why_in_its_own_format(portal: Server):
    with portal.connect() as client:
        client.sendall(SLOW.replace(b"/sign-in", b"/api/v1/events"))
        answer = answer_on(client)
        assert (answer.status, answer.getheader("Content-Type")) == (
            408,
            "application/problem+json",
        )
        assert answer.getheader("X-Request-Id")


def test_a_head_that_drips_or_never_comes_ends_in_time(portal: Server):
    began = time.monotonic()
    with portal.connect() as silent, portal.connect() as dripping:
        silent.settimeout(HEAD_SECONDS + 3)
        with contextlib.suppress(OSError):
            for letter in b"GET / HTTP/1.1\r\nX-A: " + b"a" * 40:
                dripping.sendall(bytes([letter]))
                time.sleep(0.1)
            pytest.fail("it went on")
        assert silent.recv(1) == b""
    assert time.monotonic() - began < HEAD_SECONDS + 3


def test_an_endless_head_is_refused(portal: Server):
    with portal.connect() as client, contextlib.suppress(ConnectionError):
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        for number in range(100_000):
            client.sendall(b"X-%d: a\r\n" % number)
        pytest.fail("it was all read")


@pytest.mark.parametrize("endless", [b"1;" + b"a" * 100_000, b"1;a=b;" * 50_000])
def test_an_endless_chunk_extension_is_not_read(portal: Server, endless: bytes):
    with portal.connect() as client, contextlib.suppress(ConnectionError):
        client.sendall(
            b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(200):
            client.sendall(endless)
        pytest.fail("20 MB of it were read")


def test_a_network_has_a_share_of_the_connections_whatever_it_opens(portal: Server):
    with clients(lambda: portal.connect("127.0.0.3"), SHARE * 3, b"") as idle:
        time.sleep(0.5)
        for one in idle:
            one.settimeout(0.01)
        assert sum(map(_is_open, idle)) <= SHARE
        # Others are not asked to pay for it.
        assert portal.get("/sign-in")[0] == 200
        # Nor is who has few: the quiet ones go, the one that is in use stays.
        assert portal.get("/sign-in", "127.0.0.3")[0] == 200


def _is_open(client: socket.socket) -> bool:
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def test_shares_are_held_where_there_is_no_room_for_more_files():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=SHARE * 2))
        for _ in range(SHARE * 2):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        taken = [stack.enter_context(listener.accept()[0]) for _ in range(SHARE * 2)]
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, allowed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1].fileno() + 4, allowed[1]))
        sockets.Guard((SHARE, SITE_SHARE)).look()
        for one in taken:
            one.settimeout(0.01)
        assert sum(map(_is_open, taken)) == SHARE


def test_shares_are_held_where_there_is_no_file_left_at_all():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=SHARE * 2))
        for _ in range(SHARE * 2):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        taken = [stack.enter_context(listener.accept()[0]) for _ in range(SHARE * 2)]
        guard = sockets.Guard((SHARE, SITE_SHARE))
        guard.look_at_listeners()
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, allowed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1].fileno() + 4, allowed[1]))
        with contextlib.suppress(OSError):
            while True:
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        guard.look()
        for one in taken:
            one.settimeout(0.01)
        assert sum(map(_is_open, taken)) == SHARE


@pytest.mark.parametrize(
    ("files", "shares"),
    [
        (100_000, (256, 512)),
        (2_304, (256, 512)),
        (1_024, (192, 384)),
        (512, (64, 128)),
        (256, (32, 64)),
    ],
)
def test_a_share_leaves_room_for_others_however_few_files_there_are(
    files: int, shares: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(application, "SHARE", 256)
    monkeypatch.setattr(application, "SITE_SHARE", 512)
    assert application.shares_with(files) == shares


def test_connections_of_all_networks_of_one_site_are_bounded_together(
    monkeypatch: pytest.MonkeyPatch,
):
    networks = itertools.cycle(f"2001:db8:7:{number:x}::/64" for number in range(SHARE))
    monkeypatch.setattr(sockets, "network_of", lambda _: next(networks))
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=SHARE * 2))
        for _ in range(SHARE * 2):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        taken = [stack.enter_context(listener.accept()[0]) for _ in range(SHARE * 2)]
        sockets.Guard((SHARE, SITE_SHARE)).look()
        for one in taken:
            one.settimeout(0.01)
        assert sum(map(_is_open, taken)) == SITE_SHARE


def test_a_network_of_ipv6_has_one_share(portal: Server):
    assert network_of("::1") == network_of("::2")
    with clients(lambda: portal.connect("::1"), SHARE * 2, b"") as idle:
        time.sleep(0.5)
        for one in idle:
            one.settimeout(0.01)
        assert sum(map(_is_open, idle)) <= SHARE
        assert portal.get("/sign-in")[0] == 200


def test_the_connection_with_a_link_local_address_is_found():
    # The number of the link is of no account here: Rust writes it behind the address.
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        with socket.create_connection(listener.getsockname()[:2]) as client, listener.accept()[0]:
            wire = sockets.wire_to(f"[::1%2]:{client.getsockname()[1]}")
            assert wire is not None
            wire.close()


def test_a_download_waits_for_its_reader_and_not_in_memory(bare: Server):
    before = bare.number("/memory")
    with bare.connect() as reader:
        reader.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read = 0
        while read < 30_000_000:
            read += len(reader.recv(1_000_000))
        time.sleep(0.3)
        assert bare.number("/memory") - before < 20_000, "KiB"
        assert bare.number("/streams") == 1


def test_who_takes_nothing_loses_the_connection_and_the_thread_is_free(bare: Server):
    with clients(bare.connect, 4, b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        began = time.monotonic()
        # All threads are at a download.
        assert bare.get("/streams")[0] == 200
        assert time.monotonic() - began < UNTAKEN_SECONDS + 3
        end = time.monotonic() + UNTAKEN_SECONDS + 3
        while bare.number("/streams"):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_who_takes_a_byte_now_and_then_is_one_of_them(bare: Server):
    with bare.connect() as reader:
        reader.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        end = time.monotonic() + UNTAKEN_SECONDS + 4
        while not bare.number("/streams"):
            assert time.monotonic() < end
        while bare.number("/streams"):
            assert time.monotonic() < end
            reader.recv(1)
            time.sleep(0.05)


@pytest.mark.parametrize(
    "said",
    [
        b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200\r\n\r\nx",
        b"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n"
        + b"x" * 100_000,
    ],
)
def test_who_leaves_is_no_failure(bare: Server, said: bytes):
    before = bare.log.read_bytes()
    for _ in range(5):
        with bare.connect() as client:
            # Closed, it is reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(said)
            time.sleep(0.02)
    end = time.monotonic() + UNTAKEN_SECONDS + 3
    while bare.number("/streams"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert bare.log.read_bytes() == before


def test_a_download_that_fails_does_not_look_whole(bare: Server):
    with bare.connect() as client:
        client.sendall(b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(IncompleteRead):
            answer_on(client).read()
    assert bare.get("/streams")[0] == 200


def test_no_failure_of_a_request_takes_its_thread_along(bare: Server):
    assert {bare.get("/exit")[0] for _ in range(5)} == {500}, "there are four threads"
    assert bare.get("/streams")[0] == 200


def test_large_bodies_leave_threads_for_the_others_and_must_keep_on_coming(bare: Server):
    head = b"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"
    with clients(lambda: bare.connect("127.0.0.2"), 8, head + b"x" * 100_000):
        for _ in range(3):
            status, _, seconds = bare.get("/streams")
            assert (status, seconds < 3) == (200, True)
    with bare.connect() as client:
        client.sendall(head + b"x" * 9_000_000)
        time.sleep(0.2)
        client.sendall(b"x" * 1_000_000)
        assert answer_on(client).read() == b"10000000"


def test_strangers_keep_nobodys_large_bodies_waiting_however_many_they_are(bare: Server):
    head = b"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n{}\r\n"
    stalls = head.replace(b"{}", b"Authorization: wrong\r\n") + b"x" * 100_000
    with contextlib.ExitStack() as stack:
        for number in range(2, 22):
            address = f"127.0.0.{number}"
            connect = functools.partial(bare.connect, address)
            stack.enter_context(clients(connect, 2, stalls))
        time.sleep(0.3)
        # One that was never seen here before, and whose every request is large.
        for owner in (b"a store", b"a store", b"another"):
            began = time.monotonic()
            with bare.connect() as client:
                client.sendall(head.replace(b"{}", b"Authorization: " + owner + b"\r\n"))
                client.sendall(b"x" * 200_000)
                assert answer_on(client).read() == b"200000"
            # The first of the strangers has not even ended.
            assert time.monotonic() - began < BODY_SECONDS


LARGE = (
    "POST /length HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n"
)


@contextlib.contextmanager
def coming(server: Server, owners: list[str], size: int, rate: int) -> Iterator[list[HTTPResponse]]:
    """Large bodies that come at so many bytes a second, for each time that an owner is named one;
    and their answers, as they come."""
    answers: list[HTTPResponse] = []

    def send(owner: str) -> None:
        piece = rate // 10
        with server.connect(seconds=60) as client, contextlib.suppress(OSError):
            client.sendall(LARGE.format(owner, size).encode() + b"x" * 100_000)
            began, said = time.monotonic(), 100_000
            while (
                said < size
                and not done.wait(max(0.0, (said - 100_000) / rate - (time.monotonic() - began)))
                and not select.select([client], [], [], 0)[0]
            ):
                client.sendall(b"x" * min(piece, size - said))
                said += piece
            if not done.is_set():
                answers.append(answer_on(client))

    done = threading.Event()
    threads = [threading.Thread(target=send, args=(owner,)) for owner in owners]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.3)
        yield answers
    finally:
        if rate < BYTES_A_SECOND:
            done.set()
        for thread in threads:
            thread.join(30)


def test_who_sends_slowly_keeps_nobody_elses_large_bodies_waiting(bare: Server):
    slow = ["slow one", "slow one", "slow two", "slow two"]
    with coming(bare, slow, 10_000_000, 80_000) as answers:
        for _ in range(4):
            began = time.monotonic()
            with bare.connect() as client:
                client.sendall(LARGE.format("quick", 200_000).encode() + b"x" * 200_000)
                assert answer_on(client).read() == b"200000"
            assert time.monotonic() - began < PATIENCE_SECONDS + 1.5
        ended = [answer for answer in answers if answer.status == 408]
        assert 1 <= len(ended) <= 4
        assert b"others wait" in ended[0].read()
        assert {answer.status for answer in answers} <= {408, 503}


def test_a_large_body_that_comes_fast_is_read_to_its_end_while_others_wait(bare: Server):
    rate = BYTES_A_SECOND * 3 // 2
    with (
        coming(bare, ["fast one", "fast two"], 10_000_000, rate) as answers,
        clients(bare.connect, 1, LARGE.format("quick", 200_000).encode() + b"x" * 200_000),
    ):
        pass
    assert [answer.status for answer in answers] == [200, 200]


def test_a_body_in_tiny_pieces_has_its_networks_share_of_the_loop(bare: Server):
    head = b"POST /length HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    tiny = head + b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n"
    before, began = bare.number("/pieces"), time.monotonic()
    with clients(functools.partial(bare.connect, "127.0.0.2"), 20, tiny) as each:
        for client in each:
            assert answer_on(client).status == 408
        seconds = time.monotonic() - began
        share = (FREE_SECONDS + RATE * seconds) / PIECE_SECONDS + len(each)
        # Some come while this is asked. All of them would be a million.
        assert bare.number("/pieces") - before <= 1.5 * share
        with bare.connect() as other:
            other.sendall(head + b"1\r\nx\r\n" * 500 + b"0\r\n\r\n")
            assert answer_on(other).read() == b"500"


def test_pages_of_one_sign_in_wait_for_each_other_and_keep_nobody_else_waiting(bare: Server):
    ask = "GET /late HTTP/1.1\r\nHost: localhost\r\nCookie: a=b; portal_session={}\r\n\r\n"
    own = ask.format("own").encode()
    with clients(lambda: bare.connect("127.0.0.2"), 6, own) as tabs:
        for whose in (b"other", b"another"):
            with bare.connect("127.0.0.2") as client:
                began = time.monotonic()
                client.sendall(own.replace(b"/late", b"/streams").replace(b"=own", b"=" + whose))
                assert answer_on(client).status == 200
                assert time.monotonic() - began < LATE_SECONDS
        assert {answer_on(tab).status for tab in tabs} == {200}, "each is made in the end"


def test_pages_of_one_sign_in_wait_for_each_other_however_its_cookie_is_written(bare: Server):
    spellings = (
        b"Cookie: portal_session=a.b.c",
        b"Cookie: x=y\r\nCookie: portal_session=a.b.c",
        b"Cookie: portal_session =a.b.c",
        b'Cookie: portal_session="a.b.c"',
        b'Cookie: portal_session="\\141.b.c"',
        b"Cookie: portal_session=a.b.c~~",
        b"Cookie: portal_session=a.b.c; portal_session=other.b.c",
    )
    asked = [
        b"GET /late HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\n\r\n" % spelling
        for spelling in spellings
    ]
    with contextlib.ExitStack() as stack:
        tabs = [stack.enter_context(bare.connect(seconds=30)) for _ in asked]
        began = time.monotonic()
        for tab, one in zip(tabs, asked, strict=True):
            tab.sendall(one)
        assert {answer_on(tab).status for tab in tabs} == {200}
        # One after the other: a sign-in has one of four threads.
        assert time.monotonic() - began >= len(asked) * LATE_SECONDS


def test_more_cookies_than_are_read_are_refused_with_the_remedy(bare: Server):
    with bare.connect() as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: %b\r\n\r\n" % (b"a=b; " * 4_000)
        )
        answer = answer_on(client)
        assert (answer.status, b"Delete the cookies" in answer.read()) == (431, True)


@pytest.mark.parametrize(
    ("cookie", "status"),
    [(b"a;" * 150, 200), (b"a;" * 8_000, 431), (b"a=" + b" " * 16_000 + b'"', 200)],
)
def test_cookies_that_are_made_to_be_read_for_long_keep_nobody_waiting(
    bare: Server, cookie: bytes, status: int
):
    ask = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nCookie: portal_session;%b\r\n\r\n" % cookie
    for _ in range(3):
        with bare.connect("127.0.0.2") as attacker:
            attacker.sendall(ask)
            assert bare.get("/streams")[2] < 1, "the loop was at the cookies"
            assert answer_on(attacker).status == status


def test_what_streams_leaves_its_place_to_the_pages_of_its_sign_in(bare: Server):
    ask = b"GET /endless HTTP/1.1\r\nHost: localhost\r\nCookie: portal_session=s\r\n\r\n"
    with clients(bare.connect, 2, ask) as streams:
        assert {answer_on(stream).status for stream in streams} == {200}
        with bare.connect() as client:
            client.sendall(ask.replace(b"/endless", b"/streams"))
            assert answer_on(client).read() == b"2"


def test_who_leaves_before_the_answer_gives_the_place_back_when_it_is_made(bare: Server):
    ask = b"GET /late HTTP/1.1\r\nHost: localhost\r\nCookie: portal_session=gone\r\n\r\n"
    with clients(bare.connect, 3, ask):
        time.sleep(0.1)
    with bare.connect() as client:
        client.sendall(ask)
        assert answer_on(client).status == 200


def test_a_large_body_that_ends_early_is_not_taken_for_whole(bare: Server):
    with bare.connect() as client:
        client.sendall(
            b"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n"
            + b"x" * 100_000
        )
        client.shutdown(socket.SHUT_WR)
        assert answer_on(client).status == 400


def test_a_body_that_is_here_may_be_read_late(bare: Server):
    with bare.connect() as client:
        client.sendall(
            b"POST /late HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n"
            + b"x" * 200_000
        )
        assert answer_on(client).read() == b"200000"


def test_a_length_may_begin_with_any_number_of_zeros(bare: Server):
    with bare.connect() as client:
        client.sendall(
            b"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
            + b"0" * 5_000
            + b"3\r\n\r\nabc"
        )
        assert answer_on(client).read() == b"3"


def test_a_name_with_an_underscore_is_not_the_header_that_a_proxy_sets(bare: Server):
    with bare.connect() as client:
        client.sendall(
            b"GET /environ?a=%C3%A9 HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 192.0.2.1\r\n"
            b"X-Forwarded-For: 192.0.2.2\r\nX-Forwarded-For: 192.0.2.3\r\nCookie: a=1\r\n"
            b"Cookie: b=2\r\n\r\n"
        )
        said = answer_on(client).read().decode().splitlines()
    assert "HTTP_X_FORWARDED_FOR=192.0.2.2,192.0.2.3" in said
    assert "HTTP_COOKIE=a=1; b=2" in said
    assert "QUERY_STRING=a=%C3%A9" in said
    assert "REMOTE_ADDR=::ffff:127.0.0.1" in said


@pytest.mark.parametrize(
    "header", ["Cookie: a=1; b=Zo\u00eb", "Cookie: \u00eb=1", "If-Match: \u00eb"]
)
def test_a_header_whose_letters_are_not_read_is_not_taken_for_one_that_was_not_sent(
    bare: Server, header: str
):
    for encoding in ("utf-8", "latin-1"):
        with bare.connect() as client:
            client.sendall(
                b"GET /environ HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % header.encode(encoding)
            )
            answer = answer_on(client)
            assert answer.status == 400
            assert b"beyond ASCII" in answer.read()
    # Who names a program or a page so has nothing that matters lost.
    with bare.connect() as client:
        client.sendall("GET /environ HTTP/1.1\r\nHost: a\r\nUser-Agent: Zo\u00eb\r\n\r\n".encode())
        assert answer_on(client).status == 200


def test_a_defect_that_many_requests_meet_has_one_traceback_a_minute(bare: Server):
    before = bare.log.read_text().count("Traceback")
    for _ in range(20):
        with contextlib.suppress(OSError, IncompleteRead):
            bare.get("/exit")
    assert bare.log.read_text().count("Traceback") <= before + 1


def test_letters_that_are_not_encoded_in_an_address_are_read_as_utf_8(portal: Server):
    # Browsers encode them; programs often do not.
    for path in ("/sign-in?next=/é€", "/api/v1/events?type=é€"):
        with portal.connect() as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert answer_on(client).status in (200, 401), path


def test_behind_a_proxy_it_is_the_networks_before_it_that_have_shares(behind: Server):
    def slow(named: str) -> bytes:
        return SLOW.replace(b"Host:", b"X-Forwarded-For: %b\r\nHost:" % named.encode())

    # Whatever is said to have been before, and with all that a /64 has.
    with clients(behind.connect, SHARE, slow("192.0.2.9, 2001:db8::1")) as taken:
        time.sleep(0.3)
        assert all(map(_waits, taken)), "the proxy's own connections are not limited"
        with behind.connect() as one_more, behind.connect() as other:
            one_more.sendall(slow("198.51.100.7, 2001:db8::ffff:1"))
            assert answer_on(one_more).status == 429
            other.sendall(slow("2001:db8::1, 2001:db8:1::1").replace(b"200\r\n", b"1\r\n"))
            assert answer_on(other).status == 200
    # More than a share of connections, each with a client of its own.
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(behind.connect()) for _ in range(SHARE * 2)]
        for number, one in enumerate(many):
            one.sendall(slow(f"203.0.113.{number}").replace(b"200\r\n", b"1\r\n"))
        assert {answer_on(one).status for one in many} == {200}


def test_all_networks_of_one_site_have_two_shares_at_most(behind: Server):
    """One household has up to 65,536 of them."""

    def slow(number: int, site: str = "2001:db8:7") -> bytes:
        named = f"X-Forwarded-For: {site}:{number:x}::1\r\nHost:"
        return SLOW.replace(b"Host:", named.encode())

    with contextlib.ExitStack() as stack:
        for number in range(SITE_SHARE):
            stack.enter_context(behind.connect()).sendall(slow(number))
        time.sleep(0.3)
        one_more, other = (stack.enter_context(behind.connect()) for _ in range(2))
        one_more.sendall(slow(SITE_SHARE))
        assert answer_on(one_more).status == 429
        other.sendall(slow(1, "2001:db8:8").replace(b"200\r\n", b"1\r\n"))
        assert answer_on(other).status == 200


def _waits(client: socket.socket) -> bool:
    client.settimeout(0.01)
    return _is_open(client)
