"""How many requests a key may make, how many events and deliveries a merchant may bring about, and
how many wrong keys an address may try.

Counted in each web process by itself: a count in Redis would cost every event a round trip, and
all of them their time while Redis hangs. So a limit holds for each process; where there are
several, a key may get as many times more, and is never refused below what is promised.
Header fields are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import math
import time

from flask import Response, current_app, g, request

from portal import runtime
from portal.addresses import network_of, site_of
from portal.api.blueprint import bp
from portal.errors import TooManyRequests
from portal.web import access
from portal.web.access import handed
from portal.web.extensions import SITE_TIMES, sender_network, sender_site

KEY_SECONDS = 1
EVENT_BYTES = 4_096
"""Of a body count as an event."""
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

    def _at(self, clock: float) -> dict[str, int]:
        number = int(clock // self.seconds)
        if number != self._number or len(self._counts) > MOST_NAMES:
            self._number, self._counts = number, {}
        return self._counts


class Debts:
    """What each owner, a merchant or a user, owes and pays off by so much a second. Whoever owes
    nothing may run into debt as far as they like, by one large batch; and then waits."""

    def __init__(self) -> None:
        self._owed: dict[int, tuple[float, float]] = {}
        """The debt and the moment at which it was that, by owner."""

    def add(self, owner: int, amount: float, per_second: int, clock: float) -> None:
        """Owe more at `clock` (seconds)."""
        if len(self._owed) > MOST_NAMES:
            self._owed.clear()
        # What was not used within the last second may be used now.
        left = max(self.seconds(owner, per_second, clock) * per_second, -float(per_second))
        self._owed[owner] = left + amount, clock

    def seconds(self, owner: int, per_second: int, clock: float) -> float:
        """In how many seconds the debt is paid off; less than nothing for who has none."""
        owed, then = self._owed.get(owner, (-float(per_second), clock))
        return owed / per_second - (clock - then)


class Limits:
    """What one process has counted."""

    def __init__(self) -> None:
        self.by_key = Window(KEY_SECONDS)
        self.wrong_keys = Window(ADDRESS_SECONDS)
        self.site_wrong_keys = Window(ADDRESS_SECONDS)
        """Those of all networks of a site together."""
        self.events, self.deliveries = Debts(), Debts()
        self.proven: set[int] = set()
        """Hashes of keys that were right: the keys of a sender go on working when someone behind
        the same address tries wrong ones."""


@bp.before_app_request
def refuse_guessing() -> None:
    """Before a key is looked up: nothing but keys that were right before, from an address that
    has sent too many wrong ones. Raises TooManyRequests."""
    if request.blueprint != "api" or not is_guessing(request.remote_addr or ""):
        return
    own = runtime.part(Limits)
    if _proof(request.environ.get("HTTP_AUTHORIZATION", "")) not in own.proven:
        raise TooManyRequests(
            f"{current_app.config['PORTAL'].api_wrong_keys} wrong keys came from this address "
            "within a minute. Check the key, and try again when Retry-After is over.",
            own.wrong_keys.left(time.monotonic()),
        )


def is_guessing(address: str) -> bool:
    """Whether an address has sent as many wrong keys as it may, of late."""
    most: int = current_app.config["PORTAL"].api_wrong_keys
    own = runtime.part(Limits)
    if own.wrong_keys.is_empty or not most:
        return False
    clock = time.monotonic()
    return (
        own.wrong_keys.count(network_of(address), clock) >= most
        or own.site_wrong_keys.count(site_of(address), clock) >= most * SITE_TIMES
    )


@bp.before_request
def count_request() -> None:
    """Count a request of a key. Raises TooManyRequests, and what it was refused for before."""
    key, before = g.get("key"), handed()
    if before.error is not None:
        g.counted = before.counted
        raise before.error
    if key is not None:
        g.counted = count(key.id)
        if g.counted and g.counted[1] < 0:
            raise too_many()


def count(key_id: str) -> tuple[int, int] | None:
    """Count a request of a key: how many it may make, and how many of these are left, less than
    none where this is one too many. None where it may make any number."""
    most: int = current_app.config["PORTAL"].api_requests
    if not most:
        return None
    return most, most - runtime.part(Limits).by_key.add(key_id, time.monotonic())


def too_many() -> TooManyRequests:
    """What a key's request is refused with that is one too many."""
    most = current_app.config["PORTAL"].api_requests
    return TooManyRequests(
        f"This key has made {most:,} requests within a second. Send events in batches of up "
        "to 1,000, or more slowly.",
        runtime.part(Limits).by_key.left(time.monotonic()),
    )


def admit_events(merchant_id: int, size: int) -> None:
    """Before events of a merchant are read, and counted by the size of their body (bytes): so those
    that come at the same moment have been counted too. Raises TooManyRequests where there were more
    than the merchant's limits allow."""
    config, clock = current_app.config["PORTAL"], time.monotonic()
    own = runtime.part(Limits)
    for debts, most, what in (
        (own.events, config.api_events, "This store has sent more than {:,} events a second."),
        (
            own.deliveries,
            config.api_deliveries,
            "The events of this store have owed more than {:,} deliveries a second.",
        ),
    ):
        seconds = debts.seconds(merchant_id, most, clock) if most else 0
        if seconds > 0:
            raise TooManyRequests(
                f"{what.format(most)} Try again when Retry-After is over.", math.ceil(seconds)
            )
    count_events(merchant_id, size / EVENT_BYTES)


def count_events(merchant_id: int, number: float) -> None:
    """Count so many events of a merchant."""
    if most := current_app.config["PORTAL"].api_events:
        runtime.part(Limits).events.add(merchant_id, number, most, time.monotonic())


def count_deliveries(merchant_id: int, number: int) -> None:
    """Count so many deliveries that events of a merchant owe."""
    if most := current_app.config["PORTAL"].api_deliveries:
        runtime.part(Limits).deliveries.add(merchant_id, number, most, time.monotonic())


@bp.after_request
def tell_limits(response: Response) -> Response:
    """Count a wrong key, remember a right one, and tell how many requests are left."""
    if "key" not in g:
        if response.status_code == 401:
            own = runtime.part(Limits)
            own.wrong_keys.add(sender_network(), time.monotonic())
            own.site_wrong_keys.add(sender_site(), time.monotonic())
            # It may have been revoked.
            own.proven.discard(_proof(request.environ.get("HTTP_AUTHORIZATION", "")))
        return response
    prove(request.environ.get("HTTP_AUTHORIZATION", ""))
    response.headers.update(headers_of(g.get("counted")))
    return response


def prove(authorization: str) -> None:
    """Remember the key of a header that was right."""
    proof, proven = _proof(authorization), runtime.part(Limits).proven
    if proof not in proven:
        if len(proven) > MOST_NAMES:
            proven.clear()
        proven.add(proof)


def _proof(authorization: str) -> int:
    # However the header is written: one key would fill it.
    return hash(access.key_in(authorization))


def headers_of(counted: tuple[int, int] | None) -> list[tuple[str, str]]:
    """What an answer tells of a key's limit (count)."""
    if counted is None:
        return []
    most, left = counted
    return [
        ("RateLimit-Policy", f'"key";q={most};w={KEY_SECONDS}'),
        ("RateLimit", f'"key";r={max(left, 0)};t={KEY_SECONDS}'),
    ]
