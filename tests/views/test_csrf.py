"""Forms of other sites: every change needs the page's token, and says so in the portal's design."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.access import ACCESS
from portal.extensions import db
from portal.models import Merchant, Webhook
from tests.conftest import PASSWORD
from tests.factories import make_user, make_webhook

SignIn = Callable[[str], FlaskClient]


@pytest.fixture
def owner(app: Flask, signed_in: SignIn) -> FlaskClient:
    """An owner of `alice`, signed in before tokens are asked for."""
    client = signed_in("owner")
    # The test's own session has looked at the database before the sign-in changed it.
    db.session.rollback()
    app.config["WTF_CSRF_ENABLED"] = True
    return client


def posts(app: Flask) -> list[str]:
    """The address of every change that a page can make, with something in each place. Programs,
    which have no page, call the API and inspectors."""
    return [
        re.sub(r"<int[^>]*>", "1", rule.rule)
        .replace("<any(events, attempts):log>", "events").replace("<slug>", "alice")
        .replace("<", "").replace(">", "")
        for rule in app.url_map.iter_rules()
        if "POST" in (rule.methods or ())
        and not rule.endpoint.startswith(("api.", "inspected."))
        and rule.endpoint in ACCESS
    ]


@pytest.mark.parametrize("token", [None, "", "x", "a.b.c"])
def test_a_change_without_the_pages_token_is_refused(
    app: Flask, owner: FlaskClient, token: str | None
):
    form = {} if token is None else {"csrf_token": token}
    paths = posts(app)
    assert len(paths) > 25
    for path in paths:
        answer = owner.post(path, data=form)
        assert answer.status_code == 400, path
        assert "Webhook Portal" in answer.text
        assert "Traceback" not in answer.text


def test_nothing_changes_without_a_token(app: Flask, merchant: Merchant, owner: FlaskClient):
    webhook = make_webhook(merchant)
    address = f"/m/alice/webhooks/{webhook.id}"
    for action in ("disable", "delete", "rotate-secret"):
        assert owner.post(f"{address}/{action}").status_code == 400
    db.session.rollback()
    stored = db.session.scalars(sa.select(Webhook)).one()
    assert stored.state == "enabled"
    assert stored.version == 1


def test_a_form_with_its_token_works_and_so_does_htmx_by_header(
    app: Flask, merchant: Merchant, owner: FlaskClient
):
    webhook = make_webhook(merchant)
    page = owner.get(f"/m/alice/webhooks/{webhook.id}").text
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert found is not None
    address = f"/m/alice/webhooks/{webhook.id}"
    answer = owner.post(f"{address}/disable", data={"csrf_token": found[1]})
    assert answer.status_code < 400
    answer = owner.post(f"{address}/enable", headers={"X-CSRFToken": found[1]})
    assert answer.status_code < 400


def test_a_token_of_somebody_else_is_refused(
    app: Flask, merchant: Merchant, owner: FlaskClient
):
    other, user = app.test_client(), make_user("editor", merchant, password=PASSWORD)
    token = r'name="csrf_token"[^>]*value="([^"]+)"'
    found = re.search(token, other.get("/sign-in").text)
    assert found is not None
    form = {"email": user.email, "password": PASSWORD, "csrf_token": found[1]}
    assert other.post("/sign-in", data=form).status_code == 303
    found = re.search(token, other.get("/account").text)
    assert found is not None
    assert owner.post("/sign-out", data={"csrf_token": found[1]}).status_code == 400
    assert owner.get("/account").status_code == 200
