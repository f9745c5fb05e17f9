"""Access tokens and client certificates, on real connections to real endpoints."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import dsa, x25519
from flask import Flask

from portal import runtime, vault
from portal.composing.compose import Certificate, Frame, Outgoing
from portal.db.session import db
from portal.delivery import actions, drain
from portal.delivery.paces import Paces
from portal.errors import Invalid
from portal.events import ingest
from portal.models import Attempt, AttemptPayload, Delivery, Merchant
from portal.models.webhook import MASK
from portal.outbound import access_tokens
from portal.outbound.certificates import ends_at
from portal.outbound.libcurl import CurlTransport
from portal.outbound.response import Response
from portal.webhooks import fields, previews, setup
from tests.certificates import Authority, of_another_version, rsa_key
from tests.conftest import on_both_databases
from tests.factories import make_webhook
from tests.raw_receiver import OK, RawReceiver
from tests.receiver import Receiver

PACES = Paces(linger_seconds=0.7, poll_seconds=0.1)

ORDER = {"type": "order.created", "object_id": "1000", "data": {"total": "99.50"}}
SECRET = "s3cret+of/the client"


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1", "RETRY_SCHEDULE": "0 0 0", "HOLD_AFTER_FAILURES": "50"}


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    """A token endpoint, which gives `token-1`."""
    receiver = Receiver()
    receiver.always = gives("token-1")
    yield receiver
    receiver.close()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The one authority that the portal trusts in this test."""
    authority = Authority(tmp_path)
    monkeypatch.setattr("certifi.where", lambda: str(authority.path))
    return authority


def gives(token: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
    said = {"access_token": token, "token_type": "bearer", "expires_in": 3_600} | more
    return 200, {"Content-Type": "application/json"}, json.dumps(said).encode()


def oauth2(endpoint: Receiver, **fields: str) -> dict[str, str]:
    return {
        "type": "oauth2",
        "token_url": endpoint.url("/token"),
        "client_id": "shop:1",
        "client_secret": vault.encrypt(SECRET),
        "client_auth": "header",
        "scope": "",
        "audience": "",
    } | fields


def send(merchant: Merchant, count: int = 1) -> None:
    ingest.ingest_events(merchant.id, [ORDER] * count, batch=count > 1)


def attempts() -> list[Attempt]:
    db.session.rollback()
    return list(db.session.scalars(sa.select(Attempt).order_by(Attempt.id)))


def authorizations(receiver: Receiver) -> list[str]:
    return [request.headers["Authorization"] for request in receiver.ledger]


# ── Access tokens ─────────────────────────────────────────────────────────────────────────


@on_both_databases
def test_one_token_is_asked_for_and_carries_every_request(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver
):
    make_webhook(merchant, receiver.url(), auth=oauth2(endpoint, scope="orders hooks"))
    send(merchant, 3)
    assert drain.drain(0, paces=PACES) == 3
    assert authorizations(receiver) == ["Bearer token-1"] * 3
    (asked,) = endpoint.ledger
    assert (asked.method, asked.path) == ("POST", "/token")
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["orders hooks"],
    }
    # RFC 6749, 2.3.1: both are form-encoded before they become HTTP Basic.
    expected = base64.b64encode(b"shop%3A1:s3cret%2Bof%2Fthe+client").decode()
    assert asked.headers["Authorization"] == f"Basic {expected}"
    send(merchant)
    assert drain.drain(0, paces=PACES) == 1
    assert len(endpoint.ledger) == 1, "the next drain of this process has it still"
    assert {attempt.status for attempt in attempts()} == {200}
    kept = db.session.scalars(sa.select(AttemptPayload.request_headers)).all()
    assert "token-1" not in str(kept)
    assert MASK in str(kept)


def test_id_and_secret_go_into_the_body_where_the_endpoint_wants_them_there(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver
):
    auth = oauth2(endpoint, client_auth="body", audience="https://erp.example.com/")
    make_webhook(merchant, receiver.url(), auth=auth)
    send(merchant)
    assert drain.drain(0, paces=PACES) == 1
    (asked,) = endpoint.ledger
    assert "Authorization" not in asked.headers
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["client_credentials"],
        "audience": ["https://erp.example.com/"],
        "client_id": ["shop:1"],
        "client_secret": [SECRET],
    }


