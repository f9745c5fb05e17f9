"""The sign of life of workers that wait for deliveries, in Redis. (One that delivers has lanes, as
the database knows.)

It is sealed and stands under one name: whoever writes into Redis can take it away, until it is said
again in two seconds, and can neither make it nor hide it among others.
"""

from __future__ import annotations

import contextlib

from redis.exceptions import ResponseError
from rq.utils import as_text

from portal import queues, vault
from portal.clock import MILLISECOND, SECOND, now
from portal.redis_replies import UNREADABLE
from portal.redis_trouble import TROUBLE

SILENT = 90 * SECOND
"""Who has said nothing for so long is taken as gone."""
MOST_BYTES = 500
"""No sign is longer."""


def show() -> None:
    """Say that a worker waits for deliveries. Never raises for a Redis that is down, or whatever
    that answers."""
    with contextlib.suppress(*TROUBLE, *queues.NO_NAME):
        sign = vault.encrypt(str(now()))
        queues.client().set(queues.key("delivers"), sign, px=2 * SILENT // MILLISECOND)


def withdraw() -> None:
    """Say that a worker ended in order; another that waits says in a moment that it lives. Raises
    RedisError when Redis does not answer."""
    queues.client().delete(queues.key("delivers"))


def is_delivering() -> bool:
    """Whether a worker that waits for deliveries has shown life lately. Raises RedisError when
    Redis does not answer."""
    try:
        sealed = queues.client().getrange(queues.key("delivers"), 0, MOST_BYTES)
        return abs(int(vault.decrypt(as_text(sealed))) - now()) < SILENT
    except (ResponseError, vault.Unreadable, *UNREADABLE):
        return False
