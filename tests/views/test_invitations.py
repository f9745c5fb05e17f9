"""Inviting someone, and the page that they get."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.db.session import db
from portal.models import Merchant, User
from portal.people import accounts, invitations
from tests.conftest import PASSWORD
from tests.factories import make_user

SignIn = Callable[[str], FlaskClient]
PART = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture
def owner(signed_in: SignIn) -> FlaskClient:
    client = signed_in("owner")
    db.session.rollback()
    return client


def invite(client: FlaskClient, email: str = "bob@example.com") -> TestResponse:
    answer = client.post("/m/alice/settings/invitations", data={"email": email, "role": "editor"})
    # The test's own session has looked at the database before.
    db.session.rollback()
    return answer


def path_of(answer: TestResponse) -> str:
    found = re.search(r"http://127\.0\.0\.1:8000(/invitation/[\w-]+)", answer.text)
    assert found, answer.text
    return found[1]


def test_the_link_is_shown_once_and_leads_in(owner: FlaskClient, client: FlaskClient) -> None:
    answer = invite(owner)
    path = path_of(answer)
    assert "bob@example.com is invited" in answer.text
    assert path not in owner.get("/m/alice/settings").text
    page = client.get(path)
    assert page.status_code == 200
    assert "bob@example.com" in page.text
    form = {"name": "Bob", "password": PASSWORD, "repeated": PASSWORD}
    joined = client.post(path, data=form)
    assert joined.location == "/m/alice/"
    assert client.get("/m/alice/").status_code == 200
    assert client.get("/account").text.count("editor") >= 1
    # Once.
    assert client.get(path).status_code == 404


def test_a_form_that_is_wrong_keeps_the_name_and_no_password(
    owner: FlaskClient, client: FlaskClient
) -> None:
    path = path_of(invite(owner))
    answer = client.post(
        path, data={"name": "Bob <b>", "password": "hunter2", "repeated": "hunter3"}
    )
    assert answer.status_code == 422
    assert 'value="Bob &lt;b&gt;"' in answer.text
    assert "10 or more characters" in answer.text
    assert "hunter" not in answer.text


def test_who_has_an_account_signs_in_and_joins(owner: FlaskClient, client: FlaskClient) -> None:
    make_user("viewer", email="bob@example.com", password=PASSWORD)
    path = path_of(invite(owner))
    page = client.get(path)
    assert 'name="password"' not in page.text
    found = re.search(r'href="(/sign-in\?next=[^"]+)"', page.text)
    assert found
    signed_in = client.post(found[1], data={"email": "bob@example.com", "password": PASSWORD})
    assert signed_in.location == path
    assert "Join" in client.get(path).text
    assert client.post(path).location == "/m/alice/"
    assert client.get("/m/alice/").status_code == 200


def test_someone_else_who_is_signed_in_is_told_so_and_gets_nothing(
    owner: FlaskClient, signed_in: SignIn
) -> None:
    path = path_of(invite(owner))
    other = signed_in("viewer")
    db.session.rollback()
    assert "Sign out, then open this link again" in other.get(path).text
    assert other.post(path).status_code == 403
    assert accounts.find_user("bob@example.com") is None


def test_invitations_are_listed_and_revoked(
    owner: FlaskClient, client: FlaskClient, merchant: Merchant
) -> None:
    path = path_of(invite(owner))
    page = owner.get("/m/alice/settings").text
    assert "Invited by" in page
    (listed,) = invitations.invitations(merchant)
    answer = owner.post(f"/m/alice/settings/invitations/{listed.id}/revoke")
    assert answer.status_code == 303
    assert client.get(path).status_code == 404
    assert "Invited by" not in owner.get("/m/alice/settings").text


def test_links_that_ended_and_links_that_never_were_answer_alike(
    owner: FlaskClient, client: FlaskClient, merchant: Merchant
) -> None:
    path = path_of(invite(owner))
    invitations.revoke(merchant, invitations.invitations(merchant)[0].id, "cli")
    pages = [client.get(one) for one in (path, "/invitation/never", "/invitation/%00")]
    assert {page.status_code for page in pages} == {404}
    assert len({re.sub(r'X-CSRFToken": "[^"]*"', "", page.text) for page in pages}) == 1


def test_what_is_wrong_with_an_invitation_is_said_in_its_place(owner: FlaskClient) -> None:
    answer = owner.post(
        "/m/alice/settings/invitations",
        data={"email": "not an address", "role": "king"},
        headers=PART,
    )
    assert answer.status_code == 422
    assert "Give an e-mail address" in answer.text
    assert "Choose the role" in answer.text
    assert 'value="not an address"' in answer.text


def test_the_portal_is_no_way_to_send_mail_to_strangers(owner: FlaskClient) -> None:
    answers = [invite(owner, f"u{number}@example.com").status_code for number in range(31)]
    assert answers == [200] * 30 + [429]
    assert "Wait an hour" in invite(owner).text


@pytest.mark.parametrize("role", ["viewer", "editor"])
def test_only_owners_and_operators_invite(signed_in: SignIn, role: str) -> None:
    client = signed_in(role)
    assert invite(client).status_code == 403
    assert "Invite someone" not in client.get("/m/alice/settings").text
    db.session.rollback()
    assert invite(signed_in("operator")).status_code == 200


def test_a_new_account_is_made_by_nobody_elses_hand(owner: FlaskClient) -> None:
    invite(owner)
    assert db.session.query(User).filter_by(email="bob@example.com").count() == 0
