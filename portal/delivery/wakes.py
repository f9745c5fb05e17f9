"""Wake-up calls from Redis for a drain (portal.queues.wake makes them)."""

from __future__ import annotations

import logging
import time
from typing import Any

from redis.client import PubSub

from portal import queues, runtime
from portal.delivery.paces import PACES, Paces
from portal.journal.seldom import Seldom
from portal.outbound.transport import Watcher
from portal.redis_trouble import QUIET_SECONDS, TROUBLE, RedisTrouble

MOST_CALLS = 1_000
"""How many calls may have come since they were read last. If there are more, the drain stops
listening for a while and finds what is due by looking: whoever can write into Redis can send more
than a drain could read."""

_log = logging.getLogger(__name__)
_seldom = Seldom(_log, 60)


class Wakes:
    """Wake-up calls for the lanes of a drain, which come by a socket that `watcher` waits for too.

    Without Redis the drain goes on by polling.
    """

    def __init__(self, watcher: Watcher, paces: Paces = PACES):
        self._watcher = watcher
        self._paces = paces
        self._lanes: set[int] = set()
        self._pubsub: PubSub | None = None
        self._fd: int | None = None
        # A drain may have been started because Redis does not work; each try may halt the sending.
        self._again_at = (
            time.monotonic() + paces.redis_quiet_seconds
            if runtime.part(RedisTrouble).is_left_alone
            else 0.0
        )
        self._failures = 0
        self._somebody_idle = False

    def listen(self, lane: int) -> None:
        """Listen for calls for a lane, too."""
        self._lanes.add(lane)
        if time.monotonic() >= self._again_at:
            self._connect([lane] if self._pubsub else sorted(self._lanes))

    def leave(self, lane: int) -> None:
        """Stop listening for calls for a lane."""
        self._lanes.discard(lane)
        if self._pubsub is not None:
            try:
                self._pubsub.unsubscribe(queues.wake_channel(lane))
            except TROUBLE as error:
                self._drop(error)

    def called(self) -> bool:
        """Whether a call has come since this was last asked."""
        if self._fd is None:
            if time.monotonic() >= self._again_at:
                self._connect(sorted(self._lanes))
            return False
        if not self._watcher.woken:
            return False
        called = False
        try:
            assert self._pubsub is not None
            for _ in range(MOST_CALLS):
                message = self._pubsub.get_message(timeout=0)
                if message is None:
                    return called
                if message["type"] != "message":
                    continue
                if message["channel"] == queues.idle_channel().encode():
                    self._somebody_idle |= message["data"] != queues.this_process().encode()
                else:
                    called = True
        except TROUBLE as error:
            self._drop(error)
            return called
        _seldom.warn(
            "calls",
            "More wake-up calls come from Redis than the portal makes. Somebody "
            "else writes into it.",
        )
        self._drop()
        return True

    def take_somebody_idle(self) -> bool:
        """Whether another worker has said that it has nothing to do, since this was last asked."""
        said, self._somebody_idle = self._somebody_idle, False
        return said

    def close(self) -> None:
        """Stop listening."""
        self._drop()

    def _connect(self, fresh: list[int]) -> None:
        try:
            if self._pubsub is None:
                self._pubsub = queues.client().pubsub()
                self._pubsub.subscribe(queues.idle_channel())
            self._pubsub.subscribe(*[queues.wake_channel(lane) for lane in fresh])
            self._failures = 0
            if self._fd is None:
                connection: Any = self._pubsub.connection
                self._fd = connection._sock.fileno()
                self._watcher.watch(self._fd)
        except TROUBLE as error:
            self._drop(error)

    def _drop(self, error: Exception | None = None) -> None:
        if error is not None:
            runtime.part(RedisTrouble).note(error, "what is due is found by looking")
        if self._fd is not None:
            self._watcher.unwatch(self._fd)
            self._fd = None
        if self._pubsub is not None:
            try:
                self._pubsub.close()
            except TROUBLE as gone:
                _log.debug("The wake-up connection was gone already: %s", gone)
            self._pubsub = None
        # While Redis hangs, each try may halt the sending for a second.
        again = QUIET_SECONDS * 2**self._failures
        self._failures = min(self._failures + 1, 10)
        self._again_at = time.monotonic() + min(again, self._paces.redis_quiet_seconds)
