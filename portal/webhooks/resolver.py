"""The addresses of a host name, in bounded time: a form does not wait for a slow resolver."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading

from portal.delivery.egress import Address

WAIT_SECONDS = 2.0
MAX_LOOKUPS = 8
"""Lookups under way at once in this process; a resolver that hangs costs no more threads."""

_places = threading.BoundedSemaphore(MAX_LOOKUPS)


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


def addresses_of(host: str, wait_seconds: float = WAIT_SECONDS) -> list[Address]:
    """Every address that a name has now; none when it has none or takes longer than that.

    Good enough to refuse a name at save. What counts is the address at the moment of
    connecting, which portal.delivery.transport checks.
    """
    if not _places.acquire(blocking=False):
        return []
    found: list[Address] = []

    def look_up() -> None:
        try:
            for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
                found.append(ipaddress.ip_address(str(address[0]).split("%")[0]))
        except (OSError, UnicodeError, ValueError):
            found.clear()
        finally:
            _places.release()

    # getaddrinfo(3) takes no deadline, so the thread is left behind and ends by itself.
    thread = threading.Thread(target=look_up, name="look-up", daemon=True)
    thread.start()
    thread.join(wait_seconds)
    return [] if thread.is_alive() else found
