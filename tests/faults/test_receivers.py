"""HAZARDS, "Receivers": what a receiver may do, and what a real portal makes of it.

One portal plays all of them, on each database; the same at the level of the transport, with more
variants, is in tests/outbound/test_transport.py.
"""

from __future__ import annotations

import email.utils
import gzip
import os
import shutil
import socket
import ssl
import struct
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
import requests

from portal.delivery.retry import MAX_RETRY_AFTER_SECONDS
from portal.outbound.transfer import MAX_BODY
from tests.faults.world import World
from tests.raw_receiver import OK, Behaviour, RawReceiver, certificate, drips, says

pytestmark = pytest.mark.faults

DEADLINE = 2.0
TRUSTED = {"shop.example.com": 30, "127.0.0.1": -1}
"""Certificates that the portal trusts, by their host, with the days that are left to them."""
EMPTY = b"Content-Length: 0\r\n\r\n"


@pytest.fixture(
    scope="module",
    # Each portal in one process, when the tests run in several.
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(f"receivers-{name}"))
        for name in ("sqlite", "postgresql")
    ],
)
def portal(request: pytest.FixtureRequest) -> Iterator[World]:
    """A running portal, which trusts TRUSTED where the tests run as root."""
    directory = Path(tempfile.mkdtemp(prefix="portal-faults-"))
    directory.chmod(0o755)
    portal = World(
        directory, request.param, RETRY_SCHEDULE="0 600", TIMEOUT_SECONDS=f"{DEADLINE:.0f}"
    )
    for name, days in TRUSTED.items():
        certificate(directory, host=name, days=days)
        shutil.copy(directory / "server.pem", directory / f"{name}.pem")
    (directory / "trusted.pem").write_text(
        "".join((directory / f"{name}.pem").read_text() for name in TRUSTED)
    )
    if os.geteuid() == 0:
        portal.prefix = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            f'mount --bind "$0" {certifi.where()} && exec "$@"',
            str(directory / "trusted.pem"),
        ]
    try:
        portal.start("valkey", "web", "worker-1", "maintenance", "cron")
        yield portal
    finally:
        portal.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def browser(portal: World) -> requests.Session:
    """Somebody who looks at pages."""
    return portal.sign_in()


class Attempts:
    """What the log says of the first attempt to each receiver of a test."""

    def __init__(self, portal: World):
        self._portal = portal
        self._receivers: list[RawReceiver] = []
        self._webhooks: dict[str, str] = {}

    def at(
        self, behaviour: Behaviour, context: ssl.SSLContext | None = None, scheme: str = "http"
    ) -> RawReceiver:
        """A receiver with a webhook; in the order of `made`."""
        receiver = RawReceiver(behaviour, context)
        self._receivers.append(receiver)
        url = f"{scheme}://127.0.0.1:{receiver.port}/hook"
        self._webhooks[self._portal.webhook(url)] = url
        return receiver

    def made(self) -> list[dict[str, Any]]:
        """Sends an event; the attempt at each, in order, with its delivery as `delivery`."""
        self._portal.send(1)
        found: dict[str, dict[str, Any]] = {}

        def all_came() -> bool:
            for webhook_id in self._webhooks.keys() - found.keys():
                rows = self._get(f"attempts?webhook_id={webhook_id}")["data"]
                if rows:
                    found[webhook_id] = self._get(f"attempts/{rows[0]['request_id']}")
            return found.keys() == self._webhooks.keys()

        self._portal.wait(all_came, 30)
        for webhook_id, attempt in found.items():
            (attempt["delivery"],) = self._get(f"deliveries?webhook_id={webhook_id}")["data"]
        return [found[webhook_id] for webhook_id in self._webhooks]

    def webhooks(self) -> list[dict[str, Any]]:
        """The webhooks as they are now, in order."""
        return [self._get(f"webhooks/{webhook_id}") for webhook_id in self._webhooks]

    def _get(self, path: str) -> Any:
        status, content = self._portal.call("GET", f"/api/v1/{path}")
        assert status == 200, content
        return content

    def close(self) -> None:
        """Nothing of this test gets the next one's event."""
        for webhook_id in self._webhooks:
            self._portal.call("DELETE", f"/api/v1/webhooks/{webhook_id}")
        for receiver in self._receivers:
            receiver.close()


@pytest.fixture
def attempts(portal: World) -> Iterator[Attempts]:
    """`attempts.at(behaviour)`, as often as needed, then `attempts.made()`."""
    attempts = Attempts(portal)
    yield attempts
    attempts.close()


