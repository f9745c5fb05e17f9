"""The webhook form as a merchant meets it: recipes, folded parts, copies, checks while typing."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from portal.composing.compose import Certificate, authorization, certificate
from portal.db.session import db
from portal.models import Merchant
from portal.models.webhook import MASK
from portal.outbound.access_tokens import Client
from portal.webhooks import recipes, setup
from tests.certificates import Authority

SignIn = Callable[[str], FlaskClient]
NEW = "/m/alice/webhooks/new"
PART = {"HX-Request": "true", "HX-Request-Type": "partial"}
CANARY = "canary-51c2"


@pytest.fixture
def editor(signed_in: SignIn) -> FlaskClient:
    return signed_in("editor")


def open_parts(page: str) -> list[str]:
    """The titles of the form's folded parts that are open."""
    return re.findall(r'<details class="part" open>\s*<summary><span>([\w ]+) <small', page)


def test_a_new_webhook_begins_with_the_recipes(editor: FlaskClient) -> None:
    page = editor.get(NEW).text
    for recipe in recipes.all_recipes().values():
        assert f"{NEW}?recipe={recipe.key}" in page
        assert recipe.title in page
    assert f"{NEW}?recipe=blank" in page


@pytest.mark.parametrize("key", list(recipes.all_recipes()))
def test_a_recipe_fills_the_form_and_shows_its_request_before_the_url_is_given(
    editor: FlaskClient, key: str
) -> None:
    page = editor.get(f"{NEW}?recipe={key}").text
    assert page.count("<li>") >= len(recipes.all_recipes()[key].steps)
    for event in recipes.all_recipes()[key].fields.get("events", []):
        assert f'value="{event}" checked' in page
        assert "The URL is still to be given" in page
    assert "The request can be shown when this is settled" not in page


def test_a_blank_form_shows_url_and_events_and_folds_the_rest(editor: FlaskClient) -> None:
    assert open_parts(editor.get(f"{NEW}?recipe=blank").text) == []


def test_of_a_recipe_only_what_is_still_to_be_given_is_open(editor: FlaskClient) -> None:
    slack = editor.get(f"{NEW}?recipe=slack").text
    assert open_parts(slack) == []
    assert slack.count("filled in</span>") == 1, "the body says that it is filled"
    assert open_parts(editor.get(f"{NEW}?recipe=erp").text) == ["Request"]
    assert open_parts(editor.get(f"{NEW}?recipe=smart-speaker").text) == ["Request"]


def test_what_is_wrong_is_open(editor: FlaskClient) -> None:
    answer = editor.post(
        "/m/alice/webhooks",
        data={
            "url": "https://8.8.8.8/",
            "events": "*",
            "timeout_seconds": "900",
            "method": "POST",
            "include_object_record": "1",
            "enabled": "1",
            "recipe": "slack",
        },
    )
    assert answer.status_code == 422
    assert open_parts(answer.text) == ["Advanced"]
    assert "api.slack.com/apps" in answer.text, "the steps stay"


def test_an_event_type_leads_straight_to_the_form(editor: FlaskClient) -> None:
    page = editor.get(f"{NEW}?event=refund.created").text
    assert 'value="refund.created" checked' in page


def test_an_unknown_recipe_is_a_blank_form(editor: FlaskClient) -> None:
    answer = editor.get(f"{NEW}?recipe=no-such")
    assert answer.status_code == 200
    assert 'name="url"' in answer.text


def test_a_copy_has_everything_but_the_secrets(editor: FlaskClient, merchant: Merchant) -> None:
    original = setup.create_webhook(
        merchant.id,
        {
            "url": "https://8.8.8.8/hook",
            "events": ["order.*"],
            "description": "Orders",
            "headers": {"X-Auth": {"value": CANARY, "secret": True}, "X-Shop": "north"},
            "except_sources": ["erp"],
            "rate_per_second": 7,
            "auth": {"type": "basic", "user": "shop", "password": CANARY},
        },
        "test",
    )
    page = editor.get(f"{NEW}?from={original.id}").text
    assert "A copy, not saved yet" in page
    for kept in ("https://8.8.8.8/hook", "Copy of Orders", "X-Auth", "north", 'value="7"'):
        assert kept in page
    assert CANARY not in page
    assert original.secret not in page
    # Dots in a field would stand for a value that is not there.
    assert MASK not in page.partition('id="preview"')[0]
    assert open_parts(page) == ["Request", "Authentication", "Source filter", "Advanced"]
    assert editor.get(f"{NEW}?from=wh_nobodys").status_code == 404


