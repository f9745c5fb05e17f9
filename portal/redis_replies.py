"""What is read of an answer of Redis has bounds. Whoever writes there may have written as much as
Redis takes, in one value or in a message, and a process that read it would need that memory, or
several times as much, and might be ended for it. Who is in the place of Redis may answer whatever
they like, and somebody who reaches it may have it send thousands of messages that nobody asked for.
What redis-py cannot read is an error of Redis like any other. And whoever sends it byte by byte is
in time for each: the socket's time-out is one for all that was asked for together.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from redis import Redis
from redis._parsers import _RESP2Parser, _RESP3Parser
from redis._parsers.socket import SocketBuffer
from redis.exceptions import ConnectionError, TimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.utils import SENTINEL

MOST_BYTES = 2**21
"""Bytes of an answer; the portal's largest lists the names of strange_keys.MOST jobs."""
MOST_WITHIN = 50
"""Answers within one another, and messages that nobody asked for before one: redis-py reads each
within the last, and Python has an end of that."""
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What an answer brings about that is of another kind than was asked for. Not all exceptions: one
that a signal raises ends a job or a worker, and must come through."""


@dataclass
class _Patience:
    left: float | None = None
    """Seconds that may be waited in all for what is asked; None: as long as the socket's time-out
    lets each read. What it takes to read what has come does not count."""


class _Buffer(SocketBuffer):
    _buffer: io.BytesIO
    patience: _Patience | None = None

    def _read_from_socket(
        self,
        length: int | None = None,
        timeout: Any = SENTINEL,
        raise_on_timeout: bool | None = True,
    ) -> bool:
        had = self._size()
        if had + (length or 0) > MOST_BYTES:
            raise ConnectionError(f"an answer of more than {MOST_BYTES:,} bytes")
        while True:
            left, started = self._left(timeout), time.monotonic()
            if not super()._read_from_socket(None, left, raise_on_timeout):
                return False
            if self.patience is not None and self.patience.left is not None:
                self.patience.left -= time.monotonic() - started
            if length is None or self._size() - had >= length:
                return True

    def _size(self) -> int:
        return self._buffer.getbuffer().nbytes

    def _left(self, timeout: Any) -> Any:
        is_number = isinstance(timeout, int | float)
        # Who asks waits for ever, or not at all.
        is_theirs = timeout is None or (is_number and timeout <= 0)
        left = None if self.patience is None else self.patience.left
        if left is None or is_theirs:
            return timeout
        if left <= 0:
            raise TimeoutError("the answer was not whole in time")
        return min(left, timeout) if is_number else left


class _Bounded:
    socket_read_size: int
    _buffer: Any
    _within = 0

    def read_response(self, *how: Any, **more: Any) -> Any:
        self._within = 0
        return _read(super().read_response, *how, **more)  # type: ignore[misc]

    def _read_response(self, *how: Any, **more: Any) -> Any:
        self._within += 1
        if self._within > MOST_WITHIN:
            raise ConnectionError(f"an answer of more than {MOST_WITHIN} within one another")
        try:
            return super()._read_response(*how, **more)  # type: ignore[misc]
        finally:
            self._within -= 1

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[misc]
        self._buffer = _Buffer(connection._sock, self.socket_read_size, connection.socket_timeout)


class _Bounded2(_Bounded, _RESP2Parser):
    pass


class _Bounded3(_Bounded, _RESP3Parser):
    pass


class _Timed:
    """A connection whose time-out is one for all answers to what was sent together, and one for all
    by which it is made."""

    socket_timeout: float | None
    _parser: Any
    _patience: _Patience | None = None
    _is_being_made = False

    def on_connect_check_health(self, *how: Any, **more: Any) -> None:
        self._begin()
        self._is_being_made = True
        try:
            super().on_connect_check_health(*how, **more)  # type: ignore[misc]
        finally:
            self._is_being_made = False

    def send_packed_command(self, *how: Any, **more: Any) -> None:
        super().send_packed_command(*how, **more)  # type: ignore[misc]
        if not self._is_being_made:
            self._begin()

    def read_response(self, *how: Any, **more: Any) -> Any:
        # A message of a channel is no answer to what was sent.
        if more.get("push_request") and not self._is_being_made:
            waits = more.get("timeout")
            self._begin(waits if isinstance(waits, int | float) else 0.0)
        if self._parser._buffer is not None:
            self._parser._buffer.patience = self._patience
        return super().read_response(*how, **more)  # type: ignore[misc]

    def can_read(self, *how: Any, **more: Any) -> bool:
        if self._parser._buffer is not None:
            self._parser._buffer.patience = None
        return bool(super().can_read(*how, **more))  # type: ignore[misc]

    def _begin(self, at_least: float = 0.0) -> None:
        self._patience = None
        if self.socket_timeout is not None:
            self._patience = _Patience(max(self.socket_timeout, at_least))


def _read(read: Callable[..., Any], *how: Any, **more: Any) -> Any:
    try:
        return read(*how, **more)
    except UNREADABLE as error:
        raise ConnectionError(
            f"an answer that cannot be read ({type(error).__name__}: {str(error)[:100]!a})"
        ) from error


def bounded(client: Redis) -> Redis:
    """The same client, which raises redis.exceptions.ConnectionError where an answer is larger, or
    cannot be read, and TimeoutError where it is not whole in time."""
    pool = client.connection_pool
    if not issubclass(pool.connection_class, _Timed):
        pool.connection_class = type(
            f"Timed{pool.connection_class.__name__}", (_Timed, pool.connection_class), {}
        )
    how = pool.connection_kwargs
    how["parser_class"] = _Bounded2 if str(how.get("protocol")) == "2" else _Bounded3
    # By such a notice a server sends its clients to another.
    how["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    for command, callback in list(client.response_callbacks.items()):
        client.set_response_callback(command, _careful(callback))
    return client


def _careful(callback: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(callback)
    def call(*how: Any, **more: Any) -> Any:
        return _read(callback, *how, **more)

    return call
