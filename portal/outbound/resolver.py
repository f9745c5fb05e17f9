"""The addresses of a host name, in bounded time: a form does not wait for a slow resolver."""

from __future__ import annotations

import ipaddress
import threading

from portal.outbound import names
from portal.outbound.egress import Address

WAIT_SECONDS = 2.0


def addresses_of(host: str, merchant_id: int, wait_seconds: float = WAIT_SECONDS) -> list[Address]:
    """Every address that a name has now; none when it has none, or takes longer than that behind
    other names of its merchant.

    Good enough to refuse a name at save. What counts is the address at the moment of
    connecting, which portal.outbound.transport checks.
    """
    found: list[str] = []
    is_told = threading.Event()

    def tell(addresses: list[str]) -> None:
        found.extend(addresses)
        is_told.set()

    ask = names.look_ups.ask(host, merchant_id, tell)
    if not is_told.wait(wait_seconds):
        names.look_ups.leave(ask)
    return [ipaddress.ip_address(address) for address in found]
