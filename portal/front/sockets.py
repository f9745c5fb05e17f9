"""The connections that the web server has accepted, as the kernel knows them.

Granian takes them and does not show them; but they are files of this process. So one network's
share of them is held here, a client that takes nothing loses its connection, and a download waits
for its reader.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import select
import socket
import stat
import struct
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from portal.addresses import network_of, site_of
from portal.journal import security_log

UNTAKEN_SECONDS = 60.0
"""How long a client may take nothing of what is sent to it."""
LOOK_SECONDS = 1.0
SOON_SECONDS = 0.1
"""How soon it looks again while there is nothing to look at yet, or not much room left."""
SETTLE_SECONDS = 0.002
"""How long the server has to refill a buffer that has room again."""
_FILES = Path("/proc/self/fd")
_LAST_SENT, _LAST_RECEIVED, _INFO_BYTES = 44, 52, 56
"""Where struct tcp_info (linux/tcp.h) has how long ago data went and came, in ms."""

_log = logging.getLogger(__name__)


class Gone(OSError):
    """The client has gone, or has taken nothing for too long."""


class Wire:
    """The connection with a client; nothing is read from it or written to it here."""

    def __init__(self, connection: socket.socket):
        self._connection = connection

    def wait_until_taken(self, seconds: float) -> None:
        """Wait until what was sent before is on its way: it is written into the server's queue,
        which has no bound. Raises Gone."""
        poll = select.poll()
        poll.register(self._connection, select.POLLOUT)
        until = time.monotonic() + seconds
        while True:
            found = poll.poll(max(0.0, until - time.monotonic()) * 1_000)
            if not found or found[0][1] & (select.POLLERR | select.POLLHUP):
                raise Gone("The client takes nothing any more.")
            # Where the server has more to send, it uses the room at once.
            time.sleep(SETTLE_SECONDS)
            if poll.poll(0):
                return

    def cut(self) -> None:
        """End the connection in the middle of an answer, so that nobody takes it for whole."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Look no longer; the connection stays as it is."""
        self._connection.close()


def wire_to(client: str) -> Wire | None:
    """The connection with a client, whose address and port are `192.0.2.1:50000` or
    `[2001:db8::1]:50000`; None when it has gone."""
    host, _, port = client.rpartition(":")
    # getpeername() names the link of a link-local address by itself.
    host = host.strip("[]").partition("%")[0]
    for connection in _own_sockets():
        with contextlib.suppress(OSError):
            peer = connection.getpeername()
            if isinstance(peer, tuple) and str(peer[1]) == port and peer[0] == host:
                return Wire(_same(connection))
    return None


class Guard:
    """Watches over this process's connections: a client that takes nothing for UNTAKEN_SECONDS
    loses its own, and no network (addresses.network_of) has more of them than the first of
    `shares`, nor a site (addresses.site_of) more than the second. They are None where all come from
    a proxy, which has as many as it needs."""

    def __init__(self, shares: tuple[int, int] | None):
        self._shares = shares
        self._ports: set[int] = set()
        self._spare, self._nothing = (os.open(os.devnull, os.O_RDONLY) for _ in range(2))
        """Two files that are kept: one is made a connection's for a look, which so needs no new
        file where there is none to be had, the other is what it is made again."""
        self._is_crowded = False

    def __del__(self) -> None:
        for number in (self._spare, self._nothing):
            os.close(number)

    def start(self) -> None:
        """Look from now on, in a thread."""
        threading.Thread(target=self._run, name="connections", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except OSError as error:
                _log.warning("Connections cannot be looked at (%s).", error.strerror)
            time.sleep(LOOK_SECONDS if self._ports and not self._is_crowded else SOON_SECONDS)

    def look(self) -> None:
        """Look once. A network that has more than its share keeps the connections that were in use
        last."""
        self.look_at_listeners()
        if self._shares is not None:
            count = len(_numbers())
            self._is_crowded = count > _most() / 2
            if count > min(self._shares):
                self._hold_to(*self._shares)

    def look_at_listeners(self) -> None:
        """Learn what this process listens on, once it does."""
        if not self._ports:
            self._ports = set(_prepare_listeners())

    def _hold_to(self, network_share: int, site_share: int) -> None:
        # None is kept open meanwhile: where connections are at their most, there is no room for as
        # many files again.
        found: dict[tuple[str, int], list[tuple[int, Any]]] = defaultdict(list)
        for connection in self._accepted():
            with contextlib.suppress(OSError):
                peer, quiet_ms = connection.getpeername(), _quiet_ms(connection)
                for whose, share in (
                    (network_of(peer[0]), network_share),
                    (site_of(peer[0]), site_share),
                ):
                    found[whose, share].append((quiet_ms, peer))
        ended = set()
        for (whose, share), connections in found.items():
            if len(connections) > share:
                connections.sort()
                ended |= {peer for _, peer in connections[share:]}
                security_log.note_of("limit_reached", whose)
        if ended:
            for connection in self._accepted():
                with contextlib.suppress(OSError):
                    if connection.getpeername() in ended:
                        connection.shutdown(socket.SHUT_RDWR)

    def _accepted(self) -> Iterator[socket.socket]:
        for number in _numbers():
            with contextlib.suppress(OSError):
                if not stat.S_ISSOCK(os.fstat(number).st_mode):
                    continue
                os.dup2(number, self._spare, inheritable=False)
                try:
                    connection = socket.socket(fileno=self._spare)
                    try:
                        if (
                            connection.family in (socket.AF_INET, socket.AF_INET6)
                            and connection.getsockname()[1] in self._ports
                        ):
                            yield connection
                    finally:
                        connection.detach()
                finally:
                    os.dup2(self._nothing, self._spare, inheritable=False)


def _prepare_listeners() -> Iterator[int]:
    """The ports that this process listens on."""
    for connection in _own_sockets():
        with contextlib.suppress(OSError):
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                # Whoever is accepted has it too: the kernel ends the connection (tcp(7)).
                connection.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNTAKEN_SECONDS * 1_000)
                )
                yield connection.getsockname()[1]


def _quiet_ms(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    return min(int(struct.unpack_from("I", info, at)[0]) for at in (_LAST_SENT, _LAST_RECEIVED))


def _same(connection: socket.socket) -> socket.socket:
    """The connection as one more file. (socket.dup() would have it block, for the server too.)"""
    return socket.socket(fileno=os.dup(connection.fileno()))


def _numbers() -> list[int]:
    """Those of this process's files, and where it may open no more to read them, all that there may
    be."""
    try:
        return [int(file.name) for file in _FILES.iterdir()]
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return list(range(_most()))


def _most() -> int:
    """How many files this process may open."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if most == resource.RLIM_INFINITY else most


def _own_sockets() -> Iterator[socket.socket]:
    """The sockets of this process, each as a file of its own, which is open for the moment: the
    number of the first may be another connection's by then."""
    for number in _numbers():
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6):
                    yield connection
