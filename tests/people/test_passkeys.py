"""Passkeys at the second step, with a device made by hand; tests/browser has a browser's."""

from __future__ import annotations

import contextlib
import html
import json
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import cbor2
import pytest
import time_machine
import webauthn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.clock import SECOND, now
from portal.db.session import db
from portal.models import Merchant, User
from portal.people import accounts, passkeys, second_factor
from tests.authenticator import Authenticator
from tests.conftest import PASSWORD, on_both_databases
from tests.factories import make_user

ACCOUNT = "/account/second-factor"


@pytest.fixture
def ann(merchant: Merchant) -> User:
    return make_user("owner", merchant, email="ann@example.com", password=PASSWORD)


@pytest.fixture
def device(app: Flask) -> Authenticator:
    return a_device(app)


def a_device(app: Flask) -> Authenticator:
    site = passkeys.site_of(app.config["PORTAL"])
    assert site
    return Authenticator(site.origin)


def sign_in(client: FlaskClient, email: str = "ann@example.com") -> TestResponse:
    return client.post("/sign-in", data={"email": email, "password": PASSWORD})


def options_on(client: FlaskClient, path: str) -> Any:
    page = client.get(path, base_url="http://localhost:8000").text
    found = re.search(r'data-options="([^"]+)"', page)
    assert found, page
    return json.loads(html.unescape(found[1]))


def add(client: FlaskClient, device: Authenticator, **more: str) -> TestResponse:
    answer = device.create(options_on(client, ACCOUNT))
    form = {"name": "phone", "password": PASSWORD, "passkey": answer}
    return client.post(f"{ACCOUNT}/passkeys", data=form | more, base_url="http://localhost:8000")


def send(client: FlaskClient, answer: str) -> TestResponse:
    return client.post("/sign-in/code", data={"passkey": answer})


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/account").status_code == 200


@pytest.fixture
def waiting(app: Flask, ann: User, device: Authenticator) -> FlaskClient:
    """Ann has a passkey, and a browser of hers has given the password."""
    own = app.test_client()
    sign_in(own)
    assert add(own, device).status_code == 200
    client = app.test_client()
    assert sign_in(client).location == "/sign-in/code"
    return client


@on_both_databases
def test_a_passkey_is_added_signs_in_and_is_removed(
    app: Flask, client: FlaskClient, ann: User, device: Authenticator
) -> None:
    sign_in(client)
    codes = re.findall(r"<code>((?:[a-z2-7]{4}-){3}[a-z2-7]{4})</code>", add(client, device).text)
    assert len(codes) == 10
    assert add(client, a_device(app), name="blue key").status_code == 303, "codes come once"
    other = app.test_client()
    assert sign_in(other).location == "/sign-in/code"
    assert not is_signed_in(other)
    assert send(other, device.get(options_on(other, "/sign-in/code"))).location == "/"
    assert is_signed_in(other)
    third = app.test_client()
    sign_in(third)
    assert third.post("/sign-in/code", data={"code": codes[0]}).location == "/"
    db.session.rollback()
    phone, key = passkeys.passkeys(ann)
    assert phone.used_at
    assert phone.sign_count == 1
    wrong = client.post(f"{ACCOUNT}/passkeys/{key.id}/remove", data={"password": "wrong"})
    assert wrong.status_code == 422
    for one in (phone.id, key.id):
        answer = client.post(f"{ACCOUNT}/passkeys/{one}/remove", data={"password": PASSWORD})
        assert answer.location == ACCOUNT
    db.session.rollback()
    assert second_factor.codes_left(ann) == 0
    assert sign_in(app.test_client()).location == "/"


def test_an_answer_works_once(app: Flask, waiting: FlaskClient, device: Authenticator) -> None:
    answer = device.get(options_on(waiting, "/sign-in/code"))
    name = app.config["SESSION_COOKIE_NAME"]
    cookie = waiting.get_cookie(name)
    assert cookie
    assert send(waiting, answer).status_code == 303
    thief = app.test_client()
    thief.set_cookie(name, cookie.value)
    assert send(thief, answer).status_code == 422
    assert not is_signed_in(thief)


