"""However an address inside is spelled, it is refused: spellings are generated."""

from __future__ import annotations

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from portal.outbound.egress import literal, refusal
from portal.webhooks.url_rules import UrlContext, clean_url

V4_INSIDE = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
V6_INSIDE = [
    ipaddress.ip_network(text)
    for text in (
        "::/128",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        "2001:db8::/32",
        "100::/64",
        "3fff::/20",
        "5f00::/16",
    )
]
CARRIERS = ("::ffff:0:0/96", "::/96", "64:ff9b::/96", "::ffff:0:0:0/96")
DIGITS = str.maketrans("0123456789", "０１２３４５６７８９")
DOTS = (".", "。", "．", "｡")


@st.composite
def inside(draw: st.DrawFn) -> int:
    network = draw(st.sampled_from(V4_INSIDE))
    return int(network[0]) + draw(st.integers(0, network.num_addresses - 1))


@st.composite
def spelled(draw: st.DrawFn, address: int) -> str:
    """One to four numbers, each decimal, octal or hex, as inet_aton(3) takes them."""
    parts = draw(st.integers(1, 4))
    octets = [address >> 24 & 255, address >> 16 & 255, address >> 8 & 255]
    numbers = [*octets[: parts - 1], address & (1 << 8 * (5 - parts)) - 1]
    texts = []
    for number in numbers:
        write = draw(st.sampled_from(["{:d}", "0{:o}", "0x{:x}", "0X{:X}", "000{:o}", "0x00{:x}"]))
        texts.append(write.format(number))
    text = draw(st.sampled_from(DOTS)).join(texts) + draw(st.sampled_from(["", "."]))
    return text.translate(DIGITS) if draw(st.booleans()) else text


def is_refused(url: str) -> bool:
    try:
        clean_url(url, UrlContext(resolve=lambda _: []))
    except ValueError:
        return True
    return False


@settings(max_examples=600, deadline=None)
@given(st.data(), inside())
def test_no_spelling_of_an_ipv4_address_inside_is_taken(data: st.DataObject, address: int):
    host = data.draw(spelled(address))
    assert is_refused(f"http://{host}/hook")


@settings(max_examples=400, deadline=None)
@given(st.data(), inside())
def test_a_spelling_in_ascii_is_read_as_the_address_it_is(data: st.DataObject, address: int):
    host = data.draw(spelled(address).filter(lambda text: text.isascii()))
    read = literal(host)
    assert read is not None
    assert int(read) == address
    assert refusal(read) is not None


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(V6_INSIDE), st.sampled_from(CARRIERS), inside(), st.data())
def test_no_ipv6_address_inside_or_with_an_ipv4_one_in_it_is_taken(
    network: ipaddress.IPv6Network, carrier: str, v4: int, data: st.DataObject
):
    offset = data.draw(st.integers(0, network.num_addresses - 1))
    carried = int(ipaddress.ip_network(carrier)[0]) + v4
    six_to_four = int(ipaddress.ip_address("2002::")) | v4 << 80
    for number in (int(network[0]) + offset, carried, six_to_four):
        address = ipaddress.IPv6Address(number)
        assert refusal(address) is not None
        write = data.draw(st.sampled_from(["compressed", "exploded"]))
        text = getattr(address, write)
        assert is_refused(f"https://[{text.upper() if data.draw(st.booleans()) else text}]/hook")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_refused_is_never_what_the_internet_routes(address: int):
    v4 = ipaddress.IPv4Address(address)
    if refusal(v4) is None:
        assert v4.is_global
        assert not v4.is_multicast
