"""The pages for another password, and the list of sign-ins."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.clock import SECOND, now
from portal.db.session import db
from portal.models import Mail, Merchant, User, UserSession
from portal.people import resets
from portal.views.account import device_name
from tests.conftest import PASSWORD
from tests.factories import make_user

NEW = "a new password"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


@pytest.fixture
def ann(merchant: Merchant) -> User:
    return make_user("owner", merchant, email="ann@example.com", password=PASSWORD)


def sign_in(client: FlaskClient, password: str = PASSWORD, agent: str = "") -> TestResponse:
    answer = client.post(
        "/sign-in",
        data={"email": "ann@example.com", "password": password},
        headers={"User-Agent": agent or FIREFOX},
    )
    db.session.rollback()
    return answer


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/account").status_code == 200


def test_a_link_leads_to_another_password_and_to_the_sign_in(
    client: FlaskClient, ann: User
) -> None:
    path = "/reset-password/" + resets.make_link(ann, "cli").rpartition("/")[2]
    page = client.get(path)
    assert "ann@example.com" in page.text
    wrong = client.post(path, data={"password": "hunter2", "repeated": "x"})
    assert wrong.status_code == 422
    assert "10 or more characters" in wrong.text
    assert "hunter2" not in wrong.text
    answer = client.post(path, data={"password": NEW, "repeated": NEW})
    assert answer.location == "/sign-in"
    # A mailbox that somebody reads is not enough where there is a second factor, so a link signs
    # nobody in.
    assert not is_signed_in(client)
    assert sign_in(client, NEW).status_code == 303
    assert client.get(path).status_code == 404


def test_without_mail_the_page_says_whom_to_ask(client: FlaskClient, ann: User) -> None:
    for page in (
        client.get("/forgot-password"),
        client.post("/forgot-password", data={"email": ann.email}),
    ):
        assert page.status_code == 200
        assert "the staff of the platform" in page.text
        assert 'name="email"' not in page.text


class TestWithMail:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"SMTP_URL": "smtp://127.0.0.1:9", "MAIL_FROM": "hooks@example.com"}

    def test_the_answer_is_the_same_whether_there_is_an_account(
        self, client: FlaskClient, ann: User
    ) -> None:
        answers = [
            client.post("/forgot-password", data={"email": email})
            for email in (ann.email, "bob@example.com")
        ]
        assert {answer.status_code for answer in answers} == {200}
        texts = {re.sub(r'X-CSRFToken": "[^"]*"|ann|bob', "", answer.text) for answer in answers}
        assert len(texts) == 1
        db.session.rollback()
        assert [waiting.to_email for waiting in db.session.scalars(sa.select(Mail))] == [ann.email]

    def test_nobody_is_flooded_with_mail(self, client: FlaskClient, ann: User) -> None:
        statuses = [
            client.post("/forgot-password", data={"email": ann.email}).status_code for _ in range(4)
        ]
        assert statuses == [200, 200, 200, 429]
        # Counted for addresses without an account too, which would tell them apart.
        statuses = [
            client.post("/forgot-password", data={"email": "bob@example.com"}).status_code
            for _ in range(4)
        ]
        assert statuses == [200, 200, 200, 429]
        db.session.rollback()
        assert len(db.session.scalars(sa.select(Mail)).all()) == 3

    def test_what_is_no_address_is_said(self, client: FlaskClient) -> None:
        for email in ("", "x", "\x00", "a" * 100_000):
            answer = client.post("/forgot-password", data={"email": email})
            assert answer.status_code == 422
            assert "Give an e-mail address" in answer.text


# Sign-ins


@pytest.mark.usefixtures("ann")
def test_sign_ins_are_listed_and_ended_one_by_one(app: Flask, client: FlaskClient) -> None:
    elsewhere, third = app.test_client(), app.test_client()
    for one in (client, elsewhere, third):
        sign_in(one)
    page = client.get("/account").text
    assert page.count("Firefox on Linux") == 3
    assert page.count("this one") == 1
    found = re.findall(r"/account/sessions/(ses_\w+)/end", page)
    assert len(found) == 2
    assert client.post(f"/account/sessions/{found[0]}/end").status_code == 303
    assert [is_signed_in(one) for one in (client, elsewhere, third)].count(True) == 2
    assert client.post("/account/sessions/end-others").status_code == 303
    assert [is_signed_in(one) for one in (client, elsewhere, third)] == [True, False, False]


@pytest.mark.usefixtures("ann")
def test_signing_out_here_leaves_other_devices_signed_in(app: Flask, client: FlaskClient) -> None:
    elsewhere = app.test_client()
    sign_in(client)
    sign_in(elsewhere)
    client.post("/sign-out")
    assert not is_signed_in(client)
    assert is_signed_in(elsewhere)


def test_somebody_elses_sign_in_cannot_be_ended(
    app: Flask, client: FlaskClient, ann: User, merchant: Merchant
) -> None:
    sign_in(client)
    (anns,) = db.session.scalars(sa.select(UserSession.id))
    db.session.rollback()
    make_user("owner", merchant, email="bob@example.com", password=PASSWORD)
    bob = app.test_client()
    bob.post("/sign-in", data={"email": "bob@example.com", "password": PASSWORD})
    theirs = bob.post(f"/account/sessions/{anns}/end")
    nobodys = bob.post("/account/sessions/ses_0/end")
    assert theirs.status_code == nobodys.status_code == 404
    assert re.sub(r"\S{60,}", "", theirs.text) == re.sub(r"\S{60,}", "", nobodys.text)
    assert is_signed_in(client)


@pytest.mark.usefixtures("ann")
def test_when_a_sign_in_was_last_used_is_written_now_and_then(client: FlaskClient) -> None:
    sign_in(client)
    start = now() / SECOND

    def used_at() -> int:
        db.session.rollback()
        return int(db.session.scalars(sa.select(UserSession.used_at)).one())

    first = used_at()
    with time_machine.travel(start + 300, tick=False):
        client.get("/account")
    assert used_at() == first
    with time_machine.travel(start + 660, tick=False):
        client.get("/account")
    assert used_at() - first >= 659 * SECOND


@pytest.mark.usefixtures("ann")
def test_who_tries_passwords_elsewhere_does_not_keep_out_a_known_device(
    app: Flask, client: FlaskClient
) -> None:
    sign_in(client)
    client.post("/sign-out")
    stranger = app.test_client()
    assert [sign_in(stranger, "wrong").status_code for _ in range(31)].count(429) > 20
    assert sign_in(stranger).status_code == 429
    assert sign_in(client).status_code == 303
    # The device is no way to try passwords without end either.
    client.post("/sign-out")
    tries = [sign_in(client, "wrong").status_code for _ in range(11)]
    assert tries == [422] * 10 + [429]


@pytest.mark.usefixtures("ann")
def test_a_device_is_known_for_its_own_address_alone(app: Flask, client: FlaskClient) -> None:
    sign_in(client)
    client.post("/sign-out")
    answers = [
        client.post("/sign-in", data={"email": "bob@example.com", "password": "x"}).status_code
        for _ in range(11)
    ]
    assert answers == [422] * 10 + [429]
    for forged in ("x", "gAAAAA", "é" * 50):
        stranger = app.test_client()
        stranger.set_cookie("portal_device", forged, path="/sign-in")
        assert sign_in(stranger).status_code == 303


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 "
            "(KHTML, like "
            "Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        ("curl/8.10.1", "curl/8.10.1"),
        ("", "unknown"),
        ("<script>" * 100, ("<script>" * 10)),
    ],
)
def test_a_browser_is_named_in_words(agent: str, name: str) -> None:
    assert device_name(agent) == name
