"""Which URLs a webhook may have."""

from __future__ import annotations

import ipaddress

import pytest

from portal.webhooks.url_rules import MAX_URL, UrlContext, clean_url, origin

ANYWHERE = UrlContext()


def refusal(url: str, reach: UrlContext = ANYWHERE) -> str:
    with pytest.raises(ValueError) as caught:
        clean_url(url, reach)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://erp.example.com/hooks?x=1", "https://erp.example.com/hooks?x=1"),
        ("HTTPS://ERP.Example.COM./Hooks", "https://erp.example.com/Hooks"),
        ("http://erp.example.com:8080", "http://erp.example.com:8080"),
        ("https://user_data.example.com/", "https://user_data.example.com/"),
        ("https://müller.example/x", "https://xn--mller-kva.example/x"),
        ("https://xn--80ak6aa92e.com/", "https://xn--80ak6aa92e.com/"),
        ("https://8.8.8.8/x", "https://8.8.8.8/x"),
        ("https://[2606:4700::1111]:443/", "https://[2606:4700::1111]:443/"),
        ("https://example.com/päth?q=ü", "https://example.com/päth?q=ü"),
        ("https://example.com/a:b@c", "https://example.com/a:b@c"),
    ],
)
def test_a_url_is_kept_as_it_goes_over_the_wire(given: str, kept: str) -> None:
    assert clean_url(given, ANYWHERE) == kept


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "Give the URL"),
        ("erp.example.com/hooks", "starts with https://"),
        ("//erp.example.com/", "starts with https://"),
        ("ftp://erp.example.com/", "starts with https://"),
        ("javascript:alert(1)", "starts with https://"),
        ("http:erp.example.com", "starts with https://"),
        ("file:///etc/passwd", "starts with https://"),
        ("gopher://erp.example.com/", "starts with https://"),
        ("https:///hooks", "names no host"),
        ("https://:443/", "names no host"),
        ("https://erp.example.com:0/", "port"),
        ("https://erp.example.com:99999/", "port"),
        ("https://erp.example.com:/", "port"),
        ("https://erp.example.com:８０/", "port"),
        ("https://erp.example.com:-1/", "port"),
        ("https://ann:secret@erp.example.com/", "user name"),
        ("https://ann@erp.example.com/", "user name"),
        ("https://8.8.8.8@127.0.0.1/", "user name"),
        ("https://erp.example.com/#top", "fragment"),
        ("https://erp.example.com/a\tb", "space, tab"),
        ("https://erp.example.com/\n", "space, tab"),
        (" https://erp.example.com/", "space, tab"),
        ("https://erp.example.com/a b", "space, tab"),
        ("https://erp.example.com/\x00", "space, tab"),
        ("https://erp.example.com/\u202egpj", "space, tab"),
        ("https://erp.example.com\\@127.0.0.1/", "backslash"),
        ("https://erp.example.com/{{ event.id }}", "Liquid"),
        ("https://a..example.com/", "host is made of"),
        ("https://-a.example.com/", "host is made of"),
        ("https://%31%32%37.0.0.1/", "host is made of"),
        ("https://[::1", "host is made of"),
        ("https://[fe80::1%25eth0]/", "not an IPv6 address"),
        ("https://1.2.3.999/", "neither a name nor an IP address"),
        ("https://1.2.3.4.5/", "neither a name nor an IP address"),
        ("https://" + "a" * 64 + ".example.com/", "64 characters"),
        ("https://" + ".".join(["a" * 60] * 5) + "/", "more than 253"),
        ("https://☃.example.com/", "not a name"),
    ],
)
def test_a_url_that_cannot_be_sent_to_is_refused(url: str, words: str) -> None:
    assert words in refusal(url)


@pytest.mark.parametrize("host", ["gооgle.com", "аррӏе.com", "ɡoogle.com", "ex\u0430mple.com"])
def test_a_name_that_looks_like_another_is_refused_with_its_punycode(host: str) -> None:
    assert "write it as xn--" in refusal(f"https://{host}/")


def test_the_longest_url_is_taken_and_one_character_more_is_not() -> None:
    url = "https://erp.example.com/".ljust(MAX_URL, "x")
    assert clean_url(url, ANYWHERE) == url
    assert "2,049 characters" in refusal(url + "x")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "2130706433",
        "0x7f000001",
        "127.0.0.1.",
        "１２７.0.0.1",
        "127。0。0。1",
        "10.0.0.7",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "203.0.113.9",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:1::1]",
        "[fc00::1]",
        "[fec0::1]",
        "[fe80::1]",
    ],
)
def test_an_address_that_is_not_public_is_refused_in_every_spelling(host: str) -> None:
    assert "only public addresses" in refusal(f"http://{host}/hook")


def test_a_name_is_refused_when_any_of_its_addresses_is_not_public() -> None:
    addresses = [ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("10.0.0.7")]
    reach = UrlContext(resolve=lambda _: addresses)
    assert "intranet.example.com, which is 10.0.0.7 (private)," in refusal(
        "https://intranet.example.com/", reach
    )


def test_a_name_that_does_not_resolve_now_is_taken() -> None:
    assert clean_url("https://soon.example.com/", UrlContext(resolve=lambda _: []))


def test_an_admitted_network_may_be_reached() -> None:
    reach = UrlContext(allow=[ipaddress.ip_network("10.1.0.0/16")])
    assert clean_url("http://10.1.2.3/", reach) == "http://10.1.2.3/"
    assert "private" in refusal("http://10.2.0.1/", reach)


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example.com:8000/x", "http://HOOKS.example.com.:8000/", "http://127.1:8000/"],
)
def test_the_portals_own_url_is_refused_even_where_it_may_be_reached(url: str) -> None:
    own = frozenset({("hooks.example.com", 8000), ("127.0.0.1", 8000)})
    reach = UrlContext(allow=[ipaddress.ip_network("127.0.0.1/32")], own=own)
    assert "the portal's own" in refusal(url, reach)


def test_a_name_for_the_portals_own_address_is_refused() -> None:
    reach = UrlContext(
        allow=[ipaddress.ip_network("127.0.0.1/32")],
        own=frozenset({("127.0.0.1", 8000)}),
        resolve=lambda _: [ipaddress.ip_address("127.0.0.1")],
    )
    assert "the portal's own" in refusal("http://me.example.com:8000/", reach)
    assert clean_url("http://me.example.com:8001/", reach)


def test_origins_tell_servers_apart() -> None:
    assert origin("https://a.example/x") == origin("https://a.example:443/y")
    assert origin("https://a.example/") != origin("http://a.example/")
    assert origin("https://a.example/") != origin("https://b.example/")
