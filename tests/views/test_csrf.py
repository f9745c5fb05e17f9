"""Forms of other sites: every change needs the page's token, and says so in the portal's design."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.db.session import db
from portal.models import Merchant, Webhook
from portal.models.webhook import MASK
from portal.web.access import ACCESS
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
    which have no page, call the API and inspectors, and browsers send reports."""
    return [
        re.sub(r"<int[^>]*>", "1", rule.rule)
        .replace("<any(events, attempts):log>", "events")
        .replace("<slug>", "alice")
        .replace("<", "")
        .replace(">", "")
        for rule in app.url_map.iter_rules()
        if "POST" in (rule.methods or ())
        and not rule.endpoint.startswith(("api.", "inspected.", "policy_reports."))
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


def test_a_token_of_somebody_else_is_refused(app: Flask, merchant: Merchant, owner: FlaskClient):
    other, user = app.test_client(), make_user("editor", merchant, password=PASSWORD)
    token = r'name="csrf_token"[^>]*value="([^"]+)"'
    found = re.search(token, other.get("/sign-in").text)
    assert found is not None
    form = {"email": user.email, "password": PASSWORD, "csrf_token": found[1]}
    assert other.post("/sign-in", data=form).status_code == 303
    found = re.search(token, other.get("/account").text)
    assert found is not None
    # As one of an earlier sign-in of one's own is: where the owner has a token, theirs differs.
    owner.get("/account")
    assert owner.post("/sign-out", data={"csrf_token": found[1]}).status_code == 419
    assert owner.get("/account").status_code == 200


TOKEN = r'name="csrf_token"[^>]*value="([^"]+)"'
HERE = {"Origin": "http://localhost"}


@pytest.fixture
def stale(app: Flask, owner: FlaskClient) -> str:
    """A token of a page that was opened before the owner signed in."""
    found = re.search(TOKEN, app.test_client().get("/sign-in").text)
    assert found is not None
    owner.get("/account")
    return found[1]


def save(client: FlaskClient, token: str, headers: dict[str, str], **form: str):
    return client.post(
        "/m/alice/settings/retention",
        headers=headers,
        data={"event_days": "30", "payload_days": "7", "csrf_token": token} | form,
    )


def test_an_expired_form_keeps_what_was_typed_and_is_sent_again_by_one_click(
    merchant: Merchant, owner: FlaskClient, stale: str
):
    page = save(owner, stale, HERE)
    assert page.status_code == 419
    assert "This form has expired" in page.text
    assert stale not in page.text
    form = page.text[page.text.index('id="again"') :]
    fresh = re.search(TOKEN, form)
    assert fresh is not None
    typed = dict(re.findall(r'<textarea name="(\w+)" hidden>\n([^<]*)</textarea>', form))
    assert typed == {"event_days": "30", "payload_days": "7"}
    assert 'action="/m/alice/settings/retention"' in form
    assert save(owner, fresh[1], HERE).status_code == 303
    db.session.rollback()
    db.session.refresh(merchant)
    assert (merchant.event_days, merchant.payload_days) == (30, 7)


@pytest.mark.parametrize(
    "origin",
    [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:81"}],
)
def test_what_another_site_typed_is_not_one_click_away(
    owner: FlaskClient, stale: str, origin: dict[str, str]
):
    page = save(owner, stale, origin)
    assert page.status_code == 419
    assert 'id="again"' not in page.text
    assert "Send it again" not in page.text


def test_a_password_is_not_put_into_the_page_again(owner: FlaskClient, stale: str):
    page = owner.post(
        "/account/password",
        headers=HERE,
        data={
            "csrf_token": stale,
            "current": "hunter2",
            "password": "hunter3",
            "repeated": "hunter3",
        },
    )
    assert page.status_code == 419
    assert "hunter" not in page.text


def test_what_was_typed_is_inert_in_the_page(owner: FlaskClient, stale: str):
    page = save(owner, stale, HERE, event_days="</textarea><script>alert(1)</script>")
    assert "<script>alert" not in page.text


def test_an_expired_form_of_htmx_stays_and_gets_another_token(owner: FlaskClient, stale: str):
    part = {"HX-Request": "true", "HX-Request-Type": "partial"}
    answer = save(owner, stale, HERE | part)
    assert answer.status_code == 419
    assert "still here" in answer.text
    assert "<html" not in answer.text
    assert answer.headers["HX-Retarget"] == "#messages"
    assert save(owner, answer.headers["X-CSRF-Token"], HERE).status_code == 303


def test_a_form_without_a_token_of_the_portal_gets_none(owner: FlaskClient, stale: str):
    for token in ("", "x", "a.b.c", stale[:-1] + "é"):
        answer = save(owner, token, HERE)
        assert answer.status_code == 400
        assert "X-CSRF-Token" not in answer.headers
        assert 'id="again"' not in answer.text


# ── The sign-in ended while somebody typed ────────────────────────────────────────────────


def again(page: str) -> tuple[dict[str, str], str]:
    """The form that is offered to be sent again: its fields and its token."""
    form = page[page.index('id="again"') :]
    found = re.search(TOKEN, form)
    assert found is not None
    fields = re.findall(r'<textarea name="([\w-]+)" hidden>\n([^<]*)</textarea>', form)
    return dict(fields), found[1]


def test_what_was_typed_is_there_after_signing_in_again(
    app: Flask, merchant: Merchant, owner: FlaskClient
):
    found = re.search(TOKEN, owner.get("/m/alice/settings").text)
    assert found is not None
    owner.delete_cookie("portal_session")
    page = save(owner, found[1], HERE | {"Referer": "http://localhost/m/alice/settings"})
    assert page.status_code == 401
    assert "what you typed is still here" in page.text
    assert 'href="/sign-in?next=/m/alice/settings" target="_blank"' in page.text
    typed, token = again(page.text)
    assert typed == {"event_days": "30", "payload_days": "7"}
    user = make_user("owner", merchant, password=PASSWORD)
    found = re.search(TOKEN, owner.get("/sign-in").text)
    assert found is not None
    owner.post("/sign-in", data={"email": user.email, "password": PASSWORD, "csrf_token": found[1]})
    assert owner.get("/m/alice/settings").status_code == 200
    page = save(owner, token, HERE, **typed)
    assert page.status_code == 419, "its token was of nobody; one more click"
    typed, token = again(page.text)
    assert save(owner, token, HERE, **typed).status_code == 303
    db.session.rollback()
    db.session.refresh(merchant)
    assert (merchant.event_days, merchant.payload_days) == (30, 7)


def test_a_page_of_htmx_stays_where_it_is(owner: FlaskClient, stale: str):
    owner.delete_cookie("portal_session")
    part = {"HX-Request": "true", "HX-Request-Type": "partial"}
    answer = save(owner, stale, HERE | part)
    assert answer.status_code == 401
    assert "HX-Redirect" not in answer.headers
    assert answer.headers["HX-Retarget"] == "#messages"
    assert 'target="_blank" rel="noopener">Sign in</a>' in answer.text


@pytest.mark.parametrize(
    ("typed", "is_offered"),
    [
        ({"headers-0-name": "X-Shop", "headers-0-value": "north", "auth_password": ""}, True),
        ({"auth_token_url": "https://login.example.com/token", "auth_scope": "orders"}, True),
        ({"headers-0-value": "hunter2", "headers-0-secret": "1"}, False),
        ({"headers-0-value": MASK, "headers-0-secret": "1", "headers-0-sealed": "gAAA"}, True),
        ({"query_params-3-value": "hunter2", "query_params-3-secret": "1"}, False),
        ({"auth_password": "hunter2"}, False),
        ({"auth_client_secret": "hunter2"}, False),
        ({"auth_token": "hunter2"}, False),
        ({"auth_key": "hunter2"}, False),
        ({"auth_key": MASK, "auth_key_sealed": "gAAA"}, True),
        ({"totp_code": "hunter2"}, False),
    ],
)
def test_a_form_is_offered_again_unless_it_holds_a_secret(
    owner: FlaskClient, stale: str, typed: dict[str, str], is_offered: bool
):
    answer = owner.post("/m/alice/webhooks", headers=HERE, data=typed | {"csrf_token": stale})
    assert answer.status_code == 419
    assert ('id="again"' in answer.text) == is_offered
    assert "hunter2" not in answer.text
    owner.delete_cookie("portal_session")
    answer = owner.post("/m/alice/webhooks", headers=HERE, data=typed | {"csrf_token": stale})
    assert answer.status_code == (401 if is_offered else 303)
    assert "hunter2" not in answer.text
