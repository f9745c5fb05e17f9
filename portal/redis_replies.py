"""What is read of an answer of Redis has a bound. Whoever writes there may have written as much as
Redis takes, in one value or in a message, and a process that read it would need that memory, or
several times as much, and might be ended for it.
"""

from __future__ import annotations

import io
from typing import Any

from redis import Redis
from redis._parsers import _RESP2Parser, _RESP3Parser
from redis._parsers.socket import SocketBuffer
from redis.exceptions import ConnectionError

MOST_BYTES = 2**21
"""Bytes of an answer; the portal's largest lists the names of strange_keys.MOST jobs."""


class _Buffer(SocketBuffer):
    _buffer: io.BytesIO

    def _read_from_socket(self, length: int | None = None, *how: Any, **more: Any) -> bool:
        if self._buffer.getbuffer().nbytes + (length or 0) > MOST_BYTES:
            raise ConnectionError(f"an answer of more than {MOST_BYTES:,} bytes")
        return super()._read_from_socket(length, *how, **more)


class _Bounded:
    socket_read_size: int
    _buffer: Any

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[misc]
        self._buffer = _Buffer(
            connection._sock, self.socket_read_size, connection.socket_timeout
        )


class _Bounded2(_Bounded, _RESP2Parser):
    pass


class _Bounded3(_Bounded, _RESP3Parser):
    pass


def bounded(client: Redis) -> Redis:
    """The same client, whose connections end with redis.exceptions.ConnectionError where an answer
    is larger."""
    how = client.connection_pool.connection_kwargs
    how["parser_class"] = _Bounded2 if str(how.get("protocol")) == "2" else _Bounded3
    return client
