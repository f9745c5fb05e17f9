"""What one merchant with an editor's account and a write key, a receiver of theirs, a stranger, or
whoever reaches Redis tries against the others. Each is made anew by a seeded die, and says what may
come of it: a refusal in the product's words, never a 500."""

from __future__ import annotations

import contextlib
import json
import pickle
import random
import re
import socket
import string
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from liquid import Environment
from redis.exceptions import RedisError
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from portal.db.session import db
from portal.models import ApiKey, Merchant
from tests import factories
from tests.faults.world import World
from tests.raw_receiver import RawReceiver

PATIENCE_SECONDS = 40
"""Within which everything is answered, whatever is asked for."""
REFUSED = frozenset(
    {400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 415, 419, 422, 429, 431, 503}
)
FILTERS = sorted(Environment().filters)
INSIDE = (
    "10.0.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "100.64.0.1",
    "192.168.1.1",
    "2130706434",
    "0x7f000002",
    "0177.0.0.2",
    "127.0.2",
    "[fd00::1]",
    "[::ffff:10.0.0.1]",
    "[fe80::1]",
    "[64:ff9b::a00:1]",
    "user@10.0.0.1",
    "10.0.0.1.",
    "[::]",
    "224.0.0.1",
    "255.255.255.255",
)


class Attacker:
    """A merchant, `mallory`, with all that an editor has, in a portal that others use too."""

    def __init__(self, world: World):
        self._world = world
        self._own = threading.local()
        with world.app.app_context():
            merchant = factories.make_merchant("mallory")
            key, self._key = ApiKey.make(merchant, "write")
            db.session.add(key)
            db.session.commit()
            self._merchant = Merchant(id=merchant.id)
        self._theirs = world.webhook()
        self._browser = world.sign_in(self._merchant)
        self.marker = world.directory / "ran"
        self._receivers = [RawReceiver(behave) for behave in (_drip, _headers, _extensions, _flood)]
        self.attacks: dict[str, Callable[[], None]] = {
            "template": self._template,
            "template in a preview": self._preview,
            "schema": self._schema,
            "search": self._search,
            "deep event": self._deep_event,
            "batch": self._batch,
            "hostile receiver": self._hostile_receiver,
            "test of a receiver that hangs": self._test,
            "target inside": self._inside,
            "slow sockets": self._slow_sockets,
            "garbage": self._garbage,
            "form bomb": self._form,
            "sign-in by any method": self._sign_in,
            "another's things": self._others,
            "stalled download": self._download,
            "forged job": self._job,
            "words in mail": self._mail,
            "pages without pause": self._pages,
        }

    def throw(self, dice: random.Random) -> None:
        """Have this thread's attacks made by these dice, so that a seed makes the same ones."""
        self._own.dice = dice

    @property
    def _dice(self) -> random.Random:
        dice: random.Random = self._own.dice
        return dice

    # -- asking ------------------------------------------------------------------------------

    def _call(
        self, method: str, path: str, content: Any = None, **params: Any
    ) -> requests.Response:
        answer = requests.request(
            method,
            f"{self._world.url}/api/v1{path}",
            timeout=PATIENCE_SECONDS,
            params=params,
            data=None if content is None else json.dumps(content),
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
        )
        return _expect(answer, {200, 201, 202, 204})

    def _post(self, path: str, data: Any, **headers: str) -> requests.Response:
        form = f"{self._world.url}/m/mallory/webhooks/new"
        page = self._browser.get(form, timeout=PATIENCE_SECONDS)
        found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        token = found[1] if found else ""
        if isinstance(data, dict):
            data = data | {"csrf_token": token}
        return _expect(
            self._browser.post(
                f"{self._world.url}{path}",
                data=data,
                timeout=PATIENCE_SECONDS,
                allow_redirects=False,
                headers=headers | {"X-CSRFToken": token},
            ),
            {200, 302, 303},
        )

    def _webhook(self, **fields: Any) -> str | None:
        url = fields.pop("url", self._world.receiver.url("/mallory"))
        answer = self._call("POST", "/webhooks", {"url": url, "events": ["*"]} | fields)
        return answer.json()["id"] if answer.status_code == 201 else None

    @contextlib.contextmanager
    def _for_a_while(self, **fields: Any) -> Any:
        webhook = self._webhook(**fields)
        try:
            yield webhook
        finally:
            if webhook:
                self._call("DELETE", f"/webhooks/{webhook}")

    # -- untrusted work ------------------------------------------------------------------------

    def _liquid(self, depth: int = 0) -> str:
        dice = self._dice
        value = dice.choice(
            (
                "event.data.text",
                "event.data",
                "event.data.items",
                "'" + "a,b;" * 50 + "'",
                "1e300",
                "99999999999999999999",
                "nil",
                "event.data.paid",
                "(1..99999)",
                "'%999d'",
            )
        )
        chain = "".join(
            f" | {dice.choice(FILTERS)}"
            + (
                ": "
                + ", ".join(
                    dice.choices(
                        ("5", "-1", "'a'", "nil", "event.data", "1.5e9"), k=dice.randint(1, 3)
                    )
                )
                if dice.random() < 0.6
                else ""
            )
            for _ in range(dice.randint(1, 6))
        )
        inner = "{{ i" + chain + " }}"
        if depth < 4 and dice.random() < 0.6:
            inner = self._liquid(depth + 1)
        return dice.choice(
            (
                f"{{{{ {value}{chain} }}}}",
                f"{{% for i in (1..{dice.choice((9, 99, 9999))}) %}}{inner}{{% endfor %}}",
                f"{{% assign x = {value}{chain} %}}{{{{ x{chain} }}}}{inner}",
                f"{{% capture c %}}{inner}{{% endcapture %}}{{{{ c | append: c | append: c }}}}",
                "{% if " * dice.randint(1, 90) + value,
            )
        )

    def _data(self) -> dict[str, Any]:
        dice = self._dice
        letters = string.printable + "ß€🐟\u2028"
        return {
            "text": "".join(dice.choices(letters, k=dice.choice((9, 9_000)))),
            "items": [dice.choice((1, "a", None, {"n": [1.5]}, -1e300))] * dice.choice((1, 3_000)),
            "paid": dice.choice(("67768036191676800", "1e999", "now", "0000-00-00", "")),
        }

    def _template(self) -> None:
        place = self._dice.choice(("body_template", "headers", "query_params"))
        text = self._liquid()
        with self._for_a_while(**{place: text if place == "body_template" else {"X-A": text}}):
            for _ in range(self._dice.randint(1, 5)):
                self._call("POST", "/events", {"type": "order.created", "data": self._data()})

    def _preview(self) -> None:
        self._post(
            "/m/mallory/webhooks/preview",
            {
                "url": self._world.receiver.url(),
                "events": "*",
                "body_template": self._liquid(),
                "method": "POST",
                "sample": json.dumps(self._data()),
            },
        )

    def _schema(self) -> None:
        dice = self._dice
        schema: dict[str, Any] = {
            "properties": {"a": dice.choice((True, {"pattern": "(a+)+$"}, {}))}
        }
        for _ in range(dice.randint(1, 30)):
            schema = dice.choice(
                (
                    {"allOf": [schema, schema], "unevaluatedProperties": False},
                    {"anyOf": [schema] * dice.randint(1, 9), "unevaluatedItems": False},
                    {"$defs": {"x": schema}, "$ref": "#/$defs/x"},
                    {"not": schema},
                    {"propertyNames": {"pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}, "items": schema},
                    {"enum": list(range(dice.choice((2, 20_000))))},
                    {"uniqueItems": True, "not": schema},
                )
            )
        name = f"order.x{dice.randrange(20)}"
        self._call("POST", "/event-types", {"name": name, "schema": schema})
        data = {"a": "a" * 30 + "!", "b": [[]] * 900}
        self._call("POST", "/events", {"type": name, "data": data})

    def _search(self) -> None:
        dice = self._dice
        text = dice.choice(
            ("x" * 250 + "y", "%" * 200, "_" * 99, "\\%_'\"", "ß" * 120, "a\x00b", "🐟")
        )
        path = dice.choice(("/events", "/events", "/attempts", "/deliveries"))
        if dice.random() < 0.3:
            big = {"type": "order.created", "data": {"text": "x" * dice.choice((1_000, 900_000))}}
            self._call("POST", "/events", big)
        self._call(
            "GET",
            path,
            **{
                dice.choice(
                    ("text", "type", "object_id", "cursor", "since", "status", "limit")
                ): text
            },
        )

    def _deep_event(self) -> None:
        dice = self._dice
        depth = dice.choice((10, 70, 5_000, 200_000))
        text = dice.choice(
            (
                '{"type":"order.created","data":' + '{"a":' * depth + "1" + "}" * depth + "}",
                '{"type":"order.created","data":' + "[" * depth,
                '{"type":"' + "a." * depth + '"}',
                '{"type":"order.created","data":{"n":' + "9" * depth + "}}",
                '{"type":"order.created","data":{'
                + ",".join(f'"a{n}":1' for n in range(depth))
                + "}}",
            )
        )
        _expect(
            requests.post(
                f"{self._world.url}/api/v1/events",
                data=text.encode(),
                timeout=PATIENCE_SECONDS,
                headers={
                    "Authorization": f"Bearer {self._key}",
                    "Content-Type": "application/json",
                },
            ),
            {202},
        )

    def _batch(self) -> None:
        order = {"type": "order.created", "object_id": "1", "data": self._data()}
        with contextlib.ExitStack() as stack:
            for _ in range(self._dice.randint(1, 8)):
                stack.enter_context(self._for_a_while())
            self._call("POST", "/events", {"events": [order] * self._dice.choice((50, 400))})

    # -- deliveries ----------------------------------------------------------------------------

    def _hostile_receiver(self) -> None:
        port = self._dice.choice(self._receivers).port
        with self._for_a_while(url=f"http://127.0.0.1:{port}/"):
            for _ in range(self._dice.randint(1, 12)):
                self._call("POST", "/events", {"type": "order.created"})
            time.sleep(self._dice.uniform(0, 1))

    def _test(self) -> None:
        with self._for_a_while(url=f"http://127.0.0.1:{self._receivers[0].port}/") as webhook:
            if webhook:
                self._call("POST", f"/webhooks/{webhook}/test")

    def _inside(self) -> None:
        url = f"http{self._dice.choice(('', 's'))}://{self._dice.choice(INSIDE)}/latest/meta-data"
        answer = self._call("POST", "/webhooks", {"url": url, "events": ["*"]})
        assert answer.status_code in REFUSED, (url, answer.text)

    # -- the front door ------------------------------------------------------------------------

    def _open(self, *pieces: bytes) -> socket.socket:
        connection = socket.create_connection((self._world.host, self._world.port), timeout=5)
        for piece in pieces:
            connection.sendall(piece)
        return connection

    def _slow_sockets(self) -> None:
        dice = self._dice
        begin = dice.choice(
            (
                b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200\r\n\r\na",
                b"GET /sign-in HTTP/1.1\r\nHost: loc",
                b"",
                b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                b"\r\n1\r\na",
                b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: 15000000\r\n\r\n" + b"x" * 70_000,
            )
        )
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for _ in range(dice.choice((20, 60, 120))):
                stack.enter_context(self._open(begin))
            time.sleep(dice.uniform(1, 5))

    def _garbage(self) -> None:
        dice = self._dice
        with (
            contextlib.suppress(OSError),
            self._open(
                dice.choice(
                    (
                        dice.randbytes(4_000),
                        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
                        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                        b"\x16\x03\x01\x02\x00" * 99,
                        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /",
                        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\nCookie: "
                        + b"a=b;" * 3_000
                        + b"\r\n\r\n",
                    )
                )
            ) as connection,
        ):
            said = connection.recv(100)
            assert not said.startswith(b"HTTP/1.1 5"), said

    def _form(self) -> None:
        dice = self._dice
        body = dice.choice((b"a&", b"a=%", b"a[]=1&", b"\xff=", b"csrf_token=a&")) * dice.choice(
            (2_000, 400_000)
        )
        path = dice.choice(("/sign-in", "/forgot-password", "/m/mallory/webhooks", "/csp-reports"))
        with contextlib.suppress(requests.ConnectionError):
            _expect(
                requests.post(
                    f"{self._world.url}{path}",
                    data=body,
                    timeout=PATIENCE_SECONDS,
                    headers={
                        "Content-Type": dice.choice(
                            (
                                "application/x-www-form-urlencoded",
                                "multipart/form-data; boundary=a&",
                                "application/json",
                                "text/plain",
                            )
                        )
                    },
                ),
                {200, 204},
            )

    def _sign_in(self) -> None:
        method = self._dice.choice(("HEAD", "PUT", "POST", "OPTIONS", "PROPFIND", "GET"))
        answer = requests.request(
            method,
            f"{self._world.url}/sign-in",
            timeout=PATIENCE_SECONDS,
            allow_redirects=False,
            data={"email": self._owner(), "password": "correct horse battery"},
        )
        _expect(answer, {200})
        assert "set-cookie" not in answer.headers or "remember" not in answer.headers["set-cookie"]

    def _owner(self) -> str:
        return str(self._world.rows("SELECT email FROM user_account ORDER BY id LIMIT 1")[0][0])

    def _others(self) -> None:
        for path in (f"/webhooks/{self._theirs}", f"/webhooks/{self._theirs}/deliveries"):
            assert self._call("GET", path).status_code == 404
        for method, path in (
            ("PATCH", f"/webhooks/{self._theirs}"),
            ("DELETE", f"/webhooks/{self._theirs}"),
            ("POST", f"/webhooks/{self._theirs}/test"),
            ("POST", f"/webhooks/{self._theirs}/rotate-secret"),
        ):
            content = {"url": "https://example.com/"} if method == "PATCH" else None
            assert self._call(method, path, content).status_code in (404, 405)
        page = self._browser.get(f"{self._world.url}/m/alice/", timeout=PATIENCE_SECONDS)
        assert page.status_code in (403, 404)
        assert "alice's store" not in page.text

    def _download(self) -> None:
        cookies = "; ".join(f"{one.name}={one.value}" for one in self._browser.cookies)
        path = self._dice.choice(("export/events.csv", "live/events", "export/attempts.json"))
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for _ in range(self._dice.randint(1, 9)):
                stack.enter_context(
                    self._open(
                        f"GET /m/mallory/{path} HTTP/1.1\r\nHost: {self._world.host}\r\n"
                        f"Cookie: {cookies}\r\n\r\n".encode()
                    )
                )
            time.sleep(self._dice.uniform(1, 4))

    def _pages(self) -> None:
        path = self._dice.choice(("attempts", "events", "", "webhooks/new", "event-types"))
        end = time.monotonic() + 2

        def ask(_number: int) -> None:
            while time.monotonic() < end:
                _expect(
                    requests.get(
                        f"{self._world.url}/m/mallory/{path}",
                        cookies=self._browser.cookies,
                        timeout=PATIENCE_SECONDS,
                    ),
                    {200},
                )

        with ThreadPoolExecutor(20) as threads:
            list(threads.map(ask, range(20)))

    # -- the queue, mail ----------------------------------------------------------------------

    def _job(self) -> None:
        dice = self._dice
        with contextlib.suppress(RedisError):
            redis = self._world.redis
            queues = redis.smembers("rq:queues")
            names = [name.decode().removeprefix("rq:queue:") for name in queues]
            if not names:
                return
            queue = Queue(dice.choice(sorted(names)), connection=redis, serializer=JSONSerializer)
            name = dice.choice(
                (
                    "os.system",
                    "subprocess.call",
                    "builtins.exec",
                    "portal.jobs.sweep",
                    "portal.vault.seal",
                    "pathlib.Path.touch",
                    "portal.jobs.__class__",
                )
            )
            arguments = dice.choice(([f"touch {self.marker}"], [str(self.marker)], [10**400], [{}]))
            job = Job.create(name, args=arguments, connection=redis, serializer=JSONSerializer)
            job.save()
            if dice.random() < 0.5:
                pickled = zlib.compress(pickle.dumps(_Opened(self.marker)))
                redis.hset(job.key, dice.choice(("data", "meta", "success_callback_name")), pickled)
            queue.push_job_id(job.id)

    def _mail(self) -> None:
        words = self._dice.choice(
            (
                "=?utf-8?q?=0D=0AReply-To:mallory?=",
                "=?utf-7?q?+2AA-?=",
                "a\r\nBcc: all@example.com",
                "\ud800",
                "x" * 499,
                "<b>&amp;",
                "\u202egnp.exe",
            )
        )
        with self._for_a_while(description=words):
            requests.post(
                f"{self._world.url}/forgot-password",
                timeout=PATIENCE_SECONDS,
                data={"email": f"{words}@example.com".encode(errors="surrogatepass")},
            )


class _Opened:
    """What a pickle can do when it is loaded."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def _expect(answer: requests.Response, taken: set[int]) -> requests.Response:
    assert answer.status_code in REFUSED | taken, (
        answer.request.method,
        answer.url[:200],
        answer.status_code,
        answer.text[:300],
    )
    return answer


def _drip(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 400:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def _headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(20_000):
        connection.sendall(b"X-%d: %s\r\n" % (number, b"y" * 500))


def _extensions(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    for _ in range(20_000):
        connection.sendall(b"a" * 4_000)


def _flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
    for _ in range(20_000):
        connection.sendall(b"\x1f\x8b\x08\x00" + b"\0" * 4_000)
