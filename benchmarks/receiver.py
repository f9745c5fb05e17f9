"""The receiver where there is no C compiler; see receiver.c for what it does."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import IO

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Connection(asyncio.Protocol):
    """One connection: requests one after another."""

    def __init__(self, ledger: IO[str]):
        self._ledger = ledger
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
            }
            length = end + 4 + int(headers.get(b"content-length", b"0"))
            if len(self._data) < length:
                return
            self._data = self._data[length:]
            self._handle(head.split(b" ")[1].decode(), headers.get(b"webhook-id", b"").decode())

    def _handle(self, path: str, event_id: str) -> None:
        if event_id:
            self._ledger.write(f"{event_id} {time.time_ns() // 1000}\n")
        if path.startswith("/flush"):
            self._ledger.flush()
        if path.startswith("/delay/"):
            milliseconds = int(path.split("/")[2])
            asyncio.get_running_loop().call_later(
                milliseconds / 1000, self._transport.write, ANSWER
            )
        elif not path.startswith("/hang"):
            self._transport.write(ANSWER)


async def _serve(port: int, ledger: Path) -> None:
    with ledger.open("w") as file:
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(file), "127.0.0.1", port, backlog=4096
        )
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
