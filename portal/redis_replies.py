"""What is read of an answer of Redis has bounds. Whoever writes there may have written as much as
Redis takes, in one value or in a message, and a process that read it would need that memory, or
several times as much, and might be ended for it. Who is in the place of Redis may answer whatever
they like, and somebody who reaches it may have it send thousands of messages that nobody asked for.
What redis-py cannot read is an error of Redis like any other.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from typing import Any

from redis import Redis
from redis._parsers import _RESP2Parser, _RESP3Parser
from redis._parsers.socket import SocketBuffer
from redis.exceptions import ConnectionError
from redis.maint_notifications import MaintNotificationsConfig

MOST_BYTES = 2**21
"""Bytes of an answer; the portal's largest lists the names of strange_keys.MOST jobs."""
MOST_WITHIN = 50
"""Answers within one another, and messages that nobody asked for before one: redis-py reads each
within the last, and Python has an end of that."""
UNREADABLE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)
"""What an answer brings about that is of another kind than was asked for. Not all exceptions: one
that a signal raises ends a job or a worker, and must come through."""


class _Buffer(SocketBuffer):
    _buffer: io.BytesIO

    def _read_from_socket(self, length: int | None = None, *how: Any, **more: Any) -> bool:
        if self._buffer.getbuffer().nbytes + (length or 0) > MOST_BYTES:
            raise ConnectionError(f"an answer of more than {MOST_BYTES:,} bytes")
        return super()._read_from_socket(length, *how, **more)


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
        self._buffer = _Buffer(
            connection._sock, self.socket_read_size, connection.socket_timeout
        )


class _Bounded2(_Bounded, _RESP2Parser):
    pass


class _Bounded3(_Bounded, _RESP3Parser):
    pass


def _read(read: Callable[..., Any], *how: Any, **more: Any) -> Any:
    try:
        return read(*how, **more)
    except UNREADABLE as error:
        raise ConnectionError(
            f"an answer that cannot be read ({type(error).__name__}: {str(error)[:100]!a})"
        ) from error


def bounded(client: Redis) -> Redis:
    """The same client, which raises redis.exceptions.ConnectionError where an answer is larger, or
    cannot be read."""
    how = client.connection_pool.connection_kwargs
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
