"""A server in the place of Redis that answers whatever a test wants."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import BinaryIO


class FalseRedis:
    """Answers the commands by which a connection is made as Redis does, and all others with
    `answer`, each after `delay` seconds, or byte by byte with `drip` seconds before each."""

    def __init__(self) -> None:
        self.answer: bytes | None = None
        """None: what Redis would, as far as it knows it."""
        self.delay = self.drip = 0.0
        self.asked: list[bytes] = []
        """The names of the commands that came."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._server.getsockname()[1]}/0"
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let nobody in any more."""
        for one in (self._server, *self._connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as asked:
            while words := _command(asked):
                name = words[0].upper()
                self.asked.append(name)
                self._send(connection, self._answer_to(name))

    def _answer_to(self, name: bytes) -> bytes:
        if name == b"HELLO":
            return b"%1\r\n$5\r\nproto\r\n:3\r\n"
        if name in (b"CLIENT", b"SELECT"):
            return b"+OK\r\n"
        if self.answer is not None:
            return self.answer
        if name == b"PING":
            return b"+PONG\r\n"
        if name == b"PUBLISH":
            return b":1\r\n"
        if name == b"INFO":
            text = b"redis_version:8.0.0\r\nmaxmemory:0\r\nused_memory:10\r\n"
            return b"$%d\r\n%s\r\n" % (len(text), text)
        is_number = name in (b"EVAL", b"EVALSHA", b"HSET", b"SADD", b"EXPIRE")
        return b":1\r\n" if is_number else b"+OK\r\n"

    def _send(self, connection: socket.socket, answer: bytes) -> None:
        time.sleep(self.delay)
        if not self.drip:
            connection.sendall(answer)
            return
        for number in range(len(answer)):
            time.sleep(self.drip)
            connection.sendall(answer[number : number + 1])


def _command(asked: BinaryIO) -> list[bytes]:
    words = int(asked.readline()[1:] or 0)
    return [asked.read(int(asked.readline()[1:]) + 2)[:-2] for _ in range(words)]
