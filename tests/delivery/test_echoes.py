"""A receiver that answers with the request as it came shows nobody the secrets in it."""

from __future__ import annotations

import gzip
import html
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, quote_plus

import pytest
from flask import Flask

from portal import vault
from portal.composing.compose import basic
from portal.composing.echoes import Echoes
from portal.db.session import db
from portal.delivery import actions, drain
from portal.models import AttemptPayload, Merchant
from portal.models.webhook import MASK
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_webhook

HEADER, PARAMETER, PASSWORD = 'canary "header" & ä/1', "canary parameter+2/ü", "canary-password"


class Echo(BaseHTTPRequestHandler):
    """Answers as services do that show what they got."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        got = self.headers["X-Key"].encode("latin-1").decode()
        sent = [self.path, got, self.headers["Authorization"], PASSWORD, PARAMETER]
        shown = "\n".join(
            [
                *sent,
                json.dumps(sent),
                json.dumps(sent, ensure_ascii=False).replace("/", "\\/"),
                *map(html.escape, sent),
                *map(quote, sent),
            ]
        ).encode()
        self.send_response(400)
        self.send_header("Location", f"https://elsewhere.example{self.path}")
        self.send_header("X-Echo", self.headers["Authorization"])
        self.send_header("Content-Length", str(len(shown)))
        self.end_headers()
        self.wfile.write(shown)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def echo() -> Iterator[str]:
    """The URL of a receiver that answers with the request."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/echo"
    server.shutdown()
    server.server_close()


@on_both_databases
def test_a_receiver_that_sends_the_request_back_puts_no_secret_into_the_log(
    app: Flask, merchant: Merchant, echo: str
):
    webhook = make_webhook(
        merchant,
        echo,
        retry_schedule=[0],
        headers=[{"name": "X-Key", "value": vault.encrypt(HEADER), "secret": True}],
        query_params=[
            {"name": "key", "value": vault.encrypt(PARAMETER), "secret": True},
            {"name": "shop", "value": "seven-hundred", "secret": False},
        ],
        auth={"type": "basic", "user": "ann", "password": vault.encrypt(PASSWORD)},
    )
    make_delivery(make_event(merchant), webhook)
    drain.drain(webhook.lane)
    actions.send_test(webhook.merchant_id, webhook.id, "order.created", "user:ann@example.com")
    payloads = db.session.query(AttemptPayload).all()
    assert len(payloads) >= 2
    for payload in payloads:
        logged = f"{payload.response_headers}{payload.response_body.decode()}"
        assert "canary" not in logged
        assert basic("ann", PASSWORD).removeprefix("Basic ") not in logged
        # What is no secret stays.
        assert "shop=seven-hundred" in logged
        assert "********" in payload.response_body.decode()
        assert MASK in dict(json.loads(payload.response_headers))["Location"]


@pytest.mark.parametrize("spell", [str, quote_plus, html.escape, lambda text: json.dumps(text)])
def test_a_secret_is_found_however_it_is_spelled(spell):
    echoes = Echoes([f"Bearer {HEADER}", PARAMETER])
    for secret in (HEADER, PARAMETER):
        assert "canary" not in echoes.without(f"got {spell(secret)}")
        assert b"canary" not in echoes.without_in_body(f"got {spell(secret)}".encode())


def test_what_every_text_holds_is_left_and_a_body_does_not_grow():
    assert Echoes(["a", "42"]).without("a 42") == "a 42"
    assert not Echoes(["", "abc"])
    assert len(Echoes(["abcd"]).without_in_body(b"abcd" * 16_384)) == 65_536


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda body: body])
@pytest.mark.parametrize("charset", ["utf-8", "utf-16"])
def test_a_secret_is_found_in_a_body_that_is_packed_or_wide(
    pack: Callable[[bytes], bytes], charset: str
):
    echoes = Echoes([PASSWORD])
    packed = pack(f"you sent {PASSWORD}, they said".encode(charset))
    masked = echoes.without_in_body(packed, "gzip")
    assert masked.decode(charset) == "you sent ********, they said"
    harmless = pack("you sent nothing".encode(charset))
    assert echoes.without_in_body(harmless, "gzip") == harmless
    # What unpacks to more than is kept is cut.
    bomb = pack(PASSWORD.encode(charset) + b"x" * 10_000_000)
    if len(bomb) < 1_000_000:
        assert len(echoes.without_in_body(bomb, "gzip")) <= 65_536
