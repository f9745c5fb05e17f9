"""Signing in in two steps, and the page that turns it on."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.clock import SECOND, now
from portal.db.session import db
from portal.models import Merchant, User
from portal.people import accounts, second_factor
from tests.conftest import PASSWORD
from tests.factories import make_user


@pytest.fixture(autouse=True)
def _still_clock() -> Iterator[None]:
    """No step ends in the middle of a test."""
    with time_machine.travel(time.time(), tick=False):
        yield


@pytest.fixture
def ann(merchant: Merchant) -> User:
    return make_user("owner", merchant, email="ann@example.com", password=PASSWORD)


@pytest.fixture
def secret(ann: User) -> str:
    """Ann's second factor is on."""
    secret = second_factor.new_secret()
    second_factor.turn_on(ann, secret, code(secret, -1), PASSWORD)
    return secret


def code(secret: str, later: int = 0) -> str:
    return second_factor.code_at(base64.b32decode(secret), now() // (30 * SECOND) + later)


def sign_in(client: FlaskClient, **more: str) -> TestResponse:
    form = {"email": "ann@example.com", "password": PASSWORD}
    return client.post("/sign-in", data=form | more)


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/account").status_code == 200


def send(client: FlaskClient, text: str) -> TestResponse:
    return client.post("/sign-in/code", data={"code": text})


def test_the_password_alone_opens_nothing(client: FlaskClient, secret: str) -> None:
    answer = sign_in(client, next="/m/alice/settings")
    assert answer.location == "/sign-in/code"
    assert not is_signed_in(client)
    wrong = send(client, "000000")
    assert wrong.status_code == 422
    assert "wrong, too old, or was used already" in wrong.text
    assert not is_signed_in(client)
    assert send(client, code(secret)).location == "/m/alice/settings"
    assert is_signed_in(client)


def test_a_code_that_was_used_lets_nobody_in(app: Flask, client: FlaskClient, secret: str) -> None:
    text = code(secret)
    sign_in(client)
    assert send(client, text).status_code == 303
    thief = app.test_client()
    sign_in(thief)
    assert send(thief, text).status_code == 422
    assert not is_signed_in(thief)


def test_without_the_password_there_is_no_second_step(client: FlaskClient, secret: str) -> None:
    assert client.get("/sign-in/code").location == "/sign-in"
    assert send(client, code(secret)).location == "/sign-in"
    sign_in(client, password="wrong")
    assert send(client, code(secret)).location == "/sign-in"
    assert not is_signed_in(client)


def test_the_second_step_waits_five_minutes_and_not_beyond_another_password(
    client: FlaskClient, ann: User, secret: str
) -> None:
    start = now() / SECOND
    with time_machine.travel(start, tick=False) as clock:
        sign_in(client)
        clock.move_to(start + 301)
        assert send(client, code(secret)).location == "/sign-in"
        sign_in(client)
        db.session.rollback()
        accounts.change_password(ann, "another password", "cli")
        assert send(client, code(secret)).location == "/sign-in"
    assert not is_signed_in(client)


def test_codes_cannot_be_tried_without_end_and_nobody_else_is_kept_out(
    app: Flask, client: FlaskClient, secret: str
) -> None:
    # Ann's own device is known.
    sign_in(client)
    assert send(client, code(secret)).status_code == 303
    client.post("/sign-out")
    thief = app.test_client()
    sign_in(thief)
    assert [send(thief, f"{number:06}").status_code for number in range(6)] == [422] * 5 + [429]
    # Without the password one cannot use up anybody's tries.
    stranger = app.test_client()
    assert {send(stranger, "000000").status_code for _ in range(10)} == {303}
    sign_in(client)
    assert send(client, code(secret, 1)).status_code == 303


def test_it_is_turned_on_with_a_code_and_shows_recovery_codes_once(
    app: Flask, client: FlaskClient, ann: User
) -> None:
    sign_in(client)
    page = client.get("/account/second-factor").text
    assert "<svg" in page
    assert " style=" not in page
    found = re.search(r"<code>([A-Z2-7]{32})</code>", page)
    assert found
    secret = found[1]
    assert secret in client.get("/account/second-factor").text, "it stays until it is used"
    wrong = client.post("/account/second-factor", data={"code": "0", "password": "wrong"})
    assert wrong.status_code == 422
    assert secret in wrong.text
    answer = client.post(
        "/account/second-factor", data={"code": code(secret, -1), "password": PASSWORD}
    )
    codes = re.findall(r"<code>((?:[a-z2-7]{4}-){3}[a-z2-7]{4})</code>", answer.text)
    assert len(codes) == 10
    after = client.get("/account/second-factor").text
    assert codes[0] not in after
    assert secret not in after
    elsewhere = app.test_client()
    assert sign_in(elsewhere).location == "/sign-in/code"
    assert send(elsewhere, codes[0]).status_code == 303
    assert is_signed_in(elsewhere)
    renewed = client.post("/account/second-factor/codes", data={"password": PASSWORD})
    assert codes[1] not in renewed.text
    off = client.post("/account/second-factor/off", data={"password": PASSWORD})
    assert off.location == "/account"
    assert sign_in(app.test_client()).location == "/"


def test_the_password_cannot_be_tried_there_without_end(client: FlaskClient, ann: User) -> None:
    sign_in(client)
    answers = [
        client.post("/account/second-factor", data={"code": "0", "password": "x"})
        for _ in range(11)
    ]
    assert [answer.status_code for answer in answers] == [422] * 10 + [429]
    assert "Wait a minute" in answers[-1].text
    assert answers[-1].headers["Retry-After"] == "60"
