"""No address inside is reached, in whatever spelling."""

from __future__ import annotations

import ipaddress

import pytest

from portal.outbound.egress import literal, refusal

INSIDE = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "4000::1",
]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_refused(address: str):
    assert refusal(ipaddress.ip_address(address)) is not None


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "93.184.215.14"])
def test_a_public_address_is_reached(address: str):
    assert refusal(ipaddress.ip_address(address)) is None


def test_an_allowed_network_admits_just_itself():
    allow = [ipaddress.ip_network("10.1.0.0/16")]
    assert refusal(ipaddress.ip_address("10.1.2.3"), allow) is None
    assert refusal(ipaddress.ip_address("10.2.0.1"), allow) == "private"
    assert refusal(ipaddress.ip_address("127.0.0.1"), allow) == "loopback"


def test_the_metadata_address_is_reached_only_when_it_is_named_itself():
    metadata = ipaddress.ip_address("169.254.169.254")
    assert refusal(metadata, [ipaddress.ip_network("169.254.0.0/16")]) == "cloud metadata"
    assert refusal(metadata, [ipaddress.ip_network("169.254.169.254/32")]) is None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0x7F.0.0.0x1",
    ],
)
def test_every_spelling_of_loopback_is_the_same_address(host: str):
    assert literal(host) == ipaddress.ip_address("127.0.0.1")


def test_bracketed_addresses_are_read_and_names_are_not():
    assert literal("[::1]") == ipaddress.ip_address("::1")
    assert literal("[fe80::1%25eth0]") == ipaddress.ip_address("fe80::1")
    for name in ("example.com", "1.2.3.4.5", "256.1.1.1", "a.0x7f", "08.1.1.1"):
        assert literal(name) is None