def floods(head: bytes, piece: bytes) -> Behaviour:
    """Says something and then the same for ever."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return behave


def resets(connection: socket.socket) -> None:
    """Ends the connection with a RST."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_it_hangs_or_drips(attempts: Attempts):
    """R1: the attempt ends at the deadline + 0.5 s."""
    attempts.at(lambda _: time.sleep(9))
    attempts.at(drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"))
    attempts.at(drips(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"))
    attempts.at(drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"))
    attempts.at(drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"))
    for attempt in attempts.made():
        assert attempt["error"] == "timeout"
        assert attempt["status"] is None
        assert DEADLINE * 1e3 - 50 <= attempt["duration_ms"] <= DEADLINE * 1e3 + 500


def test_it_sends_ten_gigabytes_or_a_bomb(portal: World, attempts: Attempts):
    """R2: at most 64 KiB kept, under 5 MB of memory, judged by status, marked truncated."""

    def peak() -> int:
        status = Path(f"/proc/{portal.parts['worker-1'].pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    first = Attempts(portal)
    first.at(says(OK))
    first.made()
    first.close()
    before = peak()
    attempts.at(floods(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", bytes(100_000)))
    bomb = gzip.compress(bytes(100_000_000))
    attempts.at(
        says(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
            + bomb
        )
    )
    attempts.at(floods(b"HTTP/1.1 500 No\r\nContent-Length: 10000000000\r\n\r\n", bytes(100_000)))
    for attempt, status in zip(attempts.made(), (200, 200, 500), strict=True):
        assert attempt["status"] == status
        assert attempt["delivery"]["state"] == ("succeeded" if status == 200 else "pending")
        assert attempt["response"]["truncated"]
    (kept,) = portal.rows("SELECT max(length(response_body)) FROM attempt_payload")
    assert kept == (MAX_BODY,)
    assert peak() - before < 5_000


def test_it_answers_broken(attempts: Attempts):
    """R3: a named error."""
    attempts.at(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"))
    attempts.at(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n"))
    attempts.at(resets)
    attempts.at(says(b"SSH-2.0-OpenSSH_9\r\n"))
    attempts.at(says(b""))
    made = attempts.made()
    assert [attempt["error"] for attempt in made] == [
        "answer_cut_short",
        "not_http",
        "connection_reset",
        "not_http",
        "empty_answer",
    ]
    assert all(attempt["error_detail"] for attempt in made)
    assert {attempt["delivery"]["state"] for attempt in made} == {"pending"}


def test_it_asks_for_time(attempts: Attempts):
    """R4: 429 and 503 with Retry-After, honoured within its clamp."""
    date = email.utils.formatdate(time.time() + 3_000, usegmt=True).encode()
    asked: list[tuple[bytes, float]] = [
        (b"Retry-After: 0", 600),
        (b"Retry-After: 2400", 2_400),
        (b"Retry-After: " + date, 3_000),
        (b"Retry-After: -1", 600),
        (b"Retry-After: soon", 600),
        (b"Retry-After: 1000000000000", MAX_RETRY_AFTER_SECONDS),
        (b"Retry-After: 5\r\nRetry-After: 2400", 2_400),
    ]
    for header, _ in asked:
        attempts.at(says(b"HTTP/1.1 503 Busy\r\n" + header + b"\r\n" + EMPTY))
    for (header, seconds), attempt in zip(asked, attempts.made(), strict=True):
        assert attempt["status"] == 503
        waits = attempt["delivery"]["next_attempt_at"] - attempt["attempted_at"]
        # A tenth of jitter either way, and the seconds in which all of this happens.
        assert seconds * 0.9 - 20 <= waits <= seconds * 1.1 + 20, header


def test_it_redirects(attempts: Attempts, browser: requests.Session, portal: World):
    """R5: one request, failed, and the portal says where it leads."""
    elsewhere = RawReceiver(says(OK))
    target = b"http://127.0.0.1:%d/new" % elsewhere.port
    loop = attempts.at(says(b"HTTP/1.1 301 Moved\r\nLocation: /hook\r\n" + EMPTY))
    other = attempts.at(says(b"HTTP/1.1 307 Moved\r\nLocation: " + target + b"\r\n" + EMPTY))
    made = attempts.made()
    assert [attempt["status"] for attempt in made] == [301, 307]
    assert {attempt["delivery"]["state"] for attempt in made} == {"pending"}
    assert [len(receiver.requests) for receiver in (loop, other, elsewhere)] == [1, 1, 0]
    page = browser.get(f"{portal.url}/m/alice/attempts/{made[1]['request_id']}", timeout=15).text
    assert target.decode() in page
    assert "Use the URL that it redirects to" in page
    elsewhere.close()


def test_its_certificate_is_no_good(portal: World, attempts: Attempts):
    """R6: a `tls_…` error, and never plain text."""
    wrong_host, expired = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in TRUSTED)
    for context, name in zip((wrong_host, expired), TRUSTED, strict=True):
        context.load_cert_chain(portal.directory / f"{name}.pem")
    self_signed = certificate(portal.directory, host="127.0.0.1", days=30)
    old = certificate(portal.directory, host="127.0.0.1", days=30)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1
    receivers = [
        attempts.at(says(OK), context, "https")
        for context in (self_signed, old, None, expired, wrong_host)
    ]
    errors = [attempt["error"] for attempt in attempts.made()]
    assert errors[:3] == ["tls_self_signed", "tls_failed", "tls_failed"]
    if os.geteuid() == 0:
        assert errors[3:] == ["tls_expired", "tls_wrong_host"]
    else:
        # Only root can make the portal trust them, and then the reason is another.
        assert errors[3:] == ["tls_self_signed", "tls_self_signed"]
    assert b"order.created" not in b"".join(b"".join(one.requests) for one in receivers)


def test_it_answers_with_bytes_that_are_no_text(
    portal: World, attempts: Attempts, browser: requests.Session
):
    """R7: kept as bytes, shown inert."""
    body = b"\x00\xff\xfe<script>alert(1)</script>"
    attempts.at(
        says(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=klingon\r\n"
            b"Content-Length: %d\r\n"
            b"\r\n" % len(body) + body
        )
    )
    (attempt,) = attempts.made()
    assert attempt["response"]["body_encoding"] == "base64"
    (kept,) = portal.rows(
        f"SELECT response_body FROM attempt_payload WHERE attempt_id = '{attempt['request_id']}'"
    )
    assert bytes(kept[0]) == body
    page = browser.get(f"{portal.url}/m/alice/attempts/{attempt['request_id']}", timeout=15)
    assert page.status_code == 200
    assert b"<script>alert" not in page.content
    assert b"\x00" not in page.content


def test_its_headers_are_too_many_too_long_or_contradict(attempts: Attempts):
    """R8: failed, no crash."""
    attempts.at(says(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n"))
    attempts.at(says(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 65_600 + b"\r\n\r\n"))
    attempts.at(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"))
    made = attempts.made()
    assert [attempt["error"] for attempt in made[:2]] == ["headers_too_large"] * 2
    assert made[2]["error"]
    assert {attempt["delivery"]["state"] for attempt in made} == {"pending"}


def test_it_answers_with_something_first(attempts: Attempts):
    """R9: after 100 or 103 the 200 counts."""
    attempts.at(says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK))
    attempts.at(says(b"HTTP/1.1 100 Continue\r\n\r\n" + OK))
    for attempt in attempts.made():
        assert attempt["status"] == 200
        assert "Link" not in attempt["response"]["headers"]
        assert attempt["delivery"]["state"] == "succeeded"


def test_it_is_gone_or_odd_or_brief(attempts: Attempts):
    """R10: 410 disables, 999 fails, 204 is a success."""
    attempts.at(says(b"HTTP/1.1 410 Gone\r\n" + EMPTY))
    attempts.at(says(b"HTTP/1.1 999 Denied\r\n" + EMPTY))
    attempts.at(says(b"HTTP/1.1 204 No Content\r\n\r\n"))
    made = attempts.made()
    assert [attempt["status"] for attempt in made] == [410, 999, 204]
    gone, odd, brief = (attempt["delivery"]["state"] for attempt in made)
    assert (gone, odd, brief) == ("failed", "pending", "succeeded")
    assert [webhook["enabled"] for webhook in attempts.webhooks()] == [False, True, True]


def test_it_answers_with_a_page_to_sign_in(
    portal: World, attempts: Attempts, browser: requests.Session
):
    """R11: a success, and flagged as suspicious."""
    page = b"<!doctype html><title>Sign in</title><form><input type=password></form>"
    attempts.at(
        says(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
            + page
        )
    )
    (attempt,) = attempts.made()
    assert (attempt["status"], attempt["delivery"]["state"]) == (200, "succeeded")
    shown = browser.get(f"{portal.url}/m/alice/attempts/{attempt['request_id']}", timeout=15)
    assert "A web page answered" in shown.text


def test_no_behaviour_ended_anything(portal: World):
    """After all of it every part still runs, as it began."""
    assert portal.running() == portal.parts.keys()
