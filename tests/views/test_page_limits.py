"""A member's pages are bounded, at once and by the second, for each merchant and each user."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.db.session import db
from portal.fairness.places import PAGE, PAGE_OF_USER, places
from portal.models import Membership, Merchant
from portal.views import page_limits
from tests.conftest import PASSWORD
from tests.factories import make_merchant, make_user

SignIn = Callable[[str], FlaskClient]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"PAGE_REQUESTS": "5", "WEB_THREADS": "8"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the limit, which stands still until the test sets it."""
    now = [1_000.0]
    monkeypatch.setattr(page_limits.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def signed_in(signed_in: SignIn) -> SignIn:
    def sign_in(role: str) -> FlaskClient:
        db.session.rollback()
        return signed_in(role)

    return sign_in


def enter(app: Flask, email: str) -> FlaskClient:
    client = app.test_client()
    form = {"email": email, "password": PASSWORD}
    assert client.post("/sign-in", data=form).status_code == 303
    return client


def test_a_program_that_asks_for_pages_is_refused_and_people_of_other_stores_are_not(
    app: Flask, signed_in: SignIn, clock: list[float]
) -> None:
    bob = make_merchant("bob")
    script = signed_in("viewer")
    db.session.rollback()
    owner = enter(app, make_user("owner", bob, password=PASSWORD).email)
    operator = signed_in("operator")
    answers = [script.get("/m/alice/events") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429] * 2
    refused = answers[-1]
    assert refused.headers["Retry-After"] == "1"
    assert "You have asked for more than 5 pages a second" in refused.text
    assert "programs ask the API" in refused.text
    fragment = script.get("/m/alice/events", headers={"HX-Request-Type": "partial"})
    assert (fragment.status_code, fragment.headers["HX-Retarget"]) == (429, "#messages")
    assert script.get("/account").status_code == 429, "pages without a merchant count too"
    assert owner.get("/m/bob/events").status_code == 200
    assert {operator.get("/m/alice/events").status_code for _ in range(20)} == {200}
    assert script.get("/static/app.css").status_code == 200
    clock[0] += 0.5
    assert script.get("/m/alice/events").status_code == 200


def test_members_of_one_store_are_counted_together(signed_in: SignIn, clock: list[float]) -> None:
    answers = [signed_in("viewer").get("/m/alice/events") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429] * 2
    assert "This store has asked for more than 5 pages a second" in answers[-1].text


def test_who_belongs_to_many_stores_is_one_user(app: Flask, clock: list[float]) -> None:
    stores = [make_merchant(f"store-{number}") for number in range(8)]
    user = make_user("viewer", stores[0], password=PASSWORD)
    for store in stores[1:]:
        db.session.add(Membership(user_id=user.id, merchant_id=store.id, role="viewer"))
    db.session.commit()
    client = enter(app, user.email)
    answers = [client.get(f"/m/store-{number}/events").status_code for number in range(8)]
    assert answers == [200] * 6 + [429] * 2


def test_some_threads_are_left_to_others_and_every_place_is_given_back(
    app: Flask, signed_in: SignIn, merchant: Merchant
) -> None:
    member = signed_in("viewer")
    for kind, sentence in (
        (PAGE, "Many pages of this store were asked for at once"),
        (PAGE_OF_USER, "You have asked for many pages at once"),
    ):
        who = merchant.id if kind == PAGE else _user_id()
        for _ in range(6):
            places().take(kind, who)
        refused = member.get("/m/alice/events")
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "2"
        assert sentence in refused.text
        assert signed_in("operator").get("/m/alice/events").status_code == 200
        for _ in range(6):
            places().give_back(kind, who)
    assert member.get("/m/alice/events").status_code == 200
    assert member.get("/m/alice/nowhere").status_code == 404
    assert member.get("/staff/merchants").status_code == 403
    assert not places()._taken


def _user_id() -> int:
    db.session.rollback()
    return int(db.session.scalar(db.select(Membership.user_id)))


class TestOffice:
    """People with their tabs, at the portal's own limit."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"PAGE_REQUESTS": ""}

    def test_the_open_tabs_of_a_whole_office_are_never_refused(
        self, signed_in: SignIn, clock: list[float]
    ) -> None:
        """Ten people, five tabs each, that ask every three seconds, all by one process."""
        people = [signed_in("viewer") for _ in range(10)]
        for _ in range(5 * 17):
            clock[0] += 1 / 17
            assert people[0].get("/m/alice/").status_code == 200
            people.append(people.pop(0))
