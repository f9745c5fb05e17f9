"""How many requests a key may make, and how many wrong keys an address may try.

Counted in each web process by itself: a count in Redis would cost every event a round trip, and
all of them their time while Redis hangs. So a limit holds for each process; where there are
several, a key may get as many times more, and is never refused below what is promised.
Header fields are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import math
import time
from ipaddress import ip_address

from flask import Response, current_app, g, request

from portal.api.blueprint import bp
from portal.errors import TooManyRequests

KEY_SECONDS = 1
ADDRESS_SECONDS = 60
MOST_NAMES = 10_000
"""Names that are counted in one window; with more, counting begins again: memory is bounded, and
a limit fails open."""


class Window:
    """Counts by name, from 0 again every `seconds`. Threads may lose a count to each other; that
    is no harm to a limit, and a lock would be to the others."""

    def __init__(self, seconds: int):
        self.seconds = seconds
        self._number = -1
        self._counts: dict[str, int] = {}

    def add(self, name: str, clock: float) -> int:
        """Count one more at `clock` (seconds); how many there are now."""
        counts = self._at(clock)
        counts[name] = count = counts.get(name, 0) + 1
        return count

    def count(self, name: str, clock: float) -> int:
        """How many there are at `clock`."""
        return self._at(clock).get(name, 0)

    def left(self, clock: float) -> int:
        """Seconds until the window ends, rounded up."""
        return math.ceil(self.seconds - clock % self.seconds)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted in the latest window."""
        return not self._counts

    def forget(self) -> None:
        """Begin again."""
        self._counts = {}

    def _at(self, clock: float) -> dict[str, int]:
        number = int(clock // self.seconds)
        if number != self._number or len(self._counts) > MOST_NAMES:
            self._number, self._counts = number, {}
        return self._counts


by_key = Window(KEY_SECONDS)
wrong_keys = Window(ADDRESS_SECONDS)
_proven: set[int] = set()
"""Hashes of Authorization headers that were right in this process: the keys of a sender go on
working when someone behind the same address tries wrong ones."""


@bp.before_app_request
def refuse_guessing() -> None:
    """Before a key is looked up: nothing but keys that were right before, from an address that
    has sent too many wrong ones. Raises TooManyRequests."""
    if wrong_keys.is_empty or request.blueprint != "api":
        return
    clock = time.monotonic()
    most = current_app.config["PORTAL"].api_wrong_keys
    if not most or wrong_keys.count(_address(), clock) < most:
        return
    if hash(request.environ.get("HTTP_AUTHORIZATION", "")) not in _proven:
        raise TooManyRequests(
            f"{most} wrong keys came from this address within a minute. Check the key, and try "
            "again when Retry-After is over.", wrong_keys.left(clock),
        )


@bp.before_request
def count_request() -> None:
    """Count a request of a key. Raises TooManyRequests."""
    most = current_app.config["PORTAL"].api_requests
    key = g.get("key")
    if not most or key is None:
        return
    clock = time.monotonic()
    left = most - by_key.add(key.id, clock)
    g.counted = most, max(left, 0)
    if left < 0:
        raise TooManyRequests(
            f"This key has made {most:,} requests within a second. Send events in batches of up "
            "to 1,000, or more slowly.", by_key.left(clock),
        )


@bp.after_request
def tell_limits(response: Response) -> Response:
    """Count a wrong key, remember a right one, and tell how many requests are left."""
    if "key" not in g:
        if response.status_code == 401:
            wrong_keys.add(_address(), time.monotonic())
        return response
    proof = hash(request.environ.get("HTTP_AUTHORIZATION", ""))
    if proof not in _proven:
        if len(_proven) > MOST_NAMES:
            _proven.clear()
        _proven.add(proof)
    most, left = g.get("counted", (0, 0))
    if not most:
        return response
    response.headers["RateLimit-Policy"] = f'"key";q={most};w={KEY_SECONDS}'
    response.headers["RateLimit"] = f'"key";r={left};t={KEY_SECONDS}'
    return response


def _address() -> str:
    """Whom wrong keys are counted for: an IPv4 address, or the network of an IPv6 one (a host has
    2^64 of them)."""
    text = request.remote_addr or ""
    if ":" not in text:
        return text
    address = ip_address(text.partition("%")[0])
    return str(int(address) >> 64)


def forget() -> None:
    """Begin again, as a new process would."""
    by_key.forget()
    wrong_keys.forget()
    _proven.clear()