WRONG: dict[str, Callable[[Authenticator, dict[str, Any]], None]] = {
    "another origin": lambda device, _: setattr(device, "origin", "https://evil.example"),
    "another port": lambda device, _: setattr(device, "origin", "http://localhost:1"),
    "another name": lambda _, options: options.update(rpId="evil.example"),
    "another challenge": lambda _, options: options.update(challenge="AAAA"),
    "a copy that counts from before": lambda device, _: setattr(device, "count", -1),
    "another device": lambda device, _: setattr(device, "credential", b"x" * 32),
    "another key": lambda device, _: setattr(device, "_key", Authenticator("")._key),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_lets_nobody_in(
    app: Flask, waiting: FlaskClient, device: Authenticator, spoil: Any
) -> None:
    assert send(waiting, device.get(options_on(waiting, "/sign-in/code"))).status_code == 303
    client = app.test_client()
    sign_in(client)
    options = options_on(client, "/sign-in/code")
    spoil(device, options)
    wrong = send(client, device.get(options))
    assert wrong.status_code == 422
    assert passkeys.WRONG_PASSKEY in wrong.text
    assert not is_signed_in(client)


@pytest.mark.parametrize(
    "answer",
    [
        "x",
        "null",
        "[]",
        "{}",
        '{"id": 1}',
        "[" * 9_000,
        "\x00",
        "9" * 100_000,
        '{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30",'
        '"authenticatorData":"AA","signature":"AA","attestationObject":"oA"}}',
    ],
)
def test_what_is_no_answer_is_refused(waiting: FlaskClient, answer: str) -> None:
    options_on(waiting, "/sign-in/code")
    assert send(waiting, answer).status_code == 422


def doubled(levels: int, place: int = 0) -> bytes:
    """A CBOR list of two: another such list, and the same once more, by shared references."""
    if place > levels:
        return b"\x80"
    again = cbor2.dumps(cbor2.CBORTag(29, place + 1)) if place < levels else b"\x80"
    return b"\xd8\x1c\x82" + doubled(levels, place + 1) + again


def attested(fmt: Any, statement: bytes, key: bytes | None = None) -> Callable[..., bytes]:
    """An attestation object, of the authenticator data that a device has made."""

    def make(data: bytes) -> bytes:
        data = data if key is None else data[: 37 + 16 + 2 + 32] + key
        return (
            b"\xa3"
            + cbor2.dumps("fmt")
            + cbor2.dumps(fmt)
            + cbor2.dumps("attStmt")
            + statement
            + cbor2.dumps("authData")
            + cbor2.dumps(data)
        )

    return make


def odd_certificate() -> bytes:
    """One whose key is of an algorithm that nobody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    made = made.public_key(key.public_key()).not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
    signed = made.not_valid_after(datetime(2040, 1, 1, tzinfo=UTC)).sign(key, hashes.SHA256())
    known = bytes.fromhex("06072a8648ce3d0201")
    return signed.public_bytes(Encoding.DER).replace(known, known[:-1] + b"\x7f")


STATEMENT = b"\xa1" + cbor2.dumps("x5c")
STRANGE = {
    "a statement that doubles itself": attested("none", STATEMENT + doubled(28)),
    "a key that doubles itself": attested("none", b"\xa0", b"\xa1\x01" + doubled(28)),
    "a statement within itself": attested("none", STATEMENT + b"\xd8\x1c\x81\xd8\x1d\x00"),
    "a pattern that takes for ever": attested("none", STATEMENT + b"\xd8\x23\x63(a+"),
    "a number of a billion digits": attested(
        "none", b"\xa0", b"\xa2\x01\xc5\x82\x1b\x00\x00\x00\x00\x3b\x9a\xca\x00\x01\x03\x26"
    ),
    "a certificate": attested(
        "packed", cbor2.dumps({"sig": b"1", "alg": -7, "x5c": [odd_certificate()]})
    ),
    "another's statement": attested("tpm", cbor2.dumps({"ver": "2.0"})),
    "a name that is none": attested([1], b"\xa0"),
    "a statement that is none": attested("none", b"\x05"),
    "levels without end": attested("none", STATEMENT + b"\x81" * 9 + b"\x00"),
    "many values": attested("none", STATEMENT + cbor2.dumps([0] * 1_001)),
    "a length that is not there": attested("none", b"\xbf\xff"),
    "more letters than there are": attested("none", STATEMENT + b"\x5b" + b"\x7f" * 8),
    "a number in more bytes than it takes": attested("none", b"\xa0", b"\xa1\x18\x01\x02"),
    "two keys alike": attested("none", b"\xa0", b"\xa2\x01\x02\x01\x02"),
    "no key": attested("none", b"\xa0", b""),
    "an empty key": attested("none", b"\xa0", b"\x40"),
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_what_no_device_writes_is_refused_at_once(
    client: FlaskClient, ann: User, device: Authenticator, make: Callable[[bytes], bytes]
) -> None:
    sign_in(client)
    device.attest = make
    begun = time.monotonic()
    wrong = add(client, device)
    assert time.monotonic() - begun < 5
    assert wrong.status_code == 422
    assert passkeys.WRONG_PASSKEY in html.unescape(wrong.text)


def test_a_passkey_that_signs_for_itself_is_taken(
    client: FlaskClient, ann: User, device: Authenticator
) -> None:
    sign_in(client)
    device.signs_itself = True
    assert add(client, device).status_code == 200


def test_extensions_are_measured_before_the_database_is_locked(
    app: Flask, waiting: FlaskClient, device: Authenticator
) -> None:
    device.extensions = b"\xa1\x01" + doubled(28)
    answer = device.get(options_on(waiting, "/sign-in/code"))
    begun = time.monotonic()
    assert send(waiting, answer).status_code == 422
    assert time.monotonic() - begun < 5
    device.extensions = cbor2.dumps({"credProtect": 2, "hmac-secret": True})
    assert send(waiting, device.get(options_on(waiting, "/sign-in/code"))).status_code == 303


def test_nobody_waits_for_a_signature_that_is_looked_at(
    waiting: FlaskClient, device: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    verify = webauthn.verify_authentication_response

    def watch(**how: Any) -> Any:
        with contextlib.closing(sqlite3.connect(str(db.engine.url.database), timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
        looked.append(True)
        return verify(**how)

    monkeypatch.setattr(webauthn, "verify_authentication_response", watch)
    assert send(waiting, device.get(options_on(waiting, "/sign-in/code"))).status_code == 303
    assert looked


def test_a_challenge_is_for_one_sign_in_and_five_minutes(
    app: Flask, waiting: FlaskClient, device: Authenticator
) -> None:
    answer = device.get(options_on(waiting, "/sign-in/code"))
    other = app.test_client()
    sign_in(other)
    options_on(other, "/sign-in/code")
    assert send(other, answer).status_code == 422
    with time_machine.travel(now() / SECOND + 301, tick=False):
        assert send(waiting, answer).location == "/sign-in"
    stranger = app.test_client()
    assert send(stranger, answer).location == "/sign-in"


def test_one_passkey_has_one_owner(
    app: Flask, waiting: FlaskClient, merchant: Merchant, device: Authenticator
) -> None:
    make_user("viewer", merchant, email="bob@example.com", password=PASSWORD)
    client = app.test_client()
    sign_in(client, "bob@example.com")
    taken = add(client, device)
    assert taken.status_code == 422
    assert "in use already" in taken.text
    assert add(client, a_device(app)).status_code == 200
    bob = app.test_client()
    sign_in(bob, "bob@example.com")
    assert send(bob, device.get(options_on(bob, "/sign-in/code"))).status_code == 422


def test_what_does_not_fit_is_not_added(
    client: FlaskClient, ann: User, device: Authenticator
) -> None:
    sign_in(client)
    for more in (
        {"name": ""},
        {"name": "x" * 101},
        {"password": "wrong"},
        {"passkey": ""},
        {"passkey": "{}"},
        {"passkey": device.create({"rp": {"id": "localhost"}, "challenge": "AAAA"})},
    ):
        assert add(client, device, **more).status_code == 422, more
    device.origin = "https://evil.example"
    assert add(client, device).status_code == 422
    db.session.rollback()
    assert passkeys.passkeys(ann) == []


@on_both_databases
def test_an_operator_can_take_it_away(
    app: Flask, ann: User, device: Authenticator, client: FlaskClient
) -> None:
    sign_in(client)
    add(client, device)
    db.session.rollback()
    second_factor.remove(accounts.get_user(ann.email), "cli")
    assert passkeys.passkeys(ann) == []
    assert sign_in(app.test_client()).location == "/"


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://hooks.example.com", ("hooks.example.com", "https://hooks.example.com")),
        ("https://Hooks.example.com:443/x", ("hooks.example.com", "https://hooks.example.com")),
        ("http://127.0.0.1:8000", ("localhost", "http://localhost:8000")),
        ("http://10.0.0.5:8000", None),
    ],
)
def test_a_passkey_is_bound_to_the_public_address(
    app: Flask, url: str, site: tuple[str, str] | None
) -> None:
    found = passkeys.site_of(replace(app.config["PORTAL"], public_url=url))
    assert found == (passkeys.Site(*site) if site else None)
