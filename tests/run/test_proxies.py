"""The proxies of docs/operators.md, as they stand there, in front of a real portal."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from flask import Flask

from portal.models import Merchant
from tests.certificates import Authority
from tests.conftest import PASSWORD
from tests.factories import make_user
from tests.front_server import BODY_SECONDS, HEAD_SECONDS, SHARE
from tests.ports import free_port

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("kind", ["nginx", "caddy"])]

ROOT = Path(__file__).resolve().parents[2]
HOST = "hooks.example.com"


def block(kind: str) -> str:
    """The proxy's configuration in docs/operators.md."""
    text = (ROOT / "docs" / "operators.md").read_text()
    opening = {"nginx": "```nginx\n", "caddy": "```\n" + HOST}[kind]
    found = re.search(rf"{re.escape(opening)}.*?```", text, re.DOTALL)
    assert found is not None
    return found[0].removeprefix("```nginx\n").removeprefix("```\n").removesuffix("```")


def replaced(text: str, **changes: str) -> str:
    """The text with what differs here; each must stand in it."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


class Proxy:
    """One of the documented proxies, and a client before it, from an address of its own."""

    def __init__(self, kind: str, directory: Path, portal: int, program: str):
        self.port = free_port()
        self._authority = Authority(directory)
        certificate, key = directory / "certificate.pem", directory / "key.pem"
        for path, text in zip(
            (certificate, key), self._authority.issue(HOST, host=HOST), strict=True
        ):
            path.write_text(text)
        make = {"nginx": self._nginx, "caddy": self._caddy}[kind]
        command = make(directory, portal, certificate, key)
        self.process = subprocess.Popen(
            [program, *command], env={"HOME": str(directory), "XDG_DATA_HOME": str(directory)}
        )

    def _nginx(self, directory: Path, portal: int, certificate: Path, key: Path) -> list[str]:
        server = replaced(
            block("nginx"),
            **{
                "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
                "listen [::]:443 ssl": f"listen [::1]:{self.port} ssl",
                "client_body_timeout 10s": f"client_body_timeout {BODY_SECONDS:.0f}s",
                "client_header_timeout 10s": f"client_header_timeout {HEAD_SECONDS:.0f}s",
                "limit_conn portal 256": f"limit_conn portal {SHARE}",
                "127.0.0.1:8000": f"127.0.0.1:{portal}",
                f"/etc/letsencrypt/live/{HOST}/fullchain.pem": str(certificate),
                f"/etc/letsencrypt/live/{HOST}/privkey.pem": str(key),
            },
        )
        places = "".join(
            f"{name}_temp_path {directory}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        path = directory / "nginx.conf"
        path.write_text(
            f"daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\n"
            f"error_log stderr warn;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{places}{server}}}\n"
        )
        return ["-p", str(directory), "-e", "stderr", "-c", str(path)]

    def _caddy(self, directory: Path, portal: int, certificate: Path, key: Path) -> list[str]:
        site = replaced(
            block("caddy"),
            **{
                HOST + " {": (
                    f"https://{HOST}:{self.port} {{\nbind 127.0.0.1 ::1\ntls {certificate} {key}"
                ),
                "127.0.0.1:8000": f"127.0.0.1:{portal}",
            },
        )
        path = directory / "Caddyfile"
        path.write_text(
            "{\nadmin off\nauto_https off\nlog {\nlevel WARN\n}\n"
            f"storage file_system {directory}\n}}\n{site}"
        )
        return ["run", "--adapter", "caddyfile", "--config", str(path)]

    def client(self, address: str = "127.0.0.1") -> Client:
        """Someone at an address of loopback."""
        return Client(
            urllib3.HTTPSConnectionPool(
                "::1" if ":" in address else "127.0.0.1",
                self.port,
                server_hostname=HOST,
                assert_hostname=HOST,
                ca_certs=str(self._authority.path),
                source_address=(address, 0),
                retries=False,
                timeout=urllib3.Timeout(20),
            ),
            f"{HOST}:{self.port}",
        )

    def connect(self, address: str) -> ssl.SSLSocket:
        """A connection on which anything can be sent."""
        context = ssl.create_default_context(cafile=str(self._authority.path))
        return context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), 20, (address, 0)),
            server_hostname=HOST,
        )


class Client:
    """What a browser, or a store, sends to the proxy."""

    def __init__(self, pool: urllib3.HTTPSConnectionPool, host: str):
        self._pool, self._host = pool, host
        self._cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Make a request, with the cookies that came."""
        headers = {"Host": self._host, "Accept-Encoding": "gzip"}
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers |= options.pop("headers", {})
        answer = self._pool.request(
            method, path, headers=headers, redirect=False, decode_content=True, **options
        )
        for cookie in answer.headers.getlist("Set-Cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return answer

    def sign_in(self, email: str, password: str) -> int:
        """The status of the form's answer."""
        page = self.ask("GET", "/sign-in").data.decode()
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
        assert found is not None
        return self.ask(
            "POST",
            "/sign-in",
            encode_multipart=False,
            fields={"email": email, "password": password, "csrf_token": found[1]},
            headers={"Referer": f"https://{self._host}/sign-in", "Origin": f"https://{self._host}"},
        ).status

    def api(self, method: str, path: str, key: str, content: Any) -> urllib3.BaseHTTPResponse:
        """A store's call."""
        return self.ask(
            method,
            f"/api/v1{path}",
            body=json.dumps(content).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )


@pytest.fixture
def settings() -> dict[str, str]:
    return {"PUBLIC_URL": f"https://{HOST}", "PROXIES": "1"}


@pytest.fixture
def proxy(
    kind: str,
    app: Flask,
    tmp_path: Path,
    environment: dict[str, str],
    processes: Callable[..., Any],
    wait_for: Callable[..., None],
) -> Iterator[Proxy]:
    """The proxy, with a portal behind it."""
    program = shutil.which(kind) or shutil.which(kind, path="/usr/sbin")
    if program is None:
        pytest.skip(f"the proxy of docs/operators.md needs {kind}, which is not installed")
    portal = free_port()
    environment |= {"PORTAL_PORT": str(portal), "PORTAL_WEB_PROCESSES": "1"}
    processes("-m", "tests.front_server", "wsgi:front")
    directory = tmp_path / kind
    directory.mkdir()
    proxy = Proxy(kind, directory, portal, program)

    def listens(port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        wait_for(lambda: listens(portal) and listens(proxy.port), 60)
        yield proxy
    finally:
        proxy.process.terminate()
        proxy.process.wait(20)


def test_people_and_stores_are_served_through_it(proxy: Proxy, merchant: Merchant, api_key: str):
    user = make_user(role="owner", merchant=merchant, password=PASSWORD)
    person = proxy.client()

    # Pages, small, and under the address that people used, whatever its port.
    page = person.ask("GET", "/sign-in")
    assert page.status == 200
    assert page.headers["Content-Encoding"] == "gzip"
    assert "max-age" in page.headers["Strict-Transport-Security"]
    assert person.sign_in(user.email, PASSWORD) == 303
    assert person.ask("GET", "/m/alice/events").status == 200
    # What is for the operator alone.
    assert person.ask("GET", "/metrics").status in (403, 404)
    # A name that is not the portal's shows nothing of it.
    assert b"csrf_token" not in person.ask("GET", "/sign-in", headers={"Host": "b.example"}).data

    # A live tail brings what is there, enough to be compressed, and each event as it comes.
    store = proxy.client()
    for number in range(5):
        event = {"type": "order.created", "object_id": f"before-{number}"}
        assert store.api("POST", "/events", api_key, event).status == 202
    tail = person.ask(
        "GET",
        "/m/alice/live/events",
        headers={"Accept": "text/event-stream"},
        preload_content=False,
    )
    assert tail.status == 200
    assert tail.headers["Content-Type"].startswith("text/event-stream")
    begun = time.monotonic()
    pieces = pieces_of(tail)
    assert any("before-0" in piece for piece in pieces)
    event = {"type": "order.created", "object_id": "live-1"}
    assert store.api("POST", "/events", api_key, event).status == 202
    assert any("live-1" in piece for piece in pieces)
    assert time.monotonic() - begun < 10, "it was held back"
    tail.close()

    # The largest batch.
    record = {"text": "x" * 1_000_000}
    batch = {
        "events": [
            {"type": "order.created", "object_id": str(number), "data": record}
            for number in range(16)
        ]
    }
    assert proxy.client().api("POST", "/events", api_key, batch).status == 202


def pieces_of(tail: urllib3.BaseHTTPResponse) -> Iterator[str]:
    """What comes, as it comes."""
    while piece := tail.read1():
        yield piece.decode()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("127.0.0.2", "X-Forwarded-For"),
        ("127.0.0.2", "X_Forwarded_For"),
        ("127.0.0.2", "Forwarded"),
        ("::1", "X-Forwarded-For"),
    ],
)
def test_limits_count_the_people_before_it(proxy: Proxy, address: str, name: str):
    curious = proxy.client(address)
    statuses = [
        # Nobody chooses an address by naming one.
        curious.ask("GET", "/shared/nothing", headers={name: f"192.0.2.{look}"}).status
        for look in range(61)
    ]
    assert (statuses[0], statuses[-1]) == (404, 429)
    assert proxy.client("127.0.0.3").ask("GET", "/shared/nothing").status == 404


def test_slow_clients_before_it_keep_nobody_from_an_answer(
    proxy: Proxy, wait_for: Callable[..., None]
):
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(proxy.connect("127.0.0.2")) for _ in range(SHARE + 10)]
        for number, one in enumerate(slow):
            one.sendall(
                f"POST /sign-in HTTP/1.1\r\nHost: {HOST}:{proxy.port}\r\nContent-Length: 200\r\n"
                f"X-Forwarded-For: 192.0.2.{number}\r\n\r\nx".encode()
            )
        time.sleep(0.2)
        # The limit is the client's, whatever it says of itself; and it ends with the deadline.
        assert proxy.client("127.0.0.2").ask("GET", "/sign-in").status in (429, 503)
        for _ in range(3):
            asked = time.monotonic()
            assert proxy.client("127.0.0.3").ask("GET", "/sign-in").status == 200
            assert time.monotonic() - asked < BODY_SECONDS
        wait_for(lambda: proxy.client("127.0.0.2").ask("GET", "/sign-in").status == 200, 5)
