"""The page of one attempt, and the link that shares it with someone without an account."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape

from portal.clock import DAY, HOUR, now
from portal.db.session import db, writing
from portal.diagnosis import shares
from portal.errors import NotFound
from portal.models import Attempt, AttemptShare, AuditEntry, Merchant, User, Webhook
from portal.people import accounts, members
from portal.signing import Signer
from portal.strict_json import dump
from portal.web import snippets
from tests import factories
from tests.conftest import on_both_databases

SignIn = Callable[[str], FlaskClient]
BODY = b'{"id":"evt_1","data":{"total":"99.50"}}'


def make_attempt(merchant: Merchant, **fields: object) -> Attempt:
    webhook = factories.make_webhook(merchant, description=f"ERP of {merchant.slug}")
    headers = Signer([webhook.secret]).headers("evt_1", now() // 1_000_000, BODY)
    delivery = factories.make_delivery(factories.make_event(merchant), webhook, "failed")
    values = {
        "status": 500,
        "request_headers": dump([*headers, ["X-Api-Key", "k-123"]]),
        "body_kind": "own",
        "request_body": BODY,
        "response_body": b"<script>alert(1)</script>",
    }
    return factories.make_attempt(delivery, **(values | fields))


@pytest.fixture
def attempt(merchant: Merchant) -> Attempt:
    return make_attempt(merchant)


def link_in(page: str) -> str:
    found = re.search(r"/shared/[\w-]+", page)
    assert found, page
    return found[0]


# ── The page ──────────────────────────────────────────────────────────────────────────────


def test_the_page_says_what_happened_what_to_do_and_who_can(signed_in: SignIn, attempt: Attempt):
    page = signed_in("viewer").get(f"/m/alice/attempts/{attempt.id}").text
    for wanted in ("The receiver failed", "What to do", "Who can", "Text for the receiver’s"):
        assert wanted in page
    assert "<script>alert(1)" not in page


def test_the_page_checks_both_signatures_and_shows_the_signed_bytes(
    signed_in: SignIn, attempt: Attempt
):
    page = signed_in("viewer").get(f"/m/alice/attempts/{attempt.id}").text
    assert 'Standard Webhooks <span class="badge good">' in page
    assert 'Evox <span class="badge good">' in page
    assert re.search(r"evt_1\.\d+\.\{&#34;id&#34;:&#34;evt_1&#34;", page)


def test_the_page_never_holds_the_secret(signed_in: SignIn, attempt: Attempt):
    webhook = db.session.get_one(Webhook, attempt.webhook_id)
    assert webhook.secret not in signed_in("owner").get(f"/m/alice/attempts/{attempt.id}").text


def test_the_page_of_an_expired_payload_still_explains(signed_in: SignIn, merchant: Merchant):
    old = make_attempt(merchant, attempted_at=now() - 16 * DAY)
    page = signed_in("viewer").get(f"/m/alice/attempts/{old.id}").text
    assert "The receiver failed" in page
    assert "The payload has expired" in page
    assert "Signature check" not in page


# ── The share link ────────────────────────────────────────────────────────────────────────


def test_a_link_has_the_public_address_whatever_name_the_request_had(
    app: Flask, signed_in: SignIn, attempt: Attempt
):
    made = signed_in("editor").post(f"/m/alice/attempts/{attempt.id}/shares", data={"hours": "24"})
    assert made.request.host == "localhost"
    assert f"{app.config['PORTAL'].public_url}/shared/" in made.text
    assert "localhost/shared/" not in made.text


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (
            "在庫なし".encode("shift_jis"),
            [["Content-Type", "text/plain; charset=Shift_JIS"]],
            "Shown decoded from cp932.",
        ),
        (
            gzip.compress("在庫なし".encode(), mtime=0),
            [["Content-Encoding", "gzip"]],
            "Shown unpacked from gzip.",
        ),
    ],
)
def test_an_answer_is_shown_as_it_is_to_be_read_to_both_sides(
    app: Flask, signed_in: SignIn, merchant: Merchant, body: bytes, headers: object, said: str
):
    values = {"response_body": body, "response_headers": dump(headers)}
    address = f"/m/alice/attempts/{make_attempt(merchant, **values).id}"
    client = signed_in("editor")
    made = client.post(f"{address}/shares", data={"hours": "24"})
    for page in (client.get(address).text, app.test_client().get(link_in(made.text)).text):
        assert "在庫なし" in page
        assert said in page


def test_that_a_request_was_sent_twice_is_said_to_both_sides(
    app: Flask, signed_in: SignIn, merchant: Merchant
):
    once, twice = (make_attempt(merchant, sends=sends).id for sends in (1, 2))
    client = signed_in("editor")
    for attempt_id, said in ((once, False), (twice, True)):
        page = client.get(f"/m/alice/attempts/{attempt_id}").text
        assert ("twice: the connection died without an answer" in page) is said
        assert ("Sent twice:" in page) is said
        made = client.post(f"/m/alice/attempts/{attempt_id}/shares", data={"hours": "24"})
        shared = app.test_client().get(link_in(made.text)).text
        assert ("You may have got both, with the same ID." in shared) is said


def test_a_link_shows_one_attempt_to_anyone_and_nothing_else_of_the_merchant(
    app: Flask, signed_in: SignIn, attempt: Attempt
):
    made = signed_in("editor").post(f"/m/alice/attempts/{attempt.id}/shares", data={"hours": "24"})
    assert made.status_code == 200
    shown = app.test_client().get(link_in(made.text))
    assert shown.status_code == 200
    assert attempt.id in shown.text
    assert "The receiver failed" in shown.text
    for other in ("alice", "ERP of", "k-123", attempt.webhook_id, "/m/"):
        assert other not in shown.text
    assert shown.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert shown.headers["Referrer-Policy"] == "no-referrer"
    assert shown.headers["Cache-Control"] == "no-store"


def test_a_member_who_opens_the_link_sees_what_everyone_sees(signed_in: SignIn, attempt: Attempt):
    client = signed_in("editor")
    made = client.post(f"/m/alice/attempts/{attempt.id}/shares", data={"hours": "1"})
    assert "/m/alice" not in client.get(link_in(made.text)).text


def test_the_token_is_shown_once_and_kept_as_a_hash(signed_in: SignIn, attempt: Attempt):
    client = signed_in("editor")
    made = client.post(f"/m/alice/attempts/{attempt.id}/shares", data={"hours": "1"})
    token = link_in(made.text).rsplit("/", 1)[1]
    assert len(token) >= 43
    db.session.rollback()
    share = db.session.scalars(sa.select(AttemptShare)).one()
    assert token not in f"{share.id}{share.digest}"
    page = client.get(f"/m/alice/attempts/{attempt.id}").text
    assert token not in page
    assert "Revoke" in page


def test_expired_revoked_unknown_and_purged_links_answer_alike(
    app: Flask, signed_in: SignIn, attempt: Attempt
):
    client = signed_in("editor")
    links = [
        link_in(client.post(f"/m/alice/attempts/{attempt.id}/shares", data={"hours": "1"}).text)
        for _ in range(3)
    ]
    db.session.rollback()
    _, second, first = [one.id for one in shares.list_shares(attempt.merchant_id, attempt.id)]
    client.post(f"/m/alice/attempts/{attempt.id}/shares/{first}/revoke")
    with writing() as session:
        session.get_one(AttemptShare, second).expires_at = now() - 1
    reader = app.test_client()
    assert reader.get(links[2]).status_code == 200
    with writing() as session:
        session.execute(sa.delete(Attempt))
    answers = [reader.get(link) for link in [*links, "/shared/unknown"]]
    assert {answer.status_code for answer in answers} == {404}
    texts = {re.sub(r'X-CSRFToken": "[^"]*"', "", answer.text) for answer in answers}
    assert len(texts) == 1


@on_both_databases
@pytest.mark.parametrize("ends", ["removed", "viewer", "disabled"])
def test_a_link_ends_with_the_role_of_who_made_it(
    app: Flask, signed_in: SignIn, merchant: Merchant, ends: str
):
    client = signed_in("editor")
    db.session.rollback()
    owner, reader = signed_in("owner"), app.test_client()
    db.session.rollback()
    address = f"/m/alice/attempts/{make_attempt(merchant).id}"
    link = link_in(client.post(f"{address}/shares", data={"hours": "168"}).text)
    assert reader.get(link).status_code == 200
    assert "ended with its maker" not in owner.get(address).text
    db.session.rollback()
    editor = db.session.scalars(sa.select(User).where(User.name == "editor")).one()
    if ends == "removed":
        members.remove_member(merchant, editor.id, "cli")
    elif ends == "viewer":
        members.change_member(merchant, editor.id, "viewer", "cli")
    else:
        accounts.disable_user(editor, "cli")
    assert reader.get(link).status_code == 404
    assert "ended with its maker" in owner.get(address).text


def test_a_link_lives_as_long_as_was_chosen(attempt: Attempt):
    for hours in shares.LIFETIMES:
        token = shares.create_share(attempt.merchant_id, attempt.id, hours, "cli")
        share, _ = shares.shared_attempt(token)
        assert share.expires_at - share.created_at == int(hours) * HOUR


def test_who_shared_and_revoked_is_in_the_audit_log(signed_in: SignIn, attempt: Attempt):
    client = signed_in("editor")
    client.post(f"/m/alice/attempts/{attempt.id}/shares", data={"hours": "1"})
    db.session.rollback()
    share = db.session.scalars(sa.select(AttemptShare)).one()
    for _ in range(2):
        client.post(f"/m/alice/attempts/{attempt.id}/shares/{share.id}/revoke")
    db.session.rollback()
    noted = db.session.scalars(
        sa.select(AuditEntry.action).where(AuditEntry.target == attempt.id)
    ).all()
    assert noted == ["attempt.shared", "attempt.share_revoked"]


def test_wrong_hours_and_too_many_links_are_refused_with_a_sentence(
    signed_in: SignIn, attempt: Attempt
):
    client = signed_in("editor")
    url = f"/m/alice/attempts/{attempt.id}/shares"
    answer = client.post(url, data={"hours": "9999"})
    assert answer.status_code == 422
    assert "Choose how long the link works." in answer.text
    for _ in range(shares.MAX_OPEN):
        assert client.post(url, data={"hours": "1"}).status_code == 200
    answer = client.post(url, data={"hours": "1"})
    assert answer.status_code == 409
    assert "revoke one first" in answer.text


def test_a_viewer_shares_nothing(signed_in: SignIn, attempt: Attempt):
    client = signed_in("viewer")
    url = f"/m/alice/attempts/{attempt.id}/shares"
    assert client.post(url, data={"hours": "1"}).status_code == 403
    assert "Make a link" not in client.get(f"/m/alice/attempts/{attempt.id}").text


def test_anothers_attempt_and_link_are_as_none_at_all(signed_in: SignIn, attempt: Attempt):
    bob = factories.make_merchant("bob")
    foreign = make_attempt(bob)
    shares.create_share(bob.id, foreign.id, "1", "cli")
    (share,) = shares.list_shares(bob.id, foreign.id)
    client = signed_in("editor")
    base = "/m/alice/attempts"
    for url in (
        f"{base}/{foreign.id}/shares",
        f"{base}/{foreign.id}/shares/{share.id}/revoke",
        f"{base}/{attempt.id}/shares/{share.id}/revoke",
    ):
        assert client.post(url, data={"hours": "1"}).status_code == 404
    db.session.refresh(share)
    assert share.revoked_at is None


def test_one_address_cannot_try_tokens_without_end(app: Flask):
    reader = app.test_client()
    statuses = [reader.get(f"/shared/{number}").status_code for number in range(61)]
    assert statuses[:60] == [404] * 60
    assert statuses[60] == 429


@on_both_databases
def test_links_that_ended_long_ago_are_cleared_with_the_next_one(app: Flask, merchant: Merchant):
    attempt = make_attempt(merchant)
    old = shares.create_share(merchant.id, attempt.id, "1", "cli")
    (share,) = shares.list_shares(merchant.id, attempt.id)
    share_id = share.id
    share.expires_at = now() - shares.KEPT_AFTER - 1
    db.session.commit()
    shares.create_share(merchant.id, attempt.id, "1", "cli")
    assert share_id not in [one.id for one in shares.list_shares(merchant.id, attempt.id)]
    with pytest.raises(NotFound):
        shares.shared_attempt(old)


def test_the_page_gives_the_programs_of_examples_as_they_are(signed_in: SignIn, attempt: Attempt):
    page = signed_in("viewer").get(f"/m/alice/attempts/{attempt.id}").text
    for one in snippets.verify():
        assert f'aria-label="{one.title}"' in page
        assert f'data-copy="{escape(one.code)}"' in page
