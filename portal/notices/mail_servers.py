"""Connections to mail servers with limits on how long they last and how much the server says; those
of smtplib trust the server in both."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import threading
from typing import Any, BinaryIO

REPLY_BYTES = 64 * 1_024
"""The longest reply that is read from a server; a line has 512 (RFC 5321)."""


class Watchdog:
    """Cuts a connection when its time is over, from the first byte of the handshake on. Whoever
    reads from it then finds it closed."""

    def __init__(self, seconds: float):
        self._line: socket.socket | None = None
        self._is_over = False
        self._mutex = threading.Lock()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, line: socket.socket) -> None:
        """Watch this connection."""
        with self._mutex:
            # TLS takes over the socket and leaves this handle without it; a second handle remains.
            self._line = line.dup()
        if self._is_over:
            self._cut()

    def _cut(self) -> None:
        with self._mutex, contextlib.suppress(OSError):
            self._is_over = True
            if self._line is not None:
                self._line.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        with self._mutex:
            if self._line is not None:
                self._line.close()
                self._line = None


class _Replies:
    """A server's replies, none longer than REPLY_BYTES: smtplib limits the length of a line, but
    not their number."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._left = 0

    def begin(self) -> None:
        """A reply follows."""
        self._left = REPLY_BYTES

    def readline(self, most: int) -> bytes:
        line = self._file.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise OSError(f"a reply of more than {REPLY_BYTES:,} bytes")
        return line

    def close(self) -> None:
        self._file.close()


class Server(smtplib.SMTP):
    """A mail server whose connection is watched and whose replies are limited."""

    def __init__(self, watchdog: Watchdog, *where: Any, **how: Any):
        self._watchdog = watchdog
        super().__init__(*where, **how)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        # The hook of smtplib for what differs between plain connections and TLS.
        line: socket.socket = super()._get_socket(host, port, timeout)  # type: ignore[misc]
        self._watchdog.watch(line)
        return line

    def getreply(self) -> tuple[int, bytes]:
        """smtplib's."""
        if self.file is None:
            assert self.sock is not None
            self.file: _Replies | None = _Replies(self.sock.makefile("rb"))
        self.file.begin()
        return super().getreply()

    def greet(self) -> None:
        """Say EHLO. Raises SMTPHeloError unless the server accepts it."""
        code, text = self.ehlo()
        if code != 250:
            raise smtplib.SMTPHeloError(code, text)


class TlsServer(smtplib.SMTP_SSL, Server):
    """One that speaks TLS from the start; smtplib wraps what Server gives."""

    def __init__(self, watchdog: Watchdog, *where: Any, **how: Any):
        self._watchdog = watchdog
        smtplib.SMTP_SSL.__init__(self, *where, **how)
