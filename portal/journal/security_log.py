"""What a break-in that is being tried leaves in the log: a line that programs can read.

    … WARNING portal.security: sign_in_refused from 203.0.113.7 (12)

The words and their order are stable (docs/operators.md); nothing that was typed is in them.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal, get_args

from flask import Response, has_request_context, request

from portal.addresses import address_in, network_of

Kind = Literal[
    "sign_in_refused",
    "second_factor_refused",
    "password_refused",
    "limit_reached",
    "api_key_refused",
    "form_token_refused",
    "host_refused",
]
KINDS: tuple[str, ...] = get_args(Kind)
SECONDS = 10.0
"""How often there is a line of one kind and address."""
MOST_ADDRESSES = 500
"""Kinds and addresses that are told apart at a time; what comes from more is counted together, so
that an attack from everywhere fills neither memory nor log."""
MANY = "many addresses"

_OF_STATUS: dict[int, Kind] = {421: "host_refused", 429: "limit_reached"}

_log = logging.getLogger("portal.security")


@dataclass
class _Said:
    at: float
    address: str
    """The last one."""
    more: int = 0


class SecurityLog:
    """Says a thing at once, and then at most every `seconds` how often it came since."""

    def __init__(self, seconds: float = SECONDS):
        self._seconds = seconds
        self._said: dict[tuple[str, str], _Said] = {}
        self._mutex = threading.Lock()
        self._looks_at = 0.0

    def note(self, kind: Kind, address: str, network: str = "") -> None:
        """Count one of this kind from an address, with all of its network where one is given."""
        with self._mutex:
            moment = time.monotonic()
            if moment > self._looks_at + self._seconds:
                # A fork leaves the timer behind that would have looked.
                self._said.clear()
                self._look_later()
            key = (kind, network or address)
            if key not in self._said and len(self._said) >= MOST_ADDRESSES:
                key, address = (kind, MANY), MANY
            said = self._said.get(key)
            if said is not None:
                said.more += 1
                said.address = address
                return
            self._said[key] = _Said(moment, address)
        self._say(kind, address, 1)

    def _look_later(self) -> None:
        pause = self._seconds / 5
        self._looks_at = time.monotonic() + pause
        timer = threading.Timer(pause, self._look)
        timer.daemon = True
        timer.start()

    def _look(self) -> None:
        """Say what is due, and forget whom nothing more came from."""
        counts = []
        with self._mutex:
            moment = time.monotonic()
            for key, said in list(self._said.items()):
                if moment - said.at < self._seconds:
                    continue
                if said.more:
                    counts.append((key[0], said.address, said.more))
                    self._said[key] = _Said(moment, said.address)
                else:
                    del self._said[key]
            if self._said:
                self._look_later()
            else:
                self._looks_at = 0.0
        for kind, address, count in counts:
            self._say(kind, address, count)

    def _say(self, kind: str, address: str, count: int) -> None:
        _log.warning("%s from %s (%d)", kind, address, count)


_security_log = SecurityLog()
"""That of this process, as its log is."""


def note(kind: Kind) -> None:
    """Count one of this kind from the address of the request; nothing outside of one."""
    if has_request_context():
        note_of(kind, request.remote_addr or "")


def note_of(kind: Kind, address: str) -> None:
    """Count one of this kind from an address or a network, before there is a request."""
    # Else one host of IPv6 would have a line for each of its addresses.
    shown = _readable(address)
    _security_log.note(kind, shown, network_of(shown))


def note_answer(response: Response) -> Response:
    """Count a limit that was reached, and a name that is not the portal's. An inspector answers
    what its merchant chose, which says nothing."""
    kind = _OF_STATUS.get(response.status_code)
    if kind is not None and request.blueprint != "inspected":
        note(kind)
    return response


def _readable(address: str) -> str:
    found = address_in(address)
    if found is not None:
        return str(found)
    try:
        return str(ip_network(address))
    except ValueError:
        # What a proxy that is not there is said to have passed on may be any text.
        return "an unreadable address"
