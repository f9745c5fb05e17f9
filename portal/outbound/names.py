"""Look-ups of names, outside of libcurl: its own few threads are everybody's, and names whose
servers never answer hold them for as long as the system's resolver tries.

It is the system's resolver that is asked, so /etc/hosts, search domains and nsswitch hold. That
takes no deadline: whoever waits may leave, and a look-up keeps its slot until it has ended.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

from requests.utils import requote_uri

from portal.addresses import DEFAULT_PORTS
from portal.outbound import egress

MOST = 48
"""Names that a process looks up at once, each with two threads."""
SHARE = 4
"""A merchant may begin another one while its own are less than a quarter of the slots that are
free: ten alone, and somebody else finds some, however many names of others hang."""
MOST_ADDRESSES = 16
"""Addresses of a name that are used. It may have thousands, and where each is refused at once, by
the guard or by the machine itself, libcurl tries all of them before anybody else has a turn."""
NONE_SECONDS = 4.0
"""How long it is known that a name has no address: less than the 5 s after which the schedule tries
again."""
JOIN_SECONDS = 1.0
"""How old a look-up may be for another request to wait for it too. One that takes longer may have
asked a server that was away then, and is back."""
IPV6_SECONDS = 0.05
"""How much longer than for IPv4 addresses alone it is waited for all of a name's (RFC 8305, 3):
some name servers never answer whether it has others."""

_NAME = re.compile(r"[a-z0-9_.-]{1,254}")


def plain(url: str) -> str:
    """A URL with its address in the plain form, where it spells one: what is an address, and which,
    is the guard's to say and not libcurl's, which reads some spellings and has others looked up."""
    if not url.isascii():
        # Those of looks and token endpoints are as people wrote them.
        url = requote_uri(url)
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        address = egress.literal(parts.hostname or "")
        if address is not None:
            user, at, host_and_port = parts.netloc.rpartition("@")
            _, colon, port = host_and_port.rpartition(":")
            host = f"[{address}]" if address.version == 6 else str(address)
            host_and_port = f"{host}:{port}" if colon and "]" not in port else host
            if host_and_port != parts.netloc:
                return url.replace(parts.netloc, f"{user}{at}{host_and_port}", 1)
    return url


def named_in(url: str) -> tuple[str, int] | None:
    """The name and the port of a URL whose addresses have to be looked up; None where libcurl knows
    them by itself: of an address, which it gets in its `plain` form, and of this machine (RFC 6761,
    6.3).

    The name is empty where the URL holds none that could be looked up.
    """
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
    except (KeyError, ValueError):
        return "", 0
    if egress.literal(name) is not None or f".{name}".endswith(".localhost"):
        return None
    return name if _NAME.fullmatch(name) else "", port


@dataclass(slots=True, eq=False)
class Ask:
    """Somebody who waits for a name's addresses, on behalf of a merchant (None: of nobody)."""

    name: str
    whose: int | None
    tell: Callable[[list[str]], None]


@dataclass(slots=True, eq=False)
class _LookUp:
    name: str
    whose: int | None
    asks: set[Ask]
    began_at: float = field(default_factory=time.monotonic)
    ipv4: list[str] = field(default_factory=list)
    is_told: threading.Event = field(default_factory=threading.Event)


