"""How often a drain does each thing, and how long it waits for what."""

from __future__ import annotations

from dataclasses import dataclass

from portal.outbound.transport import AT_ONCE_SECONDS


@dataclass(frozen=True, slots=True)
class Paces:
    """The paces of a drain and of all that it makes. What ends in `_seconds` is in seconds, of this
    process's clock; the two others are numbers without a unit."""

    poll_seconds: float = 0.5
    """How often it looks for what is due, whether it was called or not."""
    adopt_seconds: float = 0.2
    """How often it looks for lanes that nobody owns; the longest that it waits at a time."""
    linger_seconds: float = 8.0
    """How long it keeps its lanes while it has nothing to do, listening for more."""
    keep_alive_seconds: float = 20.0
    """How often it tells RQ that it lives."""
    heartbeat_seconds: float = 2.5
    """How often it renews the leases of its lanes (lanes.LEASE)."""
    probe_seconds: float = 0.1
    """How often it looks after held webhooks."""
    record_seconds: float = 0.05
    """How long the oldest result waits for others that are written with it."""
    away_seconds: float = 0.2
    """How long it waits before it asks a database again that is away."""
    defect_rest_seconds: float = 3.0
    """How long nobody takes its lanes after a defect: it may come again, and each time what cannot
    be recorded is sent once more."""

    slice_seconds: float = 0.005
    """How long it reads before it starts requests, and how long it starts some before it looks
    after sockets."""
    sockets_seconds: float = AT_ONCE_SECONDS
    """How long it looks after sockets before it reads again."""
    short_slice_seconds: float = 0.0015
    """The same, for each of the three, where some merchants are heavy beside others: who has little
    waits for no more of who has much."""
    read_rests: float = 4.0
    """How many times as long as a search took nobody reads for its merchant again, if it found
    nothing, or chose a probe: what waits behind others is looked through again whenever anything is
    called for, and what a held webhook is probed with is chosen among thousands, again and again.
    Held webhooks and others of a merchant rest each by themselves. A read that has nothing to
    search through (Line.searches) costs as little each time."""
    unnoticed_seconds: float = 0.001
    """What a read may take without such a rest."""

    offer_seconds: float = 1.0
    """How often it looks whether another worker has nothing to do, or says that it has nothing
    itself."""
    offer_again_seconds: float = 30.0
    """How often it says so where Redis does not answer."""
    busy_share: float = 0.7
    """The part of its time that it works and does not wait for receivers, from which on another
    worker would be of use."""
    hand_over_seconds: float = 2.0
    """How long a lane that is to be handed over may wait for its requests in flight."""
    take_back_seconds: float = 1.0
    """How long a lane that was handed over is left to others."""
    keep_seconds: float = 60.0
    """How long one that could not be handed over is kept."""
    redis_quiet_seconds: float = 30.0
    """How long at most a Redis is left alone that has not answered several times."""


PACES = Paces()
"""Those of a drain in service."""
