"""Names that are never answered: whose they are waits, and nobody else."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import vault
from portal.clock import now
from portal.composing.compose import Frame, Outgoing
from portal.db.session import db
from portal.delivery import actions, drain
from portal.delivery.paces import Paces
from portal.events import ingest
from portal.models import Attempt, Merchant, Webhook
from portal.outbound import names
from portal.outbound import resolver as webhook_resolver
from portal.outbound.libcurl import CurlTransport
from portal.outbound.names import Names, named_in
from portal.outbound.response import Response
from portal.upkeep import certificates
from portal.webhooks import checking
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_merchant, make_webhook
from tests.nameserver import LASTING, NXDOMAIN, SERVFAIL, WORKS, NameServer
from tests.raw_receiver import KeepingReceiver
from tests.raw_receiver import answers as answers_http
from tests.receiver import Receiver

PACES = Paces(linger_seconds=0.5)

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
SEND = """
import ipaddress, json, sys
from portal.composing.compose import Frame, Outgoing
from portal.outbound.libcurl import CurlTransport
sender = CurlTransport([ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")])
last, answer = json.loads(sys.argv[1]), None
for url, seconds, whose in last:
    sender.submit(Outgoing(Frame("POST", url, [], url, []), [], b"{}", "own"), seconds, url, whose)
while answer is None:
    for tag, came in sender.run(1.0):
        if tag == last[-1][0]:
            answer = came
print(json.dumps([answer.status, answer.error, answer.error_detail, answer.dns_us]))
"""
"""Sends requests, and ends when the last of them is answered."""


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    if os.geteuid() != 0:
        pytest.skip("a resolver of one's own needs root, for its port and /etc/resolv.conf")
    server = NameServer()
    server.says = WORKS
    server.ignores = lambda asked: b"silent" in asked
    yield server
    server.close()


def last_of(
    name_server: NameServer,
    directory: Path,
    *requests: tuple[str, float, int | None],
    options: str = LASTING,
    hosts: Path = Path("/etc/hosts"),
) -> tuple[int | None, str | None, str | None, int | None]:
    """What comes of the last of several requests, each a URL, its seconds, and whose it is. Fails
    where the process does not end then."""
    bind = 'mount --bind "$0" /etc/hosts && exec "$@"'
    run = subprocess.run(
        [
            *name_server.in_its_world(directory, options),
            "sh",
            "-c",
            bind,
            str(hosts),
            sys.executable,
            "-c",
            SEND,
            json.dumps(requests),
        ],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    status, error, detail, dns_us = json.loads(run.stdout)
    return status, error, detail, dns_us


_number = count()
"""So that no test knows another's names."""


def silent(number: int) -> str:
    return f"http://silent-{number}.example.com/"


def of(receiver: Receiver, name: str = "shop.example.com") -> str:
    return receiver.url().replace("127.0.0.1", name)


# -- in real processes, with a name server ----------------------------------------------------


def test_a_hundred_names_that_hang_keep_no_other_merchant_waiting_and_no_process_from_its_end(
    name_server: NameServer, tmp_path: Path, receiver: Receiver
):
    hanging = [(silent(number), 50.0, 1) for number in range(100)]
    status, error, _, dns_us = last_of(name_server, tmp_path, *hanging, (of(receiver), 20.0, 2))
    assert (status, error) == (200, None)
    assert dns_us


def test_who_has_names_that_hang_waits_behind_them(
    name_server: NameServer, tmp_path: Path, receiver: Receiver
):
    hanging = [(silent(number), 50.0, 1) for number in range(100)]
    came = last_of(name_server, tmp_path, *hanging, (of(receiver), 1.0, 1))
    assert came[:2] == (None, "connect_timeout")
    assert not receiver.ledger


def test_the_time_for_an_attempt_ends_a_look_up_too_and_the_log_says_so(
    name_server: NameServer, tmp_path: Path
):
    _, error, detail, dns_us = last_of(name_server, tmp_path, (silent(1), 0.5, 1))
    assert (error, dns_us) == ("connect_timeout", None)
    words = re.fullmatch("Resolving timed out after ([0-9]+) milliseconds", detail or "")
    assert words is not None
    assert int(words[1]) >= 500


@pytest.mark.parametrize("says", [NXDOMAIN, SERVFAIL])
def test_a_name_that_does_not_exist_is_a_failure_of_its_own(
    name_server: NameServer, tmp_path: Path, says: bytes
):
    name_server.says = says
    came = last_of(name_server, tmp_path, ("http://shop.example.com/", 20.0, 1))
    assert came == (None, "dns_failed", "Could not resolve host: shop.example.com", None)


def test_a_name_server_that_never_tells_of_ipv6_delays_nothing(
    name_server: NameServer, tmp_path: Path, receiver: Receiver
):
    name_server.ignores = lambda asked: asked[-4:-2] == b"\0\x1c"
    came = last_of(name_server, tmp_path, (of(receiver), 20.0, 1))
    assert came[:2] == (200, None)


@pytest.mark.parametrize("order", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]])
def test_ipv6_goes_first_and_ipv4_is_tried_where_nobody_listens(
    name_server: NameServer, tmp_path: Path, receiver: Receiver, order: list[str]
):
    name_server.turns = [order]
    assert last_of(name_server, tmp_path, (of(receiver), 20.0, 1))[:2] == (200, None)
    port = urlsplit(receiver.url()).port or 0
    both = KeepingReceiver(answers_http, port, "::1")
    try:
        assert last_of(name_server, tmp_path, (of(receiver), 20.0, 1))[:2] == (200, None)
        assert (both.requests, len(receiver.ledger)) == (1, 1)
    finally:
        both.kill()


