"""The one hole in the egress guard: exactly an inspector of the portal, and nothing beside it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from portal.composing.compose import Frame, Outgoing
from portal.outbound import egress
from portal.outbound.libcurl import CurlTransport, send_now
from portal.webhooks.url_rules import UrlContext, clean_url
from tests.receiver import Receiver

TOKEN = "Ab_-" * 10 + "xyz"
OWN = "http://127.0.0.1:8000"
INSPECT = f"{OWN}/inspect/"
REACH = UrlContext(own=frozenset({("127.0.0.1", 8000), ("localhost", 8000)}), inspect_url=INSPECT)

BESIDE = [
    f"{OWN}/",
    f"{OWN}/inspect/",
    f"{OWN}/inspect",
    f"{OWN}/inspect/{TOKEN[:-1]}",
    f"{OWN}/inspect/{TOKEN}x",
    f"{OWN}/inspect/{TOKEN}/",
    f"{OWN}/inspect/{TOKEN}/../../staff",
    f"{OWN}/inspect/../inspect/{TOKEN}",
    f"{OWN}/inspect//{TOKEN}",
    f"{OWN}//inspect/{TOKEN}",
    f"{OWN}/./inspect/{TOKEN}",
    f"{OWN}/Inspect/{TOKEN}",
    f"{OWN}/%69nspect/{TOKEN}",
    f"{OWN}/inspect/%41{TOKEN[1:]}",
    f"{OWN}/inspect%2F{TOKEN}",
    f"{OWN}/inspect/{TOKEN};x",
    f"{OWN}/inspect/{TOKEN}%00",
    f"{OWN}/inspect/{'..%2f' * 8}abc",
    f"{OWN}/api/v1/events?x=/inspect/{TOKEN}",
    f"{OWN}?/inspect/{TOKEN}",
    f"http://127.0.0.1:8001/inspect/{TOKEN}",
    f"http://127.0.0.1:80/inspect/{TOKEN}",
    f"http://127.0.0.1/inspect/{TOKEN}",
    f"http://127.1:8001/inspect/{TOKEN}",
    f"http://127.0.0.2:8000/inspect/{TOKEN}",
    f"http://localhost:8000/inspect/{TOKEN}",
    f"http://[::1]:8000/inspect/{TOKEN}",
    f"http://10.0.0.7:8000/inspect/{TOKEN}",
    f"https://127.0.0.1:8000/inspect/{TOKEN}",
]
WRONG = [
    f"http://ann@127.0.0.1:8000/inspect/{TOKEN}",
    f"http://127.0.0.1:8000@10.0.0.7/inspect/{TOKEN}",
    f"http://127.0.0.1:8000\\@10.0.0.7/inspect/{TOKEN}",
    f"{OWN}/inspect/{TOKEN}#x",
    f"{OWN}/inspect/{TOKEN}\n",
    f"{OWN}/inspect/{TOKEN}?a=\t",
    f"{OWN}\\inspect\\{TOKEN}",
]


@pytest.mark.parametrize("query", ["", "?source=erp", "?a=1&b=%2e%2e/"])
def test_an_inspector_can_be_a_target(query: str):
    assert clean_url(f"{INSPECT}{TOKEN}{query}", REACH) == f"{INSPECT}{TOKEN}{query}"


@pytest.mark.parametrize("url", BESIDE + WRONG)
def test_nothing_else_of_the_portal_can(url: str):
    assert not egress.is_inspector(url.replace("#x", "/#x"), INSPECT)
    with pytest.raises(ValueError, match="The URL"):
        clean_url(url, REACH)


def test_without_the_portals_address_nothing_is_an_inspector():
    for nothing in (None, ""):
        assert not egress.is_inspector(f"{INSPECT}{TOKEN}", nothing)
        assert not egress.is_inspector(TOKEN, nothing)


def test_another_spelling_of_the_same_host_is_kept_plainly_and_then_taken():
    assert clean_url(f"HTTP://127.1:8000/inspect/{TOKEN}", REACH) == f"{INSPECT}{TOKEN}"


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("127.0.0.1", None),
        ("::1", None),
        ("10.1.2.3", None),
        ("192.168.1.5", None),
        ("fd12::1", None),
        ("8.8.8.8", None),
        ("169.254.169.254", "cloud metadata"),
        ("fd00:ec2::254", "cloud metadata"),
        ("169.254.1.1", "link-local"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("::ffff:127.0.0.1", "IPv4-mapped"),
        ("64:ff9b::7f00:1", "NAT64"),
        ("224.0.0.1", "multicast"),
    ],
)
def test_an_inspector_stands_on_this_machine_or_in_its_network(address: str, refused: str | None):
    assert egress.inspector_refusal(ipaddress.ip_address(address)) == refused


# ── On the wire, with real sockets and no admitted network ────────────────────────────────


def outgoing(url: str) -> Outgoing:
    return Outgoing(Frame("POST", url, [], url, []), [], b"{}", "own")


@pytest.fixture
def portal() -> Iterator[Receiver]:
    """Something on loopback that would answer whatever it is asked."""
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_the_sender_reaches_an_inspector(portal: Receiver):
    answer = send_now(outgoing(portal.url(f"/inspect/{TOKEN}")), 3, [], portal.url("/inspect/"))
    assert (answer.status, answer.error) == (200, None)


@pytest.mark.parametrize("url", BESIDE)
def test_the_sender_reaches_nothing_beside_it(portal: Receiver, url: str):
    # A second one, which listens where `BESIDE` has another port.
    other = Receiver()
    url = url.replace(":8000", f":{portal.port}").replace(":8001", f":{other.port}")
    answer = send_now(outgoing(url), 3, [], portal.url("/inspect/"))
    other.close()
    assert answer.status is None
    assert answer.error == "egress_refused"
    assert portal.ledger == other.ledger == []


def test_a_redirect_to_an_inspector_or_from_one_is_not_followed(portal: Receiver):
    portal.always = (302, {"Location": portal.url("/staff/merchants")}, b"")
    answer = send_now(outgoing(portal.url(f"/inspect/{TOKEN}")), 3, [], portal.url("/inspect/"))
    assert answer.status == 302
    assert [received.path for received in portal.ledger] == [f"/inspect/{TOKEN}"]


def test_a_connection_that_was_opened_for_an_inspector_carries_nothing_else(portal: Receiver):
    transport: CurlTransport[str] = CurlTransport([], portal.url("/inspect/"))

    def ask(path: str) -> str | int | None:
        transport.submit(outgoing(portal.url(path)), 3, path)
        while True:
            for _, answer in transport.run(1.0):
                return answer.status or answer.error

    for _ in range(3):
        # The same handle is used for one after the other, and its guard with it.
        assert ask(f"/inspect/{TOKEN}") == 200
        assert ask("/staff/merchants") == "egress_refused"
    assert {received.path for received in portal.ledger} == {f"/inspect/{TOKEN}"}
    # Nor while it is in use.
    portal.delay = 0.5
    transport.submit(outgoing(portal.url(f"/inspect/{TOKEN}")), 3, "inspector")
    transport.run(0.1)
    assert ask("/staff/users") == "egress_refused"
    transport.close()
