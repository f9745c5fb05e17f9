"""The rules for a webhook's URL. Pure, except for the resolver that it is given, and the kernel.

A host name is kept in the form in which it goes over the wire (portal.addresses).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from portal.addresses import DEFAULT_PORTS, Lookalike, wire_name
from portal.characters import CONTROLS, DIRECTIONS, INVISIBLE, LINE_ENDS, one_of
from portal.outbound import egress

MAX_URL = 2_048
MAX_HOST, MAX_LABEL = 253, 63

# White space, control characters, and what is invisible or changes the direction of text.
_UNSAFE = one_of(r"\s", CONTROLS, LINE_ENDS, DIRECTIONS, INVISIBLE)
_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?([^/?]*)(.*)")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True)
class UrlContext:
    """What a URL is checked against.

    `allow` are private networks that may be reached. `own` are the hosts and ports at which the
    portal itself answers, and `is_own` tells whether it does at an address and port: there only an
    inspector may be sent to (`inspect_url`, egress.is_inspector). `resolve` gives the addresses of
    a name, none if it has none or takes too long; without it names are not looked up.
    """

    allow: Sequence[egress.Admitted] = ()
    own: frozenset[tuple[str, int]] = field(default_factory=frozenset)
    inspect_url: str | None = None
    is_own: Callable[[egress.Address, int], bool] = lambda _address, _port: False
    resolve: Callable[[str], list[egress.Address]] | None = None


def clean_url(text: str, reach: UrlContext) -> str:
    """The URL, with scheme and host in their plain form.

    Raises ValueError with a sentence for people.
    """
    if not text:
        raise ValueError("Give the URL to send to, such as https://erp.example.com/hooks.")
    if len(text) > MAX_URL:
        raise ValueError(f"The URL has {len(text):,} characters; at most {MAX_URL:,} are possible.")
    if "{{" in text or "{%" in text:
        raise ValueError(
            "The URL cannot hold Liquid; put it into a query parameter, a header or the body."
        )
    if _UNSAFE.search(text):
        raise ValueError(
            "The URL holds a space, tab, line break or invisible character; "
            "leave it out or write it percent-encoded, such as %20."
        )
    if "\\" in text:
        raise ValueError("The URL holds a backslash; use / in its place.")
    if "#" in text:
        raise ValueError("The URL holds a fragment (#…), which is never sent; leave it out.")
    found = _SHAPE.fullmatch(text)
    scheme = found[1].lower() if found else ""
    if found is None or scheme not in DEFAULT_PORTS or not found[2]:
        raise ValueError("The URL starts with https:// or http://; nothing else can be sent to.")
    host, port = _split(found[3])
    host = _clean_host(host)
    shown = f"[{host}]" if ":" in host else host
    clean = f"{scheme}://{shown}{'' if port is None else f':{port}'}{found[4]}"
    if not egress.is_inspector(clean, reach.inspect_url):
        _check_reach(host, DEFAULT_PORTS[scheme] if port is None else port, reach)
    if len(clean) > MAX_URL:
        raise ValueError(f"The URL in punycode is longer than {MAX_URL:,} characters.")
    return clean


def origin(url: str) -> tuple[str, str, int]:
    """The scheme, host and port of a URL from `clean_url`."""
    found = _SHAPE.fullmatch(url)
    assert found is not None
    host, port = _split(found[3])
    return found[1], host, DEFAULT_PORTS[found[1]] if port is None else port


def _split(netloc: str) -> tuple[str, int | None]:
    if "@" in netloc:
        raise ValueError(
            "The URL holds a user name or password; leave it out and send an Authorization header."
        )
    host, colon, port = netloc.rpartition(":")
    if not colon or "]" in port:
        host, colon, port = netloc, "", ""
    if not host:
        raise ValueError("The URL names no host, such as erp.example.com.")
    if not colon:
        return host, None
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65_535:
        raise ValueError(f"The URL's port {port[:20]!r} is not a number from 1 to 65535.")
    return host, int(port)


def _clean_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            # Without a zone, which names an interface of this machine and not a receiver.
            return str(ipaddress.IPv6Address("" if "%" in host else host[1:-1]))
        except ValueError:
            raise ValueError(f"The URL's host {host!r} is not an IPv6 address.") from None
    host = _plain_letters(host).removesuffix(".")
    labels = host.split(".")
    for label in labels:
        if len(label) > MAX_LABEL:
            raise ValueError(
                f"A part of the URL's host has {len(label)} characters; "
                f"at most {MAX_LABEL} are possible between two dots."
            )
        if not _LABEL.fullmatch(label):
            raise ValueError(
                "The URL's host is made of letters, digits and hyphens, with single dots between; "
                f"{label[:40]!r} is not."
            )
    if len(host) > MAX_HOST:
        raise ValueError(f"The URL's host has more than {MAX_HOST} characters.")
    if _NUMBER.fullmatch(labels[-1]):
        address = egress.literal(host)
        if address is None:
            raise ValueError(f"The URL's host {host!r} is neither a name nor an IP address.")
        return str(address)
    return host


def _plain_letters(host: str) -> str:
    try:
        return wire_name(host)
    except Lookalike as error:
        raise ValueError(
            "The URL's host holds letters that can be mistaken for others; "
            f"if you mean it, write it as {error.punycode}."
        ) from None
    except ValueError:
        raise ValueError(f"The URL's host {host[:80]!r} is not a name that can exist.") from None


def _check_reach(host: str, port: int, reach: UrlContext) -> None:
    literal = egress.literal(host)
    addresses = [] if literal is None else [literal]
    if literal is None and reach.resolve is not None:
        addresses = reach.resolve(host)
    if any((name, port) in reach.own for name in (host, *map(str, addresses))) or any(
        reach.is_own(address, port) for address in addresses
    ):
        raise ValueError(
            "The URL is the portal's own: it would send its requests to itself. "
            "Give the receiver's URL."
        )
    for address in addresses:
        kind = egress.refusal_here(address, reach.allow)
        if kind is None:
            continue
        where = f"{address} ({kind})" if literal else f"{host}, which is {address} ({kind}),"
        raise ValueError(
            f"The URL may not reach {where}: only public addresses can be sent to. "
            "An operator can admit a network with PORTAL_EGRESS_ALLOW."
        )