def test_a_token_that_the_target_refuses_is_asked_for_anew(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver
):
    make_webhook(merchant, receiver.url(), auth=oauth2(endpoint))
    send(merchant)
    drain.drain(0, paces=PACES)
    endpoint.always = gives("token-2")
    receiver.answers = [401]
    send(merchant)
    assert drain.drain(0, paces=PACES) == 2
    assert authorizations(receiver) == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]
    assert [attempt.status for attempt in attempts()] == [200, 401, 200]


def test_a_token_that_ends_is_asked_for_anew(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver
):
    endpoint.always = gives("token-1", expires_in="1")
    make_webhook(merchant, receiver.url(), auth=oauth2(endpoint))
    send(merchant)
    drain.drain(0, paces=PACES)
    endpoint.always = gives("token-2")
    time.sleep(1)
    send(merchant)
    drain.drain(0, paces=PACES)
    assert authorizations(receiver) == ["Bearer token-1", "Bearer token-2"]


def test_a_token_that_ends_at_once_is_used_and_not_asked_for_without_an_end(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver
):
    # So that a portal which would go on asking fails this test, and does not hang in it.
    endpoint.answers = [gives("token-1", expires_in=0.000001)] * 20 + [500]
    make_webhook(merchant, receiver.url(), auth=oauth2(endpoint))
    send(merchant)
    drain.drain(0, paces=PACES)
    assert authorizations(receiver) == ["Bearer token-1"]
    assert len(endpoint.ledger) == 1


def test_where_many_tokens_are_kept_another_one_is_used_too(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(access_tokens, "KEPT", 2)
    endpoint.answers = [gives(f"token-{number}") for number in range(4)] + [500] * 20
    for number in range(4):
        make_webhook(merchant, receiver.url(), auth=oauth2(endpoint, client_id=f"shop:{number}"))
    send(merchant)
    drain.drain(0, paces=PACES)
    assert sorted(authorizations(receiver)) == [f"Bearer token-{number}" for number in range(4)]
    assert len(runtime.part(access_tokens.Tokens).by_client) == 2


def test_what_tokens_take_of_the_memory_is_bounded_and_the_longest_go(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(access_tokens, "KEPT_CHARACTERS", 40_000)
    long = "x" * 15_000
    endpoint.answers = [gives("short"), *[gives(f"{long}{number}") for number in range(4)]]
    for number in range(5):
        make_webhook(merchant, receiver.url(), auth=oauth2(endpoint, client_id=f"shop:{number}"))
    send(merchant)
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 5, "one that did not stay was used too"
    kept = [token.value for token in runtime.part(access_tokens.Tokens).by_client.values()]
    assert len(kept) == 3
    assert "short" in kept


@on_both_databases
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        # What no database takes must not keep the attempts of others from being recorded.
        (
            (400, {}, b'{"error": "a\\u0000b\\ud800c", "error_description": "\\u001b[31m"}'),
            "answered 400 (a\ufffdb\ufffdc: \ufffd[31m)",
        ),
        # Nor is a secret at the end of what is kept cut, so that its mask no longer fits.
        (
            (400, {}, json.dumps({"error": "x" * 290 + SECRET}).encode()),
            "answered 400 (" + "x" * 290 + MASK + ")",
        ),
        (
            (
                400,
                {},
                json.dumps(
                    {"error": base64.b64encode(b"shop%3A1:s3cret%2Bof%2Fthe+client").decode()}
                ).encode(),
            ),
            f"answered 400 ({MASK})",
        ),
        (gives("x", token_type=SECRET), f"gave a token of the type {MASK}, not Bearer"),
        (
            (
                400,
                {},
                json.dumps(
                    {"error": "invalid_client", "error_description": f"no client with {SECRET}"}
                ).encode(),
            ),
            f"answered 400 (invalid_client: no client with {MASK})",
        ),
        ((200, {}, b"<html>Sign in</html>"), "answered 200 without an access_token"),
        ((200, {}, b'{"access_token": "a\\r\\nX: y"}'), "answered 200 without an access_token"),
        (gives("x", token_type="mac"), "gave a token of the type mac, not Bearer"),
        ((302, {"Location": "/elsewhere"}, b""), "answered 302"),
    ],
)
def test_without_a_token_nothing_is_sent_and_the_log_says_why(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver, answer: Any, said: str
):
    make_webhook(merchant, receiver.url(), auth=oauth2(endpoint))
    endpoint.answers = [answer]
    send(merchant)
    assert drain.drain(0, paces=PACES) == 2
    failed, succeeded = attempts()
    assert (failed.status, failed.error) == (None, "token_failed")
    assert said in (failed.error_detail or "")
    assert SECRET not in (failed.error_detail or "")
    assert succeeded.status == 200, "it is tried again as any other failure is"
    assert len(receiver.ledger) == 1


