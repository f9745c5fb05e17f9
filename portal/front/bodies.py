"""Bodies of requests, each within its deadline."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from werkzeug.exceptions import BadRequest, RequestTimeout

from portal.front import refusals
from portal.front.large import Turn
from portal.front.rsgi import LEFT, Headers, Incoming

SMALL = 64 * 1024
"""Bytes of a body that must be here before a thread is taken: a form, an event."""
SECONDS = 10.0
"""How long the first SMALL bytes may take."""
BYTES_A_SECOND = 64 * 1024
"""How fast the rest must come, on average."""
TOGETHER, TOGETHER_SECONDS = 256 * 1024, 0.05
"""How many bytes a thread gets at once, of a body that brings them within so long."""

Take = Callable[[], Awaitable[None]]
"""Counts a piece that has come, and waits where these are too many."""


class Rest(io.RawIOBase):
    """A large body, for the thread that wants it: the beginning that is here, and the rest as it
    comes. Raises RequestTimeout when it comes too slowly, and BadRequest when it ends before its
    declared length, which is None where it comes in chunks. It is read in a `turn`, which may end
    before it has come."""

    def __init__(
        self,
        begun: bytes,
        rest: AsyncIterator[bytes],
        loop: asyncio.AbstractEventLoop,
        declared: int | None,
        take: Take,
        turn: Turn,
    ):
        self._piece = memoryview(begun)
        self._rest, self._loop, self._take, self._turn = rest, loop, take, turn
        self._missing = (declared or 0) - len(begun)
        self._is_over = False
        self._seconds = SECONDS
        """How long it may still be waited for."""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """The next bytes (io.RawIOBase)."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if not self._piece:
            self._piece = memoryview(self._next())
        count = min(len(view), len(self._piece))
        view[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _next(self) -> bytes:
        # The time in which nobody reads is not the sender's.
        began = time.monotonic()
        coming = asyncio.run_coroutine_threadsafe(self._within_time(), self._loop)
        try:
            piece = coming.result()
        except TimeoutError:
            raise RequestTimeout(
                "The body came slowly, and others wait. Send it again, in smaller parts."
                if self._turn.is_over
                else "The body did not come in time. Send it again."
            ) from None
        except LEFT:
            # As where the sender has closed in order.
            piece = b""
        self._seconds += len(piece) / BYTES_A_SECOND - (time.monotonic() - began)
        self._missing -= len(piece)
        if not piece and self._missing > 0:
            raise BadRequest(refusals.ended().sentence)
        return piece

    async def _within_time(self) -> bytes:
        # Several pieces of one that comes fast: each time the thread waits for the loop costs as
        # much as a piece.
        whole, began = bytearray(), self._loop.time()
        async with self._turn.wait(self._seconds):
            while not self._is_over:
                piece = await _next_of(self._rest, self._take)
                # What has ended is not asked again.
                self._is_over = not piece
                self._turn.came += len(piece)
                whole += piece
                if len(whole) >= TOGETHER or self._loop.time() - began > TOGETHER_SECONDS:
                    break
        return bytes(whole)


def declared(headers: Headers) -> int | None:
    """How long a body is said to be (bytes); None where nothing is said. The server has let no
    number through that has over 64 bits, but any number of zeros before it, and int() has not."""
    said = headers.get("content-length")
    return None if said is None else int(said[-20:])


async def begin(
    headers: Headers, incoming: Incoming, take: Take
) -> tuple[bytes, AsyncIterator[bytes] | None]:
    """The body, or its beginning and what brings the rest when it is larger than SMALL; of one that
    comes in pieces, each is taken. Raises Refused when it does not come in time."""
    length = declared(headers)
    if length is None:
        if headers.get("transfer-encoding") is None:
            return b"", None
        length = SMALL + 1
    elif length == 0:
        return b"", None
    elif length > SMALL and headers.get("expect"):
        # The sender waits to be asked for it, and there may be reasons not to.
        return b"", incoming.__aiter__()
    try:
        async with asyncio.timeout(SECONDS):
            if length <= SMALL:
                return await incoming(), None
            return await _first_of(incoming.__aiter__(), take)
    except TimeoutError:
        raise refusals.slow() from None
    except LEFT:
        raise refusals.ended() from None


async def _first_of(
    pieces: AsyncIterator[bytes], take: Take
) -> tuple[bytes, AsyncIterator[bytes] | None]:
    begun = bytearray()
    while piece := await _next_of(pieces, take):
        begun += piece
        if len(begun) > SMALL:
            return bytes(begun), pieces
    return bytes(begun), None


async def _next_of(pieces: AsyncIterator[bytes], take: Take) -> bytes:
    """The next bytes; b"" at the end. Granian's iterator may have an empty piece; it cannot be
    asked for its iterator again, as `async for` does, and anext() with a default crashes on it."""
    with contextlib.suppress(StopAsyncIteration):
        while True:
            piece = await pieces.__anext__()
            await take()
            if piece:
                return piece
    return b""
