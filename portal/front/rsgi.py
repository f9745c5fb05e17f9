"""What Granian gives for each request (RSGI): its head, its body, and the way back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]

LEFT = (ProtocolClosed, ProtocolError)
"""What Granian raises where the client is no longer there."""


class Headers(Protocol):
    """A request's headers, by their names in small letters."""

    def __contains__(self, key: str) -> bool: ...
    def get(self, key: str, default: str | None = None) -> str | None: ...
    def items(self) -> list[tuple[str, str]]: ...


class Scope(Protocol):
    """A request's head."""

    proto: str
    http_version: str
    server: str
    client: str
    scheme: str
    method: str
    path: str
    query_string: str
    headers: Headers


class Incoming(Protocol):
    """A request's body: all of it, or piece by piece."""

    async def __call__(self) -> bytes: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Exchange(Incoming, Protocol):
    """A request's body, and the way back."""

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...
    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...
    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Any: ...
