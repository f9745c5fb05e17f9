"""The catalogue's pages: what there is, what it holds, what fires together, who hears of it."""

from __future__ import annotations

from collections.abc import Callable

from flask.testing import FlaskClient

from portal.db.session import db
from portal.events import catalogue
from portal.models import Merchant
from tests import factories

SignIn = Callable[[str], FlaskClient]


def test_groups_have_counts_and_types_say_what_they_fire_with(signed_in: SignIn):
    page = signed_in("viewer").get("/m/alice/event-types").text
    assert 'Orders <span class="quiet">12</span>' in page
    assert "Fires with user.updated." in page


def test_a_type_shows_its_record_its_bodies_and_who_hears_of_it(
    signed_in: SignIn, merchant: Merchant
):
    factories.make_webhook(merchant, description="ERP", events=["order.*"])
    factories.make_webhook(merchant, description="Mailing", events=["user.*"])
    page = signed_in("editor").get("/m/alice/event-types/order.created").text
    for wanted in (
        "It fires together with",
        "payment.authorized",
        "Property of data",
        "Send a test",
        "What a webhook receives",
        "What a store sends",
        "As JSON Schema",
        "ERP",
    ):
        assert wanted in page
    assert "Mailing" not in page
    db.session.rollback()
    viewer = signed_in("viewer").get("/m/alice/event-types/order.created").text
    assert "Send a test" not in viewer


def test_a_type_of_ones_own_without_a_schema_has_a_page(signed_in: SignIn, merchant: Merchant):
    hostile = "<script>alert(1)</script>"
    catalogue.add_type(merchant.id, {"name": "loyalty.joined", "description": hostile}, "cli")
    page = signed_in("viewer").get("/m/alice/event-types/loyalty.joined").text
    assert "any JSON object is taken" in page
    assert hostile not in page
