"""A resolver under the control of a test, for processes with an /etc/resolv.conf of their own."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

NXDOMAIN, SERVFAIL, WORKS, HANGS = b"\x81\x83", b"\x81\x82", b"\x81\x80", b""
_A, _AAAA = 1, 28
LASTING = "timeout:30 attempts:5"
"""Options of a resolver that waits longer for an answer than any test does."""


class NameServer:
    """Answers every question about a name as told: with `turns`, one list of addresses after the
    other and again from the first, when it works. Port 53 is what a resolver asks, so each test
    process has an address of its own. Raises OSError where that port cannot be had."""

    ADDRESS = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"

    def __init__(self) -> None:
        self.says = HANGS
        self.turns = [["127.0.0.1"]]
        self.of: dict[str, list[str]] = {}
        """What a name of its own leads to, whatever the turn."""
        self.ignores: Callable[[bytes], bool] = lambda _question: False
        """Which questions it never answers, by name, type and class as they come."""
        self.asked: list[bytes] = []
        self._turn: dict[bytes, int] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.ADDRESS, 53))
        self._socket.settimeout(0.1)
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def in_its_world(self, directory: Path, options: str = "timeout:20 attempts:1") -> list[str]:
        """What to put before a command so that it asks this resolver; needs root."""
        used = directory / "resolv.conf"
        used.write_text(f"nameserver {self.ADDRESS}\noptions {options}\n")
        bind = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", bind, str(used)]

    def _serve(self) -> None:
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                question, sender = self._socket.recvfrom(512)
                asked = question[12 : question.index(b"\0", 12) + 5]
                self.asked.append(asked)
                if self.says and not self.ignores(asked):
                    self._socket.sendto(self._answer(question), sender)
        self._socket.close()

    def _answer(self, question: bytes) -> bytes:
        # RFC 1035, 4.1: the ID, flags, counts, the question again, and its records.
        end = question.index(b"\0", 12) + 5
        asked = question[12:end]
        records = self._records(asked) if self.says == WORKS else []
        counts = b"\0\1" + len(records).to_bytes(2, "big") + bytes(4)
        return question[:2] + self.says + counts + asked + b"".join(records)

    def _records(self, asked: bytes) -> list[bytes]:
        turn = self._turn.get(asked, 0)
        self._turn[asked] = turn + 1
        kind = int.from_bytes(asked[-4:-2], "big")
        found = []
        for text in self.of.get(_name(asked), self.turns[turn % len(self.turns)]):
            packed = ipaddress.ip_address(text).packed
            if kind == (_A if len(packed) == 4 else _AAAA):
                head = b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\0"
                found.append(head + len(packed).to_bytes(2, "big") + packed)
        return found

    def close(self) -> None:
        """Stop listening: then questions are refused."""
        self._closing = True
        self._thread.join()


def _name(asked: bytes) -> str:
    # RFC 1035, 4.1.2: each label behind its length, and none at the end.
    labels, rest = [], asked
    while rest[0]:
        labels.append(rest[1 : rest[0] + 1].decode())
        rest = rest[rest[0] + 1 :]
    return ".".join(labels)