def test_a_token_endpoint_inside_is_never_connected_to(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver
):
    auth = oauth2(endpoint)
    inside = f"http://127.0.0.2:{endpoint.port}/token"
    outgoing = access_tokens.request(access_tokens.Client(inside, "shop", SECRET))
    transport: CurlTransport[None] = CurlTransport(())
    transport.submit(outgoing, 5, None)
    answer = _answer_of(transport)
    assert answer.error == "egress_refused"
    with pytest.raises(Invalid) as refused:
        setup.create_webhook(
            merchant.id,
            {
                "url": receiver.url(),
                "events": ["*"],
                "auth": auth | {"token_url": "http://169.254.169.254/token", "client_secret": "x"},
            },
            "test",
        )
    assert [error.pointer for error in refused.value.errors] == ["/auth/token_url"]
    assert endpoint.ledger == []


def test_a_test_and_a_preview_take_the_same_way(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver
):
    webhook = make_webhook(merchant, receiver.url(), auth=oauth2(endpoint))
    preview = previews.make(merchant.id, fields.columns(webhook), webhook)
    assert ("Authorization", MASK) in preview.headers
    assert endpoint.ledger == [], "a preview asks nobody"
    attempt = actions.send_test(webhook.merchant_id, webhook.id, "order.created", "test")
    assert (attempt.status, authorizations(receiver)) == (200, ["Bearer token-1"])
    endpoint.always = 503
    receiver.answers = [401]
    assert actions.send_test(webhook.merchant_id, webhook.id, "order.created", "test").status == 401
    assert (
        actions.send_test(webhook.merchant_id, webhook.id, "order.created", "test").error
        == "token_unavailable"
    )


def test_another_server_for_tokens_gets_no_secret_unseen(
    merchant: Merchant, receiver: Receiver, endpoint: Receiver
):
    auth = oauth2(endpoint)
    webhook = make_webhook(merchant, receiver.url(), auth=auth)
    moved = {name: auth[name] for name in ("type", "client_id")} | {
        "token_url": receiver.url("/token")
    }
    with pytest.raises(Invalid) as refused:
        setup.update_webhook(
            webhook.merchant_id, webhook.id, {"auth": moved}, "test", webhook.version
        )
    (error,) = refused.value.errors
    assert error.pointer == "/auth/client_secret"
    setup.update_webhook(
        webhook.merchant_id,
        webhook.id,
        {"auth": moved | {"client_secret": "another"}},
        "test",
        webhook.version,
    )


# ── Client certificates ───────────────────────────────────────────────────────────────────


def _stays(connection: socket.socket, names: list[str]) -> None:
    """Answer each request on a connection, noting whose certificate it carries."""
    while True:
        certificate: Any = connection.getpeercert()  # type: ignore[attr-defined]
        names.append(dict(pair for (pair,) in certificate["subject"])["commonName"])
        connection.sendall(OK)
        if not connection.recv(65_536):
            return


@pytest.fixture
def seen() -> list[str]:
    return []


@pytest.fixture
def gateway(authority: Authority, seen: list[str]) -> Iterator[RawReceiver]:
    """A receiver that asks its clients for a certificate, and answers several requests."""
    receiver = RawReceiver(
        lambda connection: _stays(connection, seen), authority.server(asks_clients=True)
    )
    yield receiver
    receiver.close()


def test_the_receiver_sees_the_certificate_of_each_webhook_and_of_none_other(
    merchant: Merchant, authority: Authority, gateway: RawReceiver, seen: list[str]
):
    url = f"https://127.0.0.1:{gateway.port}/hook"
    for name in ("north", "south"):
        chain, key = authority.issue(name)
        make_webhook(
            merchant,
            url,
            auth={"type": "certificate", "certificate": chain, "key": vault.encrypt(key)},
        )
    make_webhook(merchant, url, description="without", max_in_flight=1)
    send(merchant, 5)
    drain.drain(0, paces=PACES)
    assert sorted(seen) == ["north"] * 5 + ["south"] * 5
    db.session.rollback()
    states = list(db.session.scalars(sa.select(Delivery.state)))
    assert (states.count("succeeded"), states.count("failed")) == (10, 5)
    errors = {attempt.error for attempt in attempts() if attempt.error}
    # Its word for it may be lost as the connection is reset.
    assert "tls_client_certificate" in errors
    assert errors <= {"tls_client_certificate", "connection_reset"}