class Names:
    """The look-ups of a process; for any thread. `most` names are looked up at once, by asking for
    the `addresses` of a name in a family."""

    def __init__(self, most: int = MOST, addresses: Callable[[str, int], list[str]] | None = None):
        self._addresses = addresses or look_up_here
        self._mutex = threading.Lock()
        self._free = most
        self._taken: Counter[int | None] = Counter()
        self._newest: dict[str, _LookUp] = {}
        self._waiting: dict[str, set[Ask]] = {}
        """By names that nobody looks up yet."""
        self._turns: dict[int | None, dict[str, None]] = {}
        """These names by merchant, in the order in which they were asked for."""
        self._none: dict[str, float] = {}
        """Names without an address, and until when that is known."""

    def ask(self, name: str, whose: int | None, tell: Callable[[list[str]], None]) -> Ask:
        """Have a name looked up. `tell` gets its addresses, in the order in which to try them, or
        none where it has none; in some thread, and briefly."""
        ask = Ask(name, whose, tell)
        with self._mutex:
            if not name or self._has_none(name):
                tell([])
                return ask
            look_up = self._newest.get(name)
            if look_up is not None and time.monotonic() - look_up.began_at < JOIN_SECONDS:
                look_up.asks.add(ask)
            else:
                self._waiting.setdefault(name, set()).add(ask)
                self._turns.setdefault(whose, {})[name] = None
                self._begin_some()
        return ask

    def leave(self, ask: Ask) -> None:
        """Wait no longer; nothing is told from now on."""
        with self._mutex:
            ask.tell = _nobody
            asks = self._waiting.get(ask.name, set())
            asks.discard(ask)
            if not any(other.whose == ask.whose for other in asks):
                self._forget_turn(ask.whose, ask.name)
            if not asks:
                self._waiting.pop(ask.name, None)

    def _has_none(self, name: str) -> bool:
        moment = time.monotonic()
        while self._none and self._none[next(iter(self._none))] <= moment:
            del self._none[next(iter(self._none))]
        return moment < self._none.get(name, 0.0)

    def _begin_some(self) -> None:
        for whose in sorted(self._turns, key=self._taken.__getitem__):
            while names := self._turns.get(whose):
                if SHARE * self._taken[whose] >= self._free:
                    break
                self._begin(next(iter(names)), whose)

    def _begin(self, name: str, whose: int | None) -> None:
        look_up = self._newest[name] = _LookUp(name, whose, self._no_longer_waiting(name))
        self._free -= 1
        self._taken[whose] += 1
        try:
            _in_thread(lambda: self._perform(look_up))
        except RuntimeError:
            # The system gives no more threads.
            self._told(look_up, [])
            self._give_back(look_up)

    def _no_longer_waiting(self, name: str) -> set[Ask]:
        asks = self._waiting.pop(name, set())
        for ask in asks:
            self._forget_turn(ask.whose, name)
        return asks

    def _forget_turn(self, whose: int | None, name: str) -> None:
        names = self._turns.get(whose, {})
        names.pop(name, None)
        if not names:
            self._turns.pop(whose, None)

    def _perform(self, look_up: _LookUp) -> None:
        found: list[str] = []
        beside = None
        try:
            if has_ipv6():
                with contextlib.suppress(RuntimeError):
                    beside = _in_thread(lambda: self._perform_ipv4(look_up))
            family = socket.AF_UNSPEC if has_ipv6() else socket.AF_INET
            found = self._addresses(look_up.name, family)
            if not found and beside is not None:
                beside.join()
                found = look_up.ipv4
        finally:
            with self._mutex:
                self._told(look_up, found)
            if beside is not None:
                beside.join()
            with self._mutex:
                self._give_back(look_up)
                self._begin_some()

    def _perform_ipv4(self, look_up: _LookUp) -> None:
        look_up.ipv4 = self._addresses(look_up.name, socket.AF_INET)
        if look_up.ipv4 and not look_up.is_told.wait(IPV6_SECONDS):
            with self._mutex:
                self._told(look_up, look_up.ipv4)

    def _told(self, look_up: _LookUp, found: list[str]) -> None:
        if look_up.is_told.is_set():
            return
        look_up.is_told.set()
        if self._newest.get(look_up.name) is look_up:
            del self._newest[look_up.name]
        if not found:
            self._none.pop(look_up.name, None)
            self._none[look_up.name] = time.monotonic() + NONE_SECONDS
        for ask in look_up.asks | self._no_longer_waiting(look_up.name):
            ask.tell(found)

    def _give_back(self, look_up: _LookUp) -> None:
        self._free += 1
        self._taken[look_up.whose] -= 1
        if not self._taken[look_up.whose]:
            del self._taken[look_up.whose]


def _nobody(_addresses: list[str]) -> None:
    pass


def _in_thread(target: Callable[[], object]) -> threading.Thread:
    # No process waits for it at its end.
    thread = threading.Thread(target=target, name="look-up", daemon=True)
    thread.start()
    return thread


def look_up_here(name: str, family: int) -> list[str]:
    """The addresses of a name as this machine looks it up, a few of them; none where it has none.
    `family` is one of socket.AF_INET and its like."""
    # As bytes, for text Python would turn into another name first.
    try:
        found = socket.getaddrinfo(name.encode(), None, family, socket.SOCK_STREAM)
    except (OSError, ValueError):
        return []
    unique = dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found)
    return list(unique)[:MOST_ADDRESSES]


@cache
def has_ipv6() -> bool:
    """Whether this machine can use IPv6 at all."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True


look_ups = Names()
"""Those of this process, whoever sends: a transport needs no application."""
