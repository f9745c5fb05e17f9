"""Signing in, staying signed in, signing out, one's own account."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal import create_app
from portal.config import load_config
from portal.db.session import db
from portal.models import AuditEntry, Merchant, User
from portal.people import accounts
from portal.views.auth import SIGN_INS, TRIES_PER_USER, WRONG, local_path
from portal.web import cookies
from portal.web.extensions import limiter
from tests.conftest import PASSWORD
from tests.factories import make_user

SignIn = Callable[[str], FlaskClient]


@pytest.fixture
def ann(merchant: Merchant) -> User:
    return make_user("owner", merchant, email="ann@example.com")


def sign_in(
    client: FlaskClient, email: str = "ann@example.com", password: str = PASSWORD, **more: str
) -> TestResponse:
    return client.post("/sign-in", data={"email": email, "password": password, **more})


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/account").status_code == 200


def cookie(client: FlaskClient) -> str:
    found = client.get_cookie("portal_session")
    assert found
    return found.value


def with_cookie(app: Flask, value: str) -> FlaskClient:
    client = app.test_client()
    client.set_cookie("portal_session", value)
    return client


@pytest.mark.usefixtures("ann")
def test_the_right_password_opens_the_page_one_came_for(client: FlaskClient) -> None:
    sent = client.get("/m/alice/settings")
    assert sent.status_code == 303
    assert sent.location.startswith("/sign-in?next=")
    form = client.get(sent.location)
    target = re.search(r'name="next" value="([^"]+)"', form.text)
    assert target
    answer = sign_in(client, next=target[1])
    assert answer.status_code == 303
    assert answer.location.rstrip("?") == "/m/alice/settings"
    assert is_signed_in(client)
    assert client.get("/sign-in").status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "javascript:alert(1)",
        "evil.example",
        "",
        "/a\\b",
        "/ /evil.example",
        "///evil.example",
        "/" + "a" * 3_000,
    ],
)
def test_no_other_site_is_the_page_one_came_for(
    client: FlaskClient, ann: User, target: str
) -> None:
    assert local_path(target) is None
    assert sign_in(client, next=target).location == "/"


def test_a_path_of_the_portal_is(app: Flask) -> None:
    for path in ("/", "/m/a/events?type=order.created&cursor=a%2F", "/m/ä"):
        assert local_path(path) == path


@pytest.mark.usefixtures("ann")
def test_wrong_password_unknown_address_and_disabled_account_get_the_same_words(
    client: FlaskClient,
) -> None:
    disabled = make_user("viewer", email="dan@example.com")
    accounts.disable_user(disabled, "cli")
    answers = [
        sign_in(client, "ann@example.com", "wrong password"),
        sign_in(client, "bob@example.com", PASSWORD),
        sign_in(client, "dan@example.com", PASSWORD),
        sign_in(client, "\x00", PASSWORD),
        sign_in(client, "", ""),
    ]
    pages = set()
    for answer in answers:
        assert answer.status_code == 422
        assert WRONG in answer.text
        text = re.sub(r'csrf_token" value="[^"]+"|X-CSRFToken": "[^"]+"', "", answer.text)
        pages.add(re.sub(r'name="email"[^>]*>|name="password"[^>]*>', "", text))
    assert len(pages) == 1
    assert not is_signed_in(client)


def test_what_was_typed_stays_but_not_the_password(client: FlaskClient) -> None:
    answer = sign_in(client, 'x"><script>alert(1)</script>@example.com', "my secret word")
    assert "&lt;script&gt;alert(1)" in answer.text
    assert "<script>alert" not in answer.text
    assert "my secret word" not in answer.text


@pytest.mark.parametrize("query", ["%ff" * 20_000, "a" * 60_000])
def test_the_way_back_from_the_sign_in_has_a_bounded_length(
    client: FlaskClient, query: str
) -> None:
    assert client.get(f"/account?{query}").location == "/sign-in"
    assert client.get("/account?a=b").location == "/sign-in?next=/account?a%3Db"


@pytest.mark.usefixtures("ann")
def test_a_huge_password_is_refused_clearly(app: Flask, client: FlaskClient) -> None:
    for password in ("p" * 100_000, PASSWORD + "x" * 200):
        answer = sign_in(client, password=password)
        assert answer.status_code == 422
        assert "at most 200 characters" in answer.text
        assert "ppp" not in answer.text
    app.config["WTF_CSRF_ENABLED"] = True
    for kind, most in (
        ("multipart/form-data", "the portal takes"),
        ("application/x-www-form-urlencoded", "128 KiB"),
    ):
        answer = client.post(
            "/sign-in",
            data={"email": "ann@example.com", "password": "p" * 1_000_000},
            content_type=kind,
        )
        assert answer.status_code == 413
        assert "larger than" in answer.text
        assert most in answer.text


def test_a_form_without_its_token_is_refused(app: Flask, ann: User) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    client = app.test_client()
    assert sign_in(client).status_code == 400
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/sign-in").text)
    assert token
    assert sign_in(client, csrf_token=token[1]).status_code == 303
    for path in ("/sign-out", "/account/password", "/m/alice/settings/keys"):
        assert client.post(path).status_code == 400
    # The token of the session before the sign-in does not fit the one after it.
    client.get("/account")
    assert client.post("/sign-out", data={"csrf_token": token[1]}).status_code == 419
    assert is_signed_in(client)


@pytest.mark.usefixtures("ann")
def test_the_session_is_a_new_one_after_signing_in(client: FlaskClient) -> None:
    with client.session_transaction() as session:
        session["planted"] = "by someone else"
    sign_in(client)
    with client.session_transaction() as session:
        assert "planted" not in session


@pytest.mark.usefixtures("ann")
def test_the_session_cookie_is_out_of_reach_of_scripts(client: FlaskClient) -> None:
    header = sign_in(client).headers["Set-Cookie"]
    assert "HttpOnly" in header
    assert "SameSite=Lax" in header


@pytest.mark.usefixtures("ann")
def test_signing_out_ends_a_copied_cookie_too(app: Flask, client: FlaskClient) -> None:
    sign_in(client)
    copied = cookie(client)
    assert is_signed_in(with_cookie(app, copied))
    assert client.post("/sign-out").location == "/sign-in"
    assert not is_signed_in(client)
    assert not is_signed_in(with_cookie(app, copied))


def test_disabling_ends_a_session(client: FlaskClient, ann: User) -> None:
    sign_in(client)
    assert is_signed_in(client)
    accounts.disable_user(ann, "cli")
    assert not is_signed_in(client)


@pytest.mark.usefixtures("ann")
def test_a_sign_in_ends_after_its_hours_even_when_used(client: FlaskClient) -> None:
    start = time.time()
    with time_machine.travel(start, tick=False) as clock:
        sign_in(client)
        for hours in (6, 11):
            clock.move_to(start + hours * 3_600)
            assert is_signed_in(client)
        clock.move_to(start + 12 * 3_600 + 2)
        assert not is_signed_in(client)


def test_a_forged_cookie_is_nobodys(app: Flask) -> None:
    for value in ("x", "eyJfdXNlcl9pZCI6IjEuMSJ9.aaaa.bbbb", "é" * 20):
        assert not is_signed_in(with_cookie(app, value))


@pytest.mark.usefixtures("ann")
def test_after_ten_wrong_tries_one_has_to_wait(client: FlaskClient) -> None:
    tries = int(TRIES_PER_USER.split()[0])
    for _ in range(tries):
        assert sign_in(client, password="wrong password").status_code == 422
    answer = sign_in(client)
    assert answer.status_code == 429
    assert "too many tries" in answer.text
    assert 1 <= int(answer.headers["Retry-After"]) <= 3_600
    assert 'value="ann@example.com"' in answer.text
    # Nobody else is kept out.
    make_user("viewer", email="bob@example.com")
    assert sign_in(client, "bob@example.com").status_code == 303


@pytest.mark.usefixtures("ann")
def test_right_passwords_do_not_count(client: FlaskClient) -> None:
    for _ in range(15):
        assert sign_in(client).status_code == 303
        client.post("/sign-out")


def noted(action: str) -> int:
    count = db.session.scalar(
        sa.select(sa.func.count()).select_from(AuditEntry).where(AuditEntry.action == action)
    )
    db.session.rollback()
    return count or 0


def test_who_knows_a_password_signs_in_sixty_times_an_hour_and_no_more(
    app: Flask, ann: User
) -> None:
    here = app.test_client()
    assert sign_in(here).status_code == 303
    answers = [sign_in(app.test_client()).status_code for _ in range(SIGN_INS.amount + 5)]
    assert answers == [303] * (SIGN_INS.amount - 1) + [429] * 6
    assert noted("user.signed_in") == SIGN_INS.amount
    answer = sign_in(app.test_client())
    assert "too many tries" in answer.text
    assert 1 <= int(answer.headers["Retry-After"]) <= 3_600
    assert cookies.DEVICE not in str(answer.headers)
    # Who signed in here before gets in, and others do.
    here.post("/sign-out")
    assert sign_in(here).status_code == 303
    make_user("viewer", email="bob@example.com")
    assert sign_in(app.test_client(), "bob@example.com").status_code == 303
    # A device that is known has no end either.
    assert [sign_in(here).status_code for _ in range(SIGN_INS.amount)][-1] == 429
    # And who has another password is in at once.
    password = accounts.reset_password(ann, "cli")
    assert sign_in(app.test_client(), password=password).status_code == 303


@pytest.mark.usefixtures("ann")
def test_no_number_of_wrong_passwords_counts_as_a_sign_in(app: Flask) -> None:
    for _ in range(3):
        for _ in range(10):
            assert sign_in(app.test_client(), password="wrong").status_code == 422
        # Each from elsewhere, as it were.
        limiter.reset()
    assert sign_in(app.test_client()).status_code == 303


def test_one_place_cannot_try_many_accounts(client: FlaskClient) -> None:
    answers = [
        sign_in(client, f"u{number}@example.com", "wrong").status_code for number in range(31)
    ]
    assert answers == [422] * 30 + [429]


@pytest.fixture
def hung_redis() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    server = socket.create_server(("127.0.0.1", 0))
    yield f"redis://127.0.0.1:{server.getsockname()[1]}"
    server.close()


def _start_again(environment: dict[str, str], redis_url: str) -> Flask:
    return create_app(load_config(environment | {"PORTAL_REDIS_URL": redis_url}))


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize("kind", ["gone", "hung"])
def test_without_redis_people_sign_in_and_tries_are_still_limited(
    app: Flask, environment: dict[str, str], hung_redis: str, kind: str
) -> None:
    address = hung_redis if kind == "hung" else "unix:///nowhere/redis.sock"
    crippled = _start_again(environment, address)
    crippled.config["WTF_CSRF_ENABLED"] = False
    crippled.test_client_class = app.test_client_class
    try:
        client = crippled.test_client()
        started = time.monotonic()
        assert sign_in(client).status_code == 303
        assert time.monotonic() - started < 3
        client.post("/sign-out")
        client.environ_base["REMOTE_ADDR"] = f"192.0.2.{10 if kind == 'hung' else 20}"
        answers = {sign_in(client, f"{kind}@example.com", "wrong").status_code for _ in range(11)}
        assert answers == {422, 429}
    finally:
        # The limiter is one for all applications of a process: back to the one with Redis.
        _start_again(environment, environment["PORTAL_REDIS_URL"])
        limiter._storage_dead = False
        with crippled.app_context():
            db.engine.dispose()


def test_an_ended_sign_in_takes_the_whole_page_to_the_form(client: FlaskClient) -> None:
    answer = client.get("/account", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"].startswith("/sign-in")


# One's own account


def change(client: FlaskClient, current: str, password: str, repeated: str = "") -> TestResponse:
    return client.post(
        "/account/password",
        data={"current": current, "password": password, "repeated": repeated or password},
    )


@pytest.mark.usefixtures("ann")
def test_another_password_ends_other_sessions_and_renews_this_one(
    app: Flask, client: FlaskClient
) -> None:
    sign_in(client)
    elsewhere = app.test_client()
    sign_in(elsewhere)
    before = cookie(client)
    assert change(client, PASSWORD, "another password").status_code == 303
    assert is_signed_in(client)
    assert not is_signed_in(elsewhere)
    assert not is_signed_in(with_cookie(app, before))
    assert sign_in(app.test_client(), password=PASSWORD).status_code == 422
    assert sign_in(app.test_client(), password="another password").status_code == 303


@pytest.mark.usefixtures("ann")
def test_what_is_wrong_with_a_new_password_is_said_at_the_field(client: FlaskClient) -> None:
    sign_in(client)
    answer = change(client, "not the one", "short", "differs")
    assert answer.status_code == 422
    for words in ("not your current password", "10 or more characters", "passwords differ"):
        assert words in answer.text
    assert "not the one" not in answer.text
    assert change(client, PASSWORD, "p" * 201).status_code == 422
    assert change(client, PASSWORD, "p" * 50_000).status_code == 422
    assert change(client, PASSWORD, "p" * 1_000_000).status_code == 413


@pytest.mark.usefixtures("ann")
def test_the_current_password_cannot_be_tried_without_end(client: FlaskClient) -> None:
    sign_in(client)
    answers = [change(client, "wrong", "another password").status_code for _ in range(11)]
    assert answers == [422] * 10 + [429]


def test_what_one_signs_in_with_is_changed_sixty_times_an_hour_and_no_more(
    signed_in: SignIn,
) -> None:
    client, password = signed_in("owner"), PASSWORD
    answers = []
    for number in range(61):
        answers.append(change(client, password, f"another password {number}").status_code)
        password = f"another password {number}"
    assert answers == [303] * 60 + [429]


def test_to_end_all_others_is_noted_where_there_are_any(app: Flask, signed_in: SignIn) -> None:
    client = signed_in("owner")
    assert client.post("/account/sessions/end-others").status_code == 303
    assert noted("user.signed_out") == 0


def test_a_sign_in_that_was_stolen_tries_no_more_passwords_than_the_sign_in_page(
    signed_in: SignIn,
) -> None:
    client = signed_in("owner")
    wrong = {"current": "wrong", "password": "another password", "repeated": "another password"}
    pages = [
        ("/account/password", wrong),
        *(
            (f"/account/second-factor{end}", {"password": "wrong", "code": "1", "name": "a"})
            for end in ("", "/off", "/codes", "/passkeys", "/passkeys/x/remove")
        ),
    ]
    answers = [client.post(*page[:1], data=page[1]).status_code for page in pages * 3]
    assert answers == [422] * 10 + [429] * 8


def test_the_account_page_shows_ones_roles(signed_in: SignIn) -> None:
    page = signed_in("editor").get("/account").text
    assert "alice&#39;s store" in page
    assert "editor" in page


@pytest.mark.parametrize(("settings", "alike"), [({}, True), ({"PROXIES": "1"}, False)])
def test_the_address_behind_a_proxy_counts_only_where_a_proxy_is_set(
    client: FlaskClient, settings: dict[str, str], alike: bool
) -> None:
    def answer(number: int, address: str) -> int:
        return client.post(
            "/sign-in",
            data={"email": f"nobody-{number}@example.com", "password": "wrong"},
            headers={"X-Forwarded-For": address},
        ).status_code

    assert [answer(number, "203.0.113.7") for number in range(31)] == [422] * 30 + [429]
    assert answer(31, "203.0.113.8") == (429 if alike else 422)
