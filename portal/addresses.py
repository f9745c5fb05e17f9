"""Names of hosts and e-mail addresses as people type them, and as they go over the wire; the
networks that requests come from. Pure.

Letters with marks (`müller.example`) become punycode; other scripts hold letters that look like
a–z, so such a name is refused with its punycode in the message: who means it can give that, and
everyone sees what it is.
"""

from __future__ import annotations

import re
import string
import unicodedata
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

import idna

MAX_EMAIL = 254
DEFAULT_PORTS = {"http": 80, "https": 443}
"""By the scheme of a URL that names none."""
_LATIN = frozenset(string.ascii_lowercase + string.digits + "-._ßæøœðþłđ")
# "Valid email address" of the HTML standard, so that browsers and the portal agree.
_EMAIL = re.compile(
    r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)

_WITH_PORT = re.compile(r"([0-9.]+):[0-9]+|\[([^\]]+)\](?::[0-9]+)?")


class Lookalike(ValueError):
    """A name with letters that can be mistaken for others; `punycode` is how to write it."""

    def __init__(self, punycode: str):
        super().__init__(punycode)
        self.punycode = punycode


def wire_name(host: str) -> str:
    """A host's name in the form that goes over the wire: lower case, punycode for letters with
    marks (UTS 46, IDNA 2008). Raises Lookalike, and ValueError for a name that cannot exist."""
    if host.isascii():
        return host.lower()
    try:
        mapped = idna.uts46_remap(host, std3_rules=False, transitional=False)
        punycode = idna.encode(mapped).decode() if not mapped.isascii() else mapped
    except (idna.IDNAError, UnicodeError):
        raise ValueError(f"{host[:80]!r} is not a name that can exist") from None
    if any(unicodedata.normalize("NFD", letter)[0] not in _LATIN for letter in mapped):
        raise Lookalike(punycode)
    return punycode


@lru_cache(maxsize=1_024)
def network_of(address: str) -> str:
    """Whom a limit counts for that counts by IP addresses: an IPv4 address alone, the /64 of an
    IPv6 one (a host has 2^64 of them, RFC 6177); what is no address, such as "", as it is. A port
    that a proxy writes behind it, as gateways of Azure do, is another one for each connection."""
    return _part_of(address, 64)


@lru_cache(maxsize=1_024)
def site_of(address: str) -> str:
    """Whom a share counts for that no number of networks makes larger: as network_of, and of IPv6
    the /48, up to which one site may have networks (RFC 6177: 65,536 of them)."""
    return _part_of(address, 48)


def address_in(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a server or a proxy has written, with a port or without, also where an IPv4
    one is written as one of IPv6; None for what is none."""
    with_port = _WITH_PORT.fullmatch(text)
    host = with_port[1] or with_port[2] if with_port else text
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


def _part_of(address: str, bits: int) -> str:
    found = address_in(address)
    if found is None:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    return f"{IPv6Address(int(found) >> 128 - bits << 128 - bits)}/{bits}"


def clean_email(email: str) -> str:
    """The form in which addresses are kept, compared and sent to: lower case, the domain as it goes
    over the wire. What has no such form stays as it is, and `email_fault` says why."""
    local, at, domain = email.strip().lower().rpartition("@")
    try:
        return f"{local}{at}{wire_name(domain)}"
    except ValueError:
        return f"{local}{at}{domain}"


def email_fault(email: str) -> str | None:
    """What is wrong with an address that `clean_email` gave, as a sentence with the remedy; None
    when it is one. It may be one without a dot (root@localhost)."""
    # What mail programs take for an encoded word (RFC 2047) would be another address to them.
    if len(email) <= MAX_EMAIL and _EMAIL.fullmatch(email) and "=?" not in email:
        return None
    local, at, domain = email.rpartition("@")
    if at and local and len(email) <= MAX_EMAIL:
        try:
            wire_name(domain)
        except Lookalike as error:
            return (
                "The domain of this address holds letters that can be mistaken for others; "
                f"if you mean it, write it as {error.punycode}."
            )
        except ValueError:
            return f"The domain {domain[:80]!r} is not a name that can exist; correct it."
        if not local.isascii():
            return (
                "The part before the @ holds letters beyond a–z, which most mail servers refuse; "
                "give an address without."
            )
    return "Give an e-mail address such as ann@example.com."