def test_a_password_is_typed_once_and_never_on_a_page(
    editor: FlaskClient, merchant: Merchant
) -> None:
    typed = {
        "url": "https://8.8.8.8/",
        "events": "*",
        "method": "POST",
        "enabled": "1",
        "include_object_record": "1",
        "auth_type": "basic",
        "auth_password": CANARY,
    }
    refused = editor.post("/m/alice/webhooks", data=typed)
    assert refused.status_code == 422
    assert open_parts(refused.text) == ["Authentication"]
    assert "Give the user for HTTP Basic." in refused.text
    assert CANARY not in refused.text
    (sealed,) = re.findall(r'name="auth_password_sealed" value="([^"]+)"', refused.text)
    typed |= {"auth_user": "erp", "auth_password": MASK, "auth_password_sealed": sealed}
    assert editor.post("/m/alice/webhooks", data=typed).status_code == 303
    db.session.rollback()
    (webhook,) = setup.list_webhooks(merchant.id)
    path = f"/m/alice/webhooks/{webhook.id}"
    page = editor.get(f"{path}/edit").text
    assert f'name="auth_password" type="password" value="{MASK}"' in page
    assert "Basic" in editor.get(path).text
    del typed["auth_password_sealed"]
    typed |= {"auth_user": "shop", "version": str(webhook.version)}
    assert editor.post(f"{path}/edit", data=typed).status_code == 303
    db.session.rollback()
    (webhook,) = setup.list_webhooks(merchant.id)
    expected = base64.b64encode(f"shop:{CANARY}".encode()).decode()
    assert authorization(webhook.auth) == f"Basic {expected}"


def test_a_url_is_checked_when_it_is_left(editor: FlaskClient) -> None:
    def check(url: str) -> str:
        answer = editor.post("/m/alice/webhooks/check-url", data={"url": url}, headers=PART)
        assert answer.status_code == 200
        return answer.text

    assert "starts with https://" in check("erp.example.com")
    assert "10.0.0.9 (private)" in check("http://10.0.0.9/hook")
    assert check("https://8.8.8.8/hook").strip() == ""
    assert check("").strip() == "", "nothing is said before something was typed"


def test_types_that_fire_together_are_said_while_choosing(editor: FlaskClient) -> None:
    def choose(*events: str) -> str:
        form = {"url": "", "events": list(events), "method": "POST"}
        return editor.post("/m/alice/webhooks/preview", data=form, headers=PART).text

    assert "comes with" not in choose("order.created")
    assert "2 chosen" in choose("order.created", "checkout.completed")
    warned = choose("order.created", "checkout.completed")
    assert "<code>checkout.completed</code> comes with <code>order.created</code>" in warned
    # Who takes everything knows that it is everything.
    assert "comes with" not in choose("*")


def test_a_value_that_is_still_missing_is_pointed_at(editor: FlaskClient) -> None:
    assert "Give its value, or remove it." in editor.get(f"{NEW}?recipe=telegram").text
    assert "Give its value" not in editor.get(f"{NEW}?recipe=slack").text


def test_saving_says_how_many_events_would_have_matched(editor: FlaskClient) -> None:
    answer = editor.post(
        "/m/alice/webhooks",
        data={
            "url": "https://8.8.8.8/hook",
            "events": "order.created",
            "method": "POST",
            "include_object_record": "1",
            "enabled": "1",
        },
        follow_redirects=True,
    )
    assert "0 events of the last 7 days would have matched." in answer.text


def test_a_client_certificate_is_pasted_and_its_key_never_on_a_page_again(
    editor: FlaskClient, merchant: Merchant, tmp_path: Path
) -> None:
    chain, key = Authority(tmp_path).issue("north")
    # Browsers send line breaks as CR LF.
    typed = {
        "url": "http://8.8.8.8/",
        "events": "*",
        "method": "POST",
        "enabled": "1",
        "auth_type": "certificate",
        "auth_certificate": chain.replace("\n", "\r\n"),
        "auth_key": key.replace("\n", "\r\n"),
    }
    refused = editor.post("/m/alice/webhooks", data=typed)
    assert refused.status_code == 422
    assert "give a URL that starts with https://" in html.unescape(refused.text)
    assert key.splitlines()[1] not in refused.text
    (sealed,) = re.findall(r'name="auth_key_sealed" value="([^"]+)"', refused.text)
    typed |= {"url": "https://8.8.8.8/", "auth_key": MASK, "auth_key_sealed": sealed}
    assert editor.post("/m/alice/webhooks", data=typed).status_code == 303
    db.session.rollback()
    (webhook,) = setup.list_webhooks(merchant.id)
    assert certificate(webhook.auth) == Certificate(chain, key)
    page = editor.get(f"/m/alice/webhooks/{webhook.id}").text
    assert "Client certificate, until" in page
    assert key.splitlines()[1] not in page


def test_oauth2_is_typed_and_shown_without_its_secret(
    editor: FlaskClient, merchant: Merchant
) -> None:
    typed = {
        "url": "https://8.8.8.8/",
        "events": "*",
        "method": "POST",
        "enabled": "1",
        "auth_type": "oauth2",
        "auth_token_url": " https://8.8.4.4/token ",
        "auth_client_id": "shop",
        "auth_client_secret": CANARY,
        "auth_client_auth": "body",
        "auth_scope": "orders  hooks",
    }
    refused = editor.post("/m/alice/webhooks", data=typed)
    assert refused.status_code == 422
    assert "single spaces" in refused.text
    assert (
        editor.post("/m/alice/webhooks", data=typed | {"auth_scope": "orders hooks"}).status_code
        == 303
    )
    db.session.rollback()
    (webhook,) = setup.list_webhooks(merchant.id)
    client = Client.of(webhook.auth)
    assert client == Client(
        "https://8.8.4.4/token", "shop", CANARY, "orders hooks", "", in_body=True
    )
    path = f"/m/alice/webhooks/{webhook.id}"
    for page in (editor.get(path).text, editor.get(f"{path}/edit").text):
        assert "https://8.8.4.4/token" in page
        assert CANARY not in page
