"""Which addresses webhooks may reach: an address in, a reason for refusal out. Pure, but for the
kernel, which is asked whether an address is this machine's own.

Asked at save where it can be decided, and always in the socket callback just before connecting,
with the very address the kernel gets: a name that changes its answer cannot pass.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Nat64:
    """A prefix by which this network reaches IPv4 addresses (RFC 6052): behind it everything
    looks public, and it is the address within that is reached."""

    prefix: ipaddress.IPv6Network

    def carried(self, address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
        """The IPv4 address in one that has the prefix; None in one that is not made so."""
        length, bits = self.prefix.prefixlen, int(address)
        if length == 96:
            return ipaddress.IPv4Address(bits & 0xFFFF_FFFF)
        # Bits 64 to 71 are left out, and zero (2.2).
        if bits >> 56 & 0xFF:
            return None
        joined = bits >> 64 << 56 | bits & (1 << 56) - 1
        return ipaddress.IPv4Address(joined >> 120 - length - 32 & 0xFFFF_FFFF)


Admitted = Network | Nat64
"""What may be reached beside public addresses, or on the way to them."""

_V4 = {
    "this network": ["0.0.0.0/8"],
    "loopback": ["127.0.0.0/8"],
    "private": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
    "carrier-grade NAT": ["100.64.0.0/10"],
    "link-local": ["169.254.0.0/16"],
    "reserved": [
        "192.0.0.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
    ],
    "documentation": ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"],
    "multicast": ["224.0.0.0/4"],
}
_V6 = {
    "loopback": ["::1/128"],
    "unspecified": ["::/128"],
    "IPv4-mapped": ["::ffff:0:0/96", "::ffff:0:0:0/96"],
    "IPv4-compatible": ["::/96"],
    "NAT64": ["64:ff9b::/96", "64:ff9b:1::/48"],
    "discard": ["100::/64", "100:0:0:1::/64"],
    "reserved": ["2001::/23", "5f00::/16"],
    "documentation": ["2001:db8::/32", "3fff::/20"],
    "6to4": ["2002::/16"],
    "unique-local": ["fc00::/7"],
    "link-local": ["fe80::/10"],
    "site-local": ["fec0::/10"],
    "multicast": ["ff00::/8"],
}
_REFUSED: dict[int, list[tuple[Network, str]]] = {
    version: [(ipaddress.ip_network(text), kind) for kind, texts in table.items() for text in texts]
    for version, table in ((4, _V4), (6, _V6))
}
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254")
)

_NUMBER = re.compile("[0-9]+|0x[0-9a-f]*")
_INSPECTOR = re.compile(r"[A-Za-z0-9_-]{43}(\?[!-~]*)?")
OWN_MACHINE = "the portal's own machine"
_OWN_NETWORK = ("loopback", "private", "unique-local")
"""Where the portal itself may stand."""


def admitted(
    networks: Sequence[Network], prefixes: Sequence[ipaddress.IPv6Network]
) -> tuple[Admitted, ...]:
    """What PORTAL_EGRESS_ALLOW and PORTAL_NAT64_PREFIXES admit together: what each request of the
    portal is held against."""
    return (*networks, *map(Nat64, prefixes))


def is_inspector(url: str, inspect_url: str | None) -> bool:
    """Whether a URL is an inspector of the portal: `inspect_url` (Config.inspect_url: its own
    origin and `/inspect/`) to the letter, a token, and at most a query.

    No other path, encoding, port or user info passes, since all that could say so is fixed.
    """
    if not inspect_url:
        return False
    return url.startswith(inspect_url) and bool(_INSPECTOR.fullmatch(url, len(inspect_url)))


def inspector_refusal(address: Address, allow: Sequence[Admitted] = ()) -> str | None:
    """The same as `refusal` for a request to an inspector: the operator's own setting names the
    host, which may be this machine or stand in its network."""
    kind = refusal(address, allow)
    return None if kind in _OWN_NETWORK else kind


def refusal(address: Address, allow: Sequence[Admitted] = ()) -> str | None:
    """What kind of address it is when webhooks may not reach it, such as `loopback`; None when
    they may.

    `allow` admits its networks (PORTAL_EGRESS_ALLOW); a cloud's metadata address only when a
    network of that single address is named. An IPv6 address that carries an IPv4 one (mapped,
    compatible, NAT64, 6to4, Teredo) is refused whatever it carries: no public receiver needs it.
    One with a Nat64 prefix of `allow` (PORTAL_NAT64_PREFIXES) is what the address within is,
    whatever else is admitted.
    """
    return _refusal(address, tuple(allow))


@lru_cache(maxsize=4_096)
def _refusal(address: Address, allow: tuple[Admitted, ...]) -> str | None:
    if carriers := _carriers(address, allow):
        return _by_nat64(address, carriers, lambda within: _refusal(within, allow))
    for network in _networks(allow):
        if network.version == address.version and address in network:
            if address not in _METADATA or network.num_addresses == 1:
                return None
            return "cloud metadata"
    if address in _METADATA:
        return "cloud metadata"
    for network, kind in _REFUSED[address.version]:
        if address in network:
            return kind
    if address.version == 6 and address not in _GLOBAL_V6:
        return "reserved"
    return None


def refusal_here(address: Address, allow: Sequence[Admitted] = ()) -> str | None:
    """The same as `refusal`, for public addresses of this machine too: what goes to one of its own
    comes from inside, and passes a firewall before all that listens here. `allow` admits them."""
    if carriers := _carriers(address, allow):
        return _by_nat64(address, carriers, lambda within: refusal_here(within, allow))
    kind = refusal(address, allow)
    if kind is None and not _is_in(address, allow) and is_of_this_machine(address):
        return OWN_MACHINE
    return kind


def is_of_this_machine(address: Address) -> bool:
    """Whether an address is one of this machine's own. It is the kernel that knows: what goes to
    one comes from the same. Nothing is sent."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))
        return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == address
    return False


