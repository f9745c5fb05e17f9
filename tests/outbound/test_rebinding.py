"""A name that leads inside, now or at the next look-up, leads nowhere: what is refused is the very
address that would be connected to."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.outbound import names
from tests.nameserver import WORKS, NameServer
from tests.receiver import Receiver

OUTSIDE = "127.83.0.7"
"""Stands for an address of the internet: it is admitted below. Nobody listens there, which is known
at once: no time-out can end a request before its other address is tried."""
REFUSED = "egress_refused", "The target's address may not be reached: 127.0.0.1 is loopback."
SEND = """
import ipaddress, json, sys, threading, time
from portal.composing.compose import Frame, Outgoing
from portal.outbound.libcurl import CurlTransport
urls, allow, came = sys.argv[1].split(), list(map(ipaddress.ip_network, sys.argv[2:])), []
for url in urls:
    # A sender of its own each time: one keeps a name's addresses for seconds.
    sender = CurlTransport(allow)
    sender.submit(Outgoing(Frame("POST", url, [], url, []), [], b"{}", "own"), 1, None)
    answers = []
    while not answers:
        answers = sender.run(1.0)
    answer = answers[0][1]
    came.append([answer.status, answer.error, answer.error_detail])
    sender.close()
    while any(thread.name == "look-up" for thread in threading.enumerate()):
        time.sleep(0.001)
print(json.dumps(came))
"""


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    if os.geteuid() != 0:
        pytest.skip("a resolver of one's own needs root, for its port and /etc/resolv.conf")
    server = NameServer()
    server.says = WORKS
    yield server
    server.close()


def send(
    name_server: NameServer, directory: Path, urls: list[str], *allow: str
) -> list[tuple[int | None, str | None, str | None]]:
    """What came of a request to each URL, one after the other."""
    world = name_server.in_its_world(directory)
    run = subprocess.run(
        [*world, sys.executable, "-c", SEND, " ".join(urls), *allow],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return [(status, error, detail) for status, error, detail in json.loads(run.stdout)]


INSIDE = (
    ["127.0.0.1"],
    ["::1"],
    ["10.0.0.7", "127.0.0.1"],
    ["127.0.0.1", "::1"],
    ["::ffff:127.0.0.1"],
    ["64:ff9b::7f00:1"],
    ["2002:7f00:1::"],
    ["0.0.0.0"],
    ["169.254.169.254"],
)


def test_a_name_that_leads_inside_is_refused(
    name_server: NameServer, tmp_path: Path, receiver: Receiver, subtests: pytest.Subtests
):
    name_server.of = {f"shop{number}.example.com": led for number, led in enumerate(INSIDE)}
    urls = [receiver.url().replace("127.0.0.1", name) for name in name_server.of]
    came = send(name_server, tmp_path, urls)
    for addresses, (status, error, detail) in zip(INSIDE, came, strict=True):
        with subtests.test(" ".join(addresses)):
            assert (status, error) == (None, "egress_refused")
            assert any(f" {ipaddress.ip_address(one)} is " in (detail or "") for one in addresses)
    assert not receiver.ledger


def test_a_name_that_changes_its_answer_never_gets_inside(
    name_server: NameServer, tmp_path: Path, receiver: Receiver
):
    turns = [[OUTSIDE], ["127.0.0.1"], [OUTSIDE, "127.0.0.1"], ["127.0.0.1", OUTSIDE]]
    # A look-up asks for IPv4 addresses alone too, where there may be others.
    asked = 2 if names.has_ipv6() else 1
    name_server.turns = [turn for turn in turns for _ in range(asked)]
    url = receiver.url().replace("127.0.0.1", "shop.example.com")
    came = send(name_server, tmp_path, [url] * 8, f"{OUTSIDE}/32")
    assert [error for _, error, _ in came[::4]] == ["connection_refused"] * 2
    # Inside alone, and beside the other in each order: it was tried, and the guard said no.
    for inside in (came[1:4], came[5:8]):
        assert inside == [(None, *REFUSED)] * 3
    assert not receiver.ledger


def test_an_address_inside_beside_the_receivers_own_is_not_blamed_for_what_the_receiver_does(
    name_server: NameServer, tmp_path: Path
):
    name_server.turns = [["127.0.0.1", OUTSIDE]]
    with socket.create_server((OUTSIDE, 0)) as listening:

        def take_and_close() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)

        threading.Thread(target=take_and_close, daemon=True).start()
        url = f"http://shop.example.com:{listening.getsockname()[1]}/"
        ((_, error, _),) = send(name_server, tmp_path, [url], f"{OUTSIDE}/32")
    assert error == "empty_answer"


def test_the_same_name_arrives_where_its_network_is_admitted(
    name_server: NameServer, tmp_path: Path, receiver: Receiver
):
    url = receiver.url().replace("127.0.0.1", "shop.example.com")
    assert send(name_server, tmp_path, [url], "127.0.0.1/32") == [(200, None, None)]
    assert len(receiver.ledger) == 1