def test_a_handle_that_carried_a_certificate_carries_none_for_the_next(
    authority: Authority, gateway: RawReceiver, seen: list[str], app: Flask
):
    chain, key = authority.issue("north")
    allow = app.config["PORTAL"].egress_allow
    transport: CurlTransport[None] = CurlTransport(allow)
    url = f"https://127.0.0.1:{gateway.port}/"
    for certificate in (Certificate(chain, key), None, Certificate(chain, key)):
        frame = Frame("POST", url, [], url, [], certificate)
        transport.submit(Outgoing(frame, [], b"{}", "record"), 5, None)
        answer = _answer_of(transport)
        assert (answer.status == 200) == (certificate is not None)
    assert set(seen) == {"north"}
    transport.close()


def test_a_certificate_and_a_key_that_belong_together_are_stored(
    merchant: Merchant, authority: Authority
):
    chain, key = authority.issue("north")
    _, other_key = authority.issue("south")

    def refused(url: str = "https://8.8.8.8/", **auth: str) -> dict[str, str]:
        fields = {"url": url, "events": ["*"], "auth": {"type": "certificate"} | auth}
        with pytest.raises(Invalid) as error:
            setup.create_webhook(merchant.id, fields, "test")
        return {one.pointer: one.message for one in error.value.errors}

    assert "does not belong" in refused(certificate=chain, key=other_key)["/auth/key"]
    assert "BEGIN CERTIFICATE" in refused(certificate="x", key=key)["/auth/certificate"]
    assert "BEGIN PRIVATE KEY" in refused(certificate=chain, key="x")["/auth/key"]
    # One of Ed448 that is as short as one of Ed25519, of which OpenSSL has no word to say.
    short = base64.b64encode(bytes.fromhex("302e020100300506032b657104220420") + bytes(32)).decode()
    key_of_448 = f"-----BEGIN PRIVATE KEY-----\n{short}\n-----END PRIVATE KEY-----\n"
    assert "BEGIN PRIVATE KEY" in refused(certificate=chain, key=key_of_448)["/auth/key"]
    assert "Give the private key" in refused(certificate=chain)["/auth/key"]
    assert "private key" in refused(certificate=chain + key, key=key)["/auth/certificate"]
    assert "https://" in refused("http://8.8.8.8/", certificate=chain, key=key)["/auth/type"]
    old, old_key = authority.issue("old", days=-1)
    assert "ended on" in refused(certificate=old, key=old_key)["/auth/key"]
    for bits in (1_024, 8_192, 16_384):
        large, large_key = authority.issue("large", key=rsa_key(bits))
        started = time.process_time()
        assert f"{bits:,} bits" in refused(certificate=large, key=large_key)["/auth/key"]
        # To search 16,384 bits for whether they are made of primes takes half a minute.
        assert time.process_time() - started < 5

    strange = of_another_version(chain)
    assert "no certificate in PEM" in refused(certificate=strange, key=key)["/auth/certificate"]
    assert "no certificate" in refused(certificate=chain + strange, key=key)["/auth/certificate"]
    with pytest.raises(ValueError):
        ends_at(strange)
    for other in (dsa.generate_private_key(1_024), x25519.X25519PrivateKey.generate()):
        unfit, unfit_key = authority.issue("unfit", key=other)
        assert "TLS cannot use" in refused(certificate=unfit, key=unfit_key)["/auth/key"]

    fields = {"url": "https://8.8.8.8/", "events": ["*"]}
    auth = {"type": "certificate", "certificate": chain, "key": key}
    webhook = setup.create_webhook(merchant.id, fields | {"auth": auth}, "test")
    assert webhook.auth is not None
    assert "PRIVATE KEY" not in str(webhook.auth)
    assert vault.decrypt(webhook.auth["key"]) == key
    # A renewed certificate of the same key needs no key.
    kept = {"type": "certificate", "certificate": chain}
    setup.update_webhook(webhook.merchant_id, webhook.id, {"auth": kept}, "test", webhook.version)


def _answer_of(transport: CurlTransport[None]) -> Response:
    while True:
        for _, answer in transport.run(1.0):
            return answer
