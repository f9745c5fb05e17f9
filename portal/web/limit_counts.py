"""Where tries are counted that are limited (portal.web.extensions): in Redis, for all processes
together, and in each process by itself.

The higher count holds. So a limit holds in each process also where Redis is away or is wiped, and
where somebody else writes into it. Who does can raise a count there, though not for longer than
the limit's own time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from limits.storage import RedisStorage
from redis.exceptions import ResponseError

from portal.redis_replies import UNREADABLE, bounded
from portal.redis_trouble import TROUBLE, RedisTrouble

MOST = 10_000
"""Names that a process counts; of more, those that were counted first are forgotten."""
_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}


class Counts:
    """Counts of this process by name, each from 0 again when its time is over."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, float]] = {}
        self._mutex = threading.Lock()

    def add(self, name: str, seconds: float, amount: int) -> int:
        """Count more, for so many seconds from the first on; how many there are now."""
        with self._mutex:
            count, ends_at = self._at(name)
            self._counts[name] = count + amount, ends_at if count else time.monotonic() + seconds
            while len(self._counts) > MOST:
                del self._counts[next(iter(self._counts))]
            return count + amount

    def get(self, name: str) -> int:
        """How many there are."""
        with self._mutex:
            return self._at(name)[0]

    def left(self, name: str) -> float:
        """In how many seconds there are none any more."""
        with self._mutex:
            return max(0.0, self._at(name)[1] - time.monotonic())

    def forget(self, name: str | None = None) -> None:
        """Begin again, with one name or (None) with all."""
        with self._mutex:
            if name is None:
                self._counts.clear()
            else:
                self._counts.pop(name, None)

    def _at(self, name: str) -> tuple[int, float]:
        count, ends_at = self._counts.get(name, (0, 0.0))
        if ends_at > time.monotonic():
            return count, ends_at
        self._counts.pop(name, None)
        return 0, 0.0


class LimitCounts(RedisStorage):
    """A storage of the library limits that asks both; `address` is that of Redis, and `trouble`
    what goes wrong with it. Whatever that answers, the count of the process holds."""

    STORAGE_SCHEME = ["portal"]

    def __init__(
        self,
        _uri: str,
        wrap_exceptions: bool = False,
        *,
        address: str,
        trouble: RedisTrouble,
        **options: Any,
    ):
        super().__init__(address, wrap_exceptions=wrap_exceptions, **options)
        bounded(self.storage)
        self._own, self._trouble = Counts(), trouble

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """limits' own."""
        own = self._own.add(key, expiry, amount)
        counted = super().incr
        return max(own, self._ask(lambda: counted(key, expiry, amount)))

    def get(self, key: str) -> int:
        """limits' own."""
        return max(self._own.get(key), self._ask(lambda: self._count(key)))

    def get_expiry(self, key: str) -> float:
        """limits' own."""
        left = self._ask(lambda: self.storage.ttl(self.prefixed_key(key)))
        return time.time() + max(self._own.left(key), min(left, _period(key)), 0.0)

    def clear(self, key: str) -> None:
        """limits' own."""
        self._own.forget(key)
        self._ask(lambda: self.storage.delete(self.prefixed_key(key)))

    def reset(self) -> int | None:
        """limits' own."""
        self._own.forget()
        return super().reset()

    def _count(self, key: str) -> int:
        name = self.prefixed_key(key)
        pipeline = self.storage.pipeline(transaction=False)
        pipeline.getrange(name, 0, 20)
        pipeline.ttl(name)
        count, left = pipeline.execute()
        if count and not 0 <= left <= _period(key):
            # Whoever wrote that would keep people out for ever.
            self.storage.unlink(name)
            return 0
        return int(count or 0)

    def _ask(self, ask: Callable[[], Any]) -> int:
        """What Redis says; 0 where it says nothing."""
        if self._trouble.is_left_alone:
            return 0
        try:
            return int(ask())
        except (ResponseError, *UNREADABLE) as error:
            # Of another type, or no number.
            self._trouble.note(error, "tries are counted by each process")
            return 0
        except TROUBLE as error:
            self._trouble.leave_alone(error, "tries are counted by each process")
            return 0


def _period(key: str) -> int:
    """The seconds of a limit, whose name ends such as 10/1/minute."""
    _, number, unit = key.rsplit("/", 2)
    return int(number) * _SECONDS[unit]
