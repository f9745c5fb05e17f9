"""Filters that people keep by a name."""

from __future__ import annotations

import html
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal.db.session import db
from portal.errors import Conflict, Invalid, NotFound
from portal.logs import saved
from portal.models import Merchant, SavedFilter, User
from tests import factories
from tests.conftest import on_both_databases

SignIn = Callable[[str], FlaskClient]
QUERY = "type=order.*&since=24h"


@pytest.fixture
def ann(merchant: Merchant) -> User:
    return factories.make_user("viewer", merchant)


def names(user: User, merchant: Merchant, log: str = "events") -> list[str]:
    return [row.name for row in saved.saved_filters(user.id, merchant.id, log)]


@on_both_databases
def test_a_filter_is_kept_as_it_was_typed_and_replaced_by_its_name(merchant: Merchant, ann: User):
    saved.save_filter(ann.id, merchant.id, "events", " Orders ", QUERY)
    saved.save_filter(ann.id, merchant.id, "events", "Orders", f"{QUERY}&cursor=x&q=y")
    (row,) = saved.saved_filters(ann.id, merchant.id, "events")
    assert (row.name, row.filters) == ("Orders", {"type": "order.*", "since": "24h"})


@on_both_databases
def test_filters_are_of_one_user_one_merchant_and_one_log(merchant: Merchant, ann: User):
    bob = factories.make_user("viewer", merchant)
    other = factories.make_merchant("bob")
    row = saved.save_filter(ann.id, merchant.id, "events", "Mine", QUERY)
    assert names(ann, merchant) == ["Mine"]
    assert not names(bob, merchant)
    assert not names(ann, other)
    assert not names(ann, merchant, "attempts")
    for user_id, merchant_id, log in (
        (bob.id, merchant.id, "events"),
        (ann.id, other.id, "events"),
        (ann.id, merchant.id, "attempts"),
    ):
        with pytest.raises(NotFound):
            saved.delete_filter(user_id, merchant_id, log, row.id)
    saved.delete_filter(ann.id, merchant.id, "events", row.id)
    assert not names(ann, merchant)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("", QUERY),
        ("x" * 61, QUERY),
        ("a", ""),
        ("a", "since=yesterday"),
        ("a", "cursor=1"),
        ("\x00", QUERY),
        ("a", "status=200"),
    ],
)
def test_what_cannot_be_used_is_not_kept(merchant: Merchant, ann: User, name: str, query: str):
    with pytest.raises(Invalid):
        saved.save_filter(ann.id, merchant.id, "events", name, query)
    assert not names(ann, merchant)


def test_there_are_only_as_many_as_can_be_seen(
    merchant: Merchant, ann: User, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(saved, "MAX_SAVED", 2)
    for name in "ab":
        saved.save_filter(ann.id, merchant.id, "events", name, QUERY)
    with pytest.raises(Conflict):
        saved.save_filter(ann.id, merchant.id, "events", "c", QUERY)
    saved.save_filter(ann.id, merchant.id, "events", "a", QUERY)


def test_save_use_and_delete_on_the_page(signed_in: SignIn, merchant: Merchant):
    client = signed_in("viewer")
    page = client.get(f"/m/alice/events?{QUERY}").text
    assert "Keep these filters by a name" in page
    answer = client.post("/m/alice/saved/events", data={"name": "<b>Orders", "query": QUERY})
    assert (answer.status_code, answer.location) == (303, "/m/alice/events?type=order.*&since=24h")
    page = client.get("/m/alice/events").text
    assert "&lt;b&gt;Orders" in page
    assert '/m/alice/events?type=order.*&since=24h"' in html.unescape(page)
    db.session.rollback()
    filter_id = db.session.scalar(sa.select(SavedFilter.id))
    answer = client.post(f"/m/alice/saved/events/{filter_id}/delete", data={"query": QUERY})
    assert answer.status_code == 303, answer.text
    assert "&lt;b&gt;Orders" not in client.get("/m/alice/events").text


@pytest.mark.parametrize("letter", ["x", "\u20ac"])
def test_filters_that_are_too_long_for_an_address_lead_to_none(
    signed_in: SignIn, merchant: Merchant, letter: str
):
    client = signed_in("viewer")
    for path, query in (
        ("/m/alice/saved/events", f"correlation_id={letter * 250}&" * 40),
        ("/m/alice/saved/events", f"correlation_id={letter * 250}&text={letter * 250}"),
        ("/m/alice/saved/events/1/delete", letter * 30_000),
    ):
        answer = client.post(path, data={"name": "long", "query": query})
        assert len(answer.headers.get("Location", "")) < 2_100
    shown = client.post(
        "/m/alice/saved/events", data={"name": "x", "query": "x" * 9_000}, follow_redirects=True
    )
    assert "The filters are too long to be kept" in shown.text


def test_a_name_that_is_missing_is_asked_for(signed_in: SignIn, merchant: Merchant):
    client = signed_in("viewer")
    evil = "type=order.*\r\nX: y"
    answer = client.post("/m/alice/saved/events", data={"name": "", "query": evil})
    assert answer.status_code == 303
    assert answer.location.startswith("/m/alice/events?type=order.*")
    assert "Give the filter a name" in client.get("/m/alice/events").text
    assert client.post("/m/alice/saved/webhooks", data={"name": "a"}).status_code == 404