def test_search_domains_hold_as_for_every_program(
    name_server: NameServer, tmp_path: Path, receiver: Receiver
):
    options = f"{LASTING}\nsearch example.com"
    came = last_of(name_server, tmp_path, (of(receiver, "shop"), 20.0, 1), options=options)
    assert came[0] == 200
    assert {asked[:-4] for asked in name_server.asked} == {b"\4shop\7example\3com\0"}


def test_the_file_of_hosts_holds_as_for_every_program(
    name_server: NameServer, tmp_path: Path, receiver: Receiver
):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 warehouse.example.com\n")
    name_server.turns = [["::1", "127.0.0.2"]]
    request = of(receiver, "warehouse.example.com"), 20.0, 1
    assert last_of(name_server, tmp_path, request, hosts=hosts)[0] == 200
    assert not name_server.asked


def test_that_a_name_does_not_exist_is_known_for_a_while_and_then_asked_again(
    name_server: NameServer, tmp_path: Path
):
    name_server.says = NXDOMAIN
    script = """
from portal.outbound import names
from portal.composing.compose import Frame, Outgoing
from portal.outbound.libcurl import send_now
for url, names.NONE_SECONDS in (("http://kept.example.com/", 60), ("http://gone.example.com/", 0)):
    for _ in range(3):
        request = Outgoing(Frame("POST", url, [], url, []), [], b"{}", "own")
        assert send_now(request, 20, []).error == "dns_failed"
"""
    subprocess.run(
        [*name_server.in_its_world(tmp_path, LASTING), sys.executable, "-c", script],
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    for name, times in ((b"kept", 1), (b"gone", 3)):
        question = b"\4" + name + b"\7example\3com\0" + b"\0\x1c\0\1"
        assert name_server.asked.count(question) == times


@pytest.mark.whole
@on_both_databases
def test_a_worker_delivers_for_others_at_once_and_ends_in_time_while_a_merchants_names_hang(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    name_server: NameServer,
    tmp_path: Path,
    processes: Callable[..., subprocess.Popen[bytes]],
    wait_for: Callable[..., None],
):
    for number in range(100):
        make_webhook(merchant, silent(number), timeout_seconds=5)
    other = make_merchant("other")
    make_webhook(other, of(receiver))
    ingest.ingest_events(merchant.id, [{"type": "order.created"}], batch=True)
    worker = processes(
        "-c",
        "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])",
        *name_server.in_its_world(tmp_path, LASTING),
        sys.executable,
        "worker.py",
        "--part",
        "deliver",
    )

    def attempts(whose: Merchant) -> list[str | None]:
        db.session.rollback()
        errors = sa.select(Attempt.error).where(Attempt.merchant_id == whose.id)
        return list(db.session.scalars(errors))

    wait_for(lambda: len(set(name_server.asked)) >= 20)
    ingest.ingest_events(other.id, [{"type": "order.created"}], batch=True)
    wait_for(lambda: bool(attempts(other)))
    assert attempts(other) == [None], "its first attempt, and that within its time"
    wait_for(lambda: len(attempts(merchant)) >= 100)
    assert set(attempts(merchant)) == {"connect_timeout"}
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0, "no look-up holds it, though some take minutes"
    assert len(receiver.ledger) == 1


# -- how many at once, and for whom ------------------------------------------------------------


class Resolver:
    """Answers for a name when it is told to, and notes what was asked for."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.at_once = self.most_at_once = 0
        self._says: dict[str, list[str]] = {}
        self._changed = threading.Condition()
        self._closing = False

    def addresses(self, name: str, family: int) -> list[str]:
        if family == socket.AF_INET:
            return []
        with self._changed:
            self.begun.append(name)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self._changed.notify_all()
            self._changed.wait_for(lambda: name in self._says or self._closing)
            self.at_once -= 1
            return self._says.get(name, [])

    def names(self, most: int = names.MOST) -> Names:
        """Look-ups that ask it."""
        return Names(most, self.addresses)

    def says(self, name: str, *addresses: str) -> None:
        """Answer for a name, from now on."""
        with self._changed:
            self._says[name] = list(addresses)
            self._changed.notify_all()

    def wait_for(self, *begun: str) -> None:
        """Wait until these have been asked for, in whatever order, and nothing else."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.begun) >= len(begun), 30)
            assert sorted(self.begun) == sorted(begun)

    def close(self) -> None:
        """Let go of everybody."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(names, "look_ups", resolver.names())
    yield resolver
    resolver.close()


class Told:
    """What has been told of names."""

    def __init__(self) -> None:
        self.found: list[tuple[str, list[str]]] = []
        self._one_more = threading.Semaphore(0)

    def of(self, name: str) -> Callable[[list[str]], None]:
        def tell(addresses: list[str]) -> None:
            self.found.append((name, addresses))
            self._one_more.release()

        return tell

    def wait(self, times: int) -> list[tuple[str, list[str]]]:
        for _ in range(times):
            assert self._one_more.acquire(timeout=30)
        return self.found


def numbered(whose: int, *, to: int) -> list[str]:
    return [f"{number}.of-{whose}" for number in range(to)]


def test_a_merchant_has_a_share_of_the_look_ups_and_leaves_places_to_many_others(
    resolver: Resolver,
):
    own, told = resolver.names(), Told()
    for whose in range(1, 13):
        for name in numbered(whose, to=100):
            own.ask(name, whose, told.of(name))
    shares = [10, 8, 6, 5, 4, 3, 3, 2, 2, 1, 1, 1]
    begun = [name for whose, share in enumerate(shares, 1) for name in numbered(whose, to=share)]
    resolver.wait_for(*begun)
    own.ask("shop", 13, told.of("shop"))
    resolver.wait_for(*begun, "shop")
    resolver.says("shop", "192.0.2.1")
    assert told.wait(1) == [("shop", ["192.0.2.1"])]


def test_what_waits_behind_a_merchants_own_goes_on_when_one_of_them_ends(resolver: Resolver):
    own, told = resolver.names(8), Told()
    for name in ("a", "b", "c", "d", "e"):
        own.ask(name, 1, told.of(name))
    resolver.wait_for("a", "b")
    resolver.says("a", "192.0.2.1")
    resolver.wait_for("a", "b", "c")
    for name in ("c", "d", "b", "e"):
        resolver.says(name, "192.0.2.2")
    assert sorted(name for name, _ in told.wait(5)) == ["a", "b", "c", "d", "e"]
    assert resolver.most_at_once == 2


def test_never_more_than_all_places_are_taken_and_all_of_them_come_back(resolver: Resolver):
    own, told = resolver.names(), Told()
    asked = [(name, whose) for whose in range(60) for name in numbered(whose, to=3)]
    for name, whose in asked:
        own.ask(name, whose, told.of(name))
    for name, _ in asked:
        resolver.says(name, "192.0.2.1")
    assert sorted(told.wait(len(asked))) == sorted((name, ["192.0.2.1"]) for name, _ in asked)
    assert resolver.most_at_once <= names.MOST
    # As many as at the start.
    for name in numbered(99, to=12):
        own.ask(name, 99, told.of(name))
    resolver.wait_for(*(name for name, _ in asked), *numbered(99, to=10))


def test_many_who_want_one_name_share_its_look_up_also_when_another_waits_for_his_turn(
    resolver: Resolver,
):
    own, told = resolver.names(8), Told()
    for name in ("a", "b", "chat"):
        own.ask(name, 1, told.of(name))
    resolver.wait_for("a", "b")
    # It is the second merchant's turn, and the first one's name.
    for _ in range(3):
        own.ask("chat", 2, told.of("chat"))
    resolver.wait_for("a", "b", "chat")
    resolver.says("chat", "192.0.2.1")
    assert told.wait(4) == [("chat", ["192.0.2.1"])] * 4
    resolver.says("a", "192.0.2.2")
    resolver.says("b", "192.0.2.2")
    told.wait(2)
    assert resolver.begun.count("chat") == 1


def test_who_asks_when_a_look_up_is_old_does_not_wait_for_it(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(names, "JOIN_SECONDS", 0.0)
    own, told = resolver.names(), Told()
    own.ask("shop", 1, told.of("shop"))
    resolver.wait_for("shop")
    own.ask("shop", 1, told.of("shop"))
    resolver.wait_for("shop", "shop")


def test_who_has_left_is_told_nothing_and_his_name_is_not_looked_up(resolver: Resolver):
    own, told, left = resolver.names(4), Told(), Told()
    first = own.ask("a", 1, left.of("a"))
    second = own.ask("b", 1, left.of("b"))
    own.ask("c", 1, told.of("c"))
    resolver.wait_for("a")
    own.leave(first)
    own.leave(second)
    resolver.says("a", "192.0.2.1")
    resolver.wait_for("a", "c")
    resolver.says("c", "192.0.2.1")
    assert told.wait(1) == [("c", ["192.0.2.1"])]
    assert not left.found


def test_where_the_system_gives_no_thread_a_name_has_no_address_and_the_next_one_is_looked_up(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    own, told = resolver.names(4), Told()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        own.ask("a", 1, told.of("a"))
        own.ask("b", 1, told.of("b"))
    assert told.wait(2) == [("a", []), ("b", [])]
    own.ask("c", 1, told.of("c"))
    resolver.says("c", "192.0.2.1")
    assert told.wait(1)[-1] == ("c", ["192.0.2.1"])


# -- in a transport ---------------------------------------------------------------------------


@pytest.fixture
def transport() -> Iterator[CurlTransport[str]]:
    transport: CurlTransport[str] = CurlTransport(LOOPBACK)
    yield transport
    transport.close()


def submit(
    transport: CurlTransport[str], url: str, tag: str, seconds: float = 20.0, whose: int = 1
) -> None:
    outgoing = Outgoing(Frame("POST", url, [], url, []), [], b"{}", "own")
    transport.submit(outgoing, seconds, tag, whose)


def answers(transport: CurlTransport[str], number: int) -> dict[str, Response]:
    found: dict[str, Response] = {}
    while len(found) < number:
        found.update(transport.run(1.0))
    return found


def test_a_connection_that_is_open_needs_no_look_up_and_a_known_name_neither(
    resolver: Resolver, transport: CurlTransport[str], receiver: Receiver
):
    name = f"{next(_number)}.known.example"
    resolver.says(name, "127.0.0.1")
    for turn in range(3):
        submit(transport, of(receiver, name), str(turn))
        assert answers(transport, 1)[str(turn)].status == 200
    receiver.delay = 0.2
    for turn in range(5):
        submit(transport, of(receiver, name), str(turn))
    assert {answer.status for answer in answers(transport, 5).values()} == {200}
    assert resolver.begun == [name]


def test_requests_that_wait_for_one_name_go_out_together(
    resolver: Resolver, transport: CurlTransport[str], receiver: Receiver
):
    name = f"{next(_number)}.slow.example"
    for turn in range(5):
        submit(transport, of(receiver, name), str(turn))
    while not resolver.begun:
        transport.run(0.05)
    assert transport.in_flight == 5
    resolver.says(name, "127.0.0.1")
    assert {answer.status for answer in answers(transport, 5).values()} == {200}
    assert (transport.in_flight, resolver.begun) == (0, [name])


def test_each_waits_for_a_name_as_long_as_its_own_time_is(
    resolver: Resolver, transport: CurlTransport[str], receiver: Receiver
):
    name = f"{next(_number)}.slow.example"
    submit(transport, of(receiver, name), "long", 30.0)
    while not resolver.begun:
        transport.run(0.05)
    asked = time.monotonic()
    submit(transport, of(receiver, name), "short", 0.3)
    ended = answers(transport, 1)
    assert ended["short"].error == "connect_timeout"
    assert ended["short"].duration_us >= 300_000
    waited = time.monotonic() - asked
    assert waited >= 0.3
    resolver.says(name, "127.0.0.1")
    found = answers(transport, 1)["long"]
    assert found.status == 200
    assert (found.dns_us or 0) >= waited * 1_000_000
    assert found.duration_us >= (found.dns_us or 0)


def test_a_handle_that_has_waited_has_its_whole_time_the_next_time(
    resolver: Resolver, transport: CurlTransport[str], receiver: Receiver
):
    name = f"{next(_number)}.slow.example"
    submit(transport, of(receiver, name), "first", 2.0)
    while not resolver.begun:
        transport.run(0.05)
    assert transport.run(0.5) == []
    resolver.says(name, "127.0.0.1")
    assert answers(transport, 1)["first"].status == 200
    receiver.delay = 1.7
    submit(transport, of(receiver, name), "next", 2.0)
    found = answers(transport, 1)["next"]
    assert (found.status, found.dns_us) == (200, None)


def test_what_is_told_after_a_transport_has_ended_disturbs_nobody(
    resolver: Resolver, receiver: Receiver
):
    ended: CurlTransport[str] = CurlTransport(LOOPBACK)
    name = f"{next(_number)}.slow.example"
    submit(ended, of(receiver, name), "ended")
    while not resolver.begun:
        ended.run(0.05)
    ended.close()
    # Where its bell had its number another file stands now.
    reading, writing = os.pipe()
    resolver.says(name, "127.0.0.1")
    another: CurlTransport[str] = CurlTransport(LOOPBACK)
    submit(another, of(receiver, name), "another")
    assert answers(another, 1)["another"].status == 200
    another.close()
    os.close(writing)
    assert os.read(reading, 8) == b""
    os.close(reading)


# -- for whom ---------------------------------------------------------------------------------


class Noted(Names):
    """Look-ups that all lead to loopback, and note what was asked for whom."""

    def __init__(self) -> None:
        super().__init__(addresses=lambda _name, _family: ["127.0.0.1"])
        self.asked: set[tuple[str, int | None]] = set()

    def ask(self, name: str, whose: int | None, tell: Callable[[list[str]], None]) -> names.Ask:
        """As Names'."""
        self.asked.add((name, whose))
        return super().ask(name, whose, tell)


def test_whatever_is_sent_for_a_merchant_counts_as_its_own(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    noted = Noted()
    monkeypatch.setattr(names, "look_ups", noted)
    receiver.always = 200, {}, b'{"access_token": "x", "token_type": "Bearer"}'

    def webhook(kind: str, **fields: Any) -> Webhook:
        auth = {
            "type": "oauth2",
            "token_url": of(receiver, f"token-{kind}.example.com"),
            "client_id": "shop",
            "client_secret": vault.encrypt("secret"),
            "scope": "",
            "audience": "",
            "client_auth": "header",
        }
        url = of(receiver, f"{kind}.example.com")
        return make_webhook(merchant, url, auth=auth, **fields)

    webhook("delivery")
    ingest.ingest_events(merchant.id, [{"type": "order.created"}], batch=True)
    assert drain.drain(0, paces=PACES) == 1
    actions.send_test(merchant.id, webhook("test", enabled=False).id, "order.created", "test")
    make_webhook(merchant, "https://certificate.example.com:9/")
    certificates.check_all()
    away = make_webhook(
        merchant,
        of(receiver, "look.example.com"),
        failures=30,
        away=30,
        unreachable=True,
        failing_since=now(),
        held_at=now(),
        next_probe_at=now(),
    )
    make_delivery(make_event(merchant), away)
    drain.drain(0, paces=PACES)
    checking.url_problem("https://typed.example.com/", merchant.id)
    kinds = ("delivery", "token-delivery", "test", "token-test", "certificate", "look", "typed")
    assert noted.asked == {(f"{kind}.example.com", merchant.id) for kind in kinds}


def test_while_names_of_one_merchant_hang_those_of_another_are_looked_at_when_they_are_saved(
    app: Flask, merchant: Merchant, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhook_resolver.addresses_of, "__defaults__", (0.01,))
    for number in range(60):
        assert checking.url_problem(silent(number), merchant.id) is None
    monkeypatch.setattr(webhook_resolver.addresses_of, "__defaults__", (30.0,))
    resolver.says("inside.example.com", "10.0.0.7")
    problem = checking.url_problem("https://inside.example.com/", make_merchant("other").id)
    assert "inside.example.com, which is 10.0.0.7 (private)" in (problem or "")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://shop.example.com/", ("shop.example.com", 443)),
        ("http://Shop.example.com:8080/a?b", ("shop.example.com", 8080)),
        ("http://xn--mnchen-3ya.example/", ("xn--mnchen-3ya.example", 80)),
        ("http://a_b.example./", ("a_b.example.", 80)),
        ("http://1.2.3.4/", None),
        ("http://[2001:db8::1]:81/", None),
        ("http://2130706433/", None),
        ("http://0x7f.1/", None),
        ("http://127.1/", None),
        ("http://1.2.3.4./", None),
        ("http://localhost:9/", None),
        ("http://a.localhost/", None),
        ("http://notlocalhost/", ("notlocalhost", 80)),
        # What libcurl would read as something else in what it is told of addresses.
        ("http://*/", ("", 80)),
        ("http://a,b/", ("", 80)),
        ("http://münchen.example/", ("", 80)),
        ("http://a:b/", ("", 0)),
        ("http:///", ("", 80)),
    ],
)
def test_what_has_to_be_looked_up(url: str, found: tuple[str, int] | None):
    assert named_in(url) == found


def test_a_name_that_cannot_be_one_fails_by_itself(transport: CurlTransport[str]):
    submit(transport, "http://*/", "star")
    submit(transport, "http://a,b/", "comma")
    found = answers(transport, 2)
    assert {answer.error for answer in found.values()} <= {"dns_failed", "invalid_url"}
    assert not any(answer.sends for answer in found.values())


def test_of_a_name_with_thousands_of_addresses_a_few_are_tried(monkeypatch: pytest.MonkeyPatch):
    many = [
        (socket.AF_INET, kind, 6, "", (f"127.1.{number // 250}.{number % 250 + 1}", 0))
        for number in range(4_000)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: many)
    found = names.look_up_here("many.example.com", socket.AF_INET)
    assert found == [f"127.1.0.{number}" for number in range(1, names.MOST_ADDRESSES + 1)]