def _carriers(address: Address, allow: Sequence[Admitted]) -> list[Nat64]:
    return [one for one in allow if isinstance(one, Nat64) and address in one.prefix]


def _by_nat64(
    address: Address,
    carriers: Sequence[Nat64],
    refused: Callable[[ipaddress.IPv4Address], str | None],
) -> str | None:
    """What is reached behind each of the prefixes, of which the first that may not be tells."""
    for one in carriers:
        carried = one.carried(ipaddress.IPv6Address(int(address)))
        kind = "NAT64" if carried is None else refused(carried)
        if kind is not None:
            return kind if carried is None else f"{kind}, {carried} by NAT64"
    return None


def _is_in(address: Address, allow: Sequence[Admitted]) -> bool:
    return any(one.version == address.version and address in one for one in _networks(allow))


def _networks(allow: Sequence[Admitted]) -> list[Network]:
    return [one for one in allow if not isinstance(one, Nat64)]


def literal(host: str) -> Address | None:
    """The IP address that a URL's host spells out, in any spelling that a resolver would take
    (dotted, decimal, octal, hex, short, bracketed); None for a name."""
    text = host.strip("[]").rstrip(".")
    if ":" in text:
        text = text.partition("%")[0]
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return _inet_aton(text)


def _inet_aton(text: str) -> Address | None:
    """IPv4 as inet_aton(3) reads it: one to four numbers, each decimal, octal or hex."""
    parts = text.lower().split(".")
    # int() takes more: signs, spaces, underscores, digits of other scripts.
    if len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)):
        return None
    numbers = []
    for part in parts:
        try:
            if part.startswith("0x"):
                numbers.append(int(part[2:] or "0", 16))
            elif part.startswith("0") and part != "0":
                numbers.append(int(part, 8))
            else:
                numbers.append(int(part, 10))
        except ValueError:
            return None
    *heads, last = numbers
    if any(not 0 <= number <= 255 for number in heads) or not 0 <= last < 256 ** (4 - len(heads)):
        return None
    value = sum(number << (24 - 8 * index) for index, number in enumerate(heads)) + last
    return ipaddress.IPv4Address(value)
