"""A stored secret that no key opens is the failure of what it belongs to, and of nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal import vault
from portal.clock import MINUTE, now
from portal.db.session import db, table, writing
from portal.delivery import drain
from portal.delivery.paces import Paces
from portal.events import ingest
from portal.models import AuditEntry, Delivery, Event, IdempotencyKey, Merchant, Notice, Webhook
from portal.models.delivery import HELD
from portal.models.recovery import SEND
from portal.recovery import recovery
from portal.recovery.selection import Selection
from tests.conftest import on_both_databases
from tests.factories import make_user, make_webhook
from tests.receiver import Receiver

PACES = Paces(linger_seconds=0.5, poll_seconds=0.1)

LOST = "lost" * 10
SEALED = ("secret", "header", "query_param", "basic", "bearer", "oauth2", "certificate")


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


@pytest.fixture
def use_key(app: Flask) -> Callable[[str | None], None]:
    """`use_key(LOST)`: encrypt under another key; `use_key(None)`: the portal's own again."""
    own = app.config["PORTAL"]

    def use(key: str | None) -> None:
        app.config["PORTAL"] = own if key is None else replace(own, secret_keys=(key,))
        db.session.expire_all()

    return use


def lost_webhook(
    merchant: Merchant, use_key: Callable[[str | None], None], kind: str, url: str
) -> Webhook:
    """A webhook of which one secret was sealed under a key that is gone."""
    use_key(LOST)
    token = vault.encrypt("hidden")
    pair = {"name": "X-Key", "value": token, "secret": True}
    of: dict[str, Any] = {
        "header": {"headers": [pair]},
        "query_param": {"query_params": [pair]},
        "basic": {"auth": {"type": "basic", "user": "erp", "password": token}},
        "bearer": {"auth": {"type": "bearer", "token": token}},
        "oauth2": {
            "auth": {
                "type": "oauth2",
                "token_url": url,
                "client_id": "erp",
                "client_secret": token,
                "scope": "",
                "audience": "",
                "client_auth": "header",
            }
        },
        "certificate": {"auth": {"type": "certificate", "certificate": "", "key": token}},
    }
    if kind != "secret":
        use_key(None)
    webhook = make_webhook(merchant, url, **of.get(kind, {}))
    use_key(None)
    return webhook


def send(merchant: Merchant, number: int = 0) -> str:
    fields = {"type": "order.created", "object_id": str(number), "data": {}}
    (answer,) = ingest.ingest_events(merchant.id, [fields], batch=False)
    return answer.id


def states(webhook_id: str) -> list[str]:
    db.session.rollback()
    return sorted(
        db.session.scalars(sa.select(Delivery.state).where(Delivery.webhook_id == webhook_id))
    )


@on_both_databases
@pytest.mark.parametrize("kind", SEALED)
def test_its_webhook_is_held_with_a_notice_and_the_others_of_its_lane_get_everything(
    merchant: Merchant,
    receiver: Receiver,
    use_key: Callable[[str | None], None],
    kind: str,
    caplog: pytest.LogCaptureFixture,
):
    lost = lost_webhook(merchant, use_key, kind, receiver.url("/lost")).id
    fine = make_webhook(merchant, receiver.url("/fine")).id
    for number in range(3):
        send(merchant, number)
    with caplog.at_level(logging.WARNING):
        drain.drain(0, paces=PACES)
    assert [request.path for request in receiver.ledger] == ["/fine"] * 3
    assert states(fine) == ["succeeded"] * 3
    assert states(lost) == ["pending"] * 3
    held = db.session.get_one(Webhook, lost)
    assert held.state == "held"
    assert held.failures == 0
    notice = db.session.scalars(sa.select(Notice)).one()
    assert (notice.webhook_id, notice.kind) == (lost, "held")
    assert "PORTAL_SECRET_KEY" in notice.message
    assert not [record for record in caplog.records if record.exc_info]


@on_both_databases
def test_it_is_told_once_however_often_its_lane_is_drained(
    merchant: Merchant, receiver: Receiver, use_key: Callable[[str | None], None]
):
    lost = lost_webhook(merchant, use_key, "secret", receiver.url("/lost")).id
    send(merchant)
    for _ in range(3):
        drain.drain(0, paces=PACES)
        with writing() as session:
            session.execute(
                sa.update(table(Webhook))
                .where(table(Webhook).c.id == lost)
                .values(next_probe_at=now() - MINUTE, updated_at=table(Webhook).c.updated_at)
            )
    assert len(db.session.scalars(sa.select(Notice)).all()) == 1
    drain.drain(0, paces=PACES)
    db.session.rollback()
    again_at = db.session.get_one(Webhook, lost).next_probe_at or 0
    assert 0 < again_at - now() <= MINUTE, "its lane rests meanwhile"


@on_both_databases
def test_what_waited_goes_out_when_the_key_is_back(
    merchant: Merchant, receiver: Receiver, use_key: Callable[[str | None], None]
):
    lost = lost_webhook(merchant, use_key, "secret", receiver.url("/lost")).id
    for number in range(3):
        send(merchant, number)
    drain.drain(0, paces=PACES)
    assert receiver.ledger == []
    # The operator gives both keys and restarts.
    own = use_key
    use_key(LOST)
    with writing() as session:
        session.execute(
            sa.update(table(Webhook))
            .where(table(Webhook).c.id == lost)
            .values(next_probe_at=now(), updated_at=table(Webhook).c.updated_at)
        )
    drain.drain(0, paces=PACES)
    own(None)
    assert len(receiver.ledger) == 3
    assert states(lost) == ["succeeded"] * 3
    db.session.rollback()
    assert db.session.get_one(Webhook, lost).state == "enabled"


def test_a_secret_that_is_given_anew_lets_it_send_again(
    merchant: Merchant,
    receiver: Receiver,
    use_key: Callable[[str | None], None],
    client: FlaskClient,
    api_key: str,
):
    lost = lost_webhook(merchant, use_key, "secret", receiver.url("/lost")).id
    authorization = {"Authorization": f"Bearer {api_key}"}
    shown = client.get(f"/api/v1/webhooks/{lost}", headers=authorization).get_json()
    assert shown["unreadable"] == ["its signing secret"]
    rotated = client.post(
        f"/api/v1/webhooks/{lost}/rotate-secret", json={"overlap_hours": 24}, headers=authorization
    )
    assert rotated.status_code == 200
    assert rotated.get_json()["unreadable"] == []
    send(merchant)
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 1


@pytest.mark.parametrize("kind", SEALED)
def test_pages_and_the_api_say_so_in_a_sentence_and_nothing_is_half_stored(
    merchant: Merchant,
    receiver: Receiver,
    use_key: Callable[[str | None], None],
    client: FlaskClient,
    api_key: str,
    signed_in: Callable[[str], FlaskClient],
    kind: str,
):
    lost = lost_webhook(merchant, use_key, kind, "https://93.184.216.34/hook").id
    browser = signed_in("editor")
    page = f"/m/alice/webhooks/{lost}"
    shown = browser.get(page)
    assert shown.status_code == 200
    assert "Nothing can be sent." in shown.text
    assert browser.get(f"{page}/edit").status_code == 200
    assert browser.get("/m/alice/webhooks").status_code == 200
    tested = browser.post(f"{page}/test", data={"type": "order.created"})
    assert tested.status_code == 409
    assert "under a key that the portal does not have" in tested.text
    revealed = browser.post(f"{page}/secret")
    assert revealed.status_code == (409 if kind == "secret" else 200)
    authorization = {"Authorization": f"Bearer {api_key}"}
    answers = [
        client.get("/api/v1/webhooks", headers=authorization),
        client.post(
            f"/api/v1/webhooks/{lost}/test", json={"type": "order.created"}, headers=authorization
        ),
        client.patch(f"/api/v1/webhooks/{lost}", json={"description": "x"}, headers=authorization),
    ]
    assert [answer.status_code < 500 for answer in answers] == [True] * 3
    assert answers[1].status_code == 409
    assert answers[1].content_type == "application/problem+json"
    db.session.rollback()
    assert db.session.scalars(sa.select(Event)).all() == []
    revealed_entries = db.session.scalars(
        sa.select(AuditEntry).where(AuditEntry.action == "webhook.secret_revealed")
    ).all()
    assert len(revealed_entries) == (0 if kind == "secret" else 1)


def test_what_is_held_cannot_be_sent_and_nobody_is_told_again(
    merchant: Merchant,
    receiver: Receiver,
    use_key: Callable[[str | None], None],
    client: FlaskClient,
    api_key: str,
    signed_in: Callable[[str], FlaskClient],
):
    lost = lost_webhook(merchant, use_key, "secret", receiver.url("/lost")).id
    send(merchant)
    drain.drain(0, paces=PACES)
    browser = signed_in("editor")
    shown = browser.get(f"/m/alice/webhooks/{lost}").text
    assert "1 held delivery" in shown
    assert "Discard them" in shown
    assert "Send them now" not in shown
    asked = {"action": "send", "state": "held", "webhook_id": lost}
    answers = [
        browser.post("/m/alice/recover", data=asked),
        client.post(
            f"/api/v1/webhooks/{lost}/recover",
            json={"since": 0},
            headers={"Authorization": f"Bearer {api_key}"},
        ),
    ]
    for answer in answers:
        assert answer.status_code == 409
        assert "under a key that the portal does not have" in answer.text
    # With all webhooks it is asked for too, and stays as it is.
    recovery.start(merchant.id, Selection(SEND, (HELD,)), "test")
    drain.drain(0, paces=PACES)
    db.session.rollback()
    assert db.session.get_one(Webhook, lost).state == "held"
    notice = db.session.scalars(sa.select(Notice)).one()
    assert notice.message.endswith("and go out when it can be opened.")


def test_an_answer_that_was_kept_for_a_repetition_is_not_a_500(
    merchant: Merchant, use_key: Callable[[str | None], None], client: FlaskClient, api_key: str
):
    headers = {"Authorization": f"Bearer {api_key}", "Idempotency-Key": "once"}
    body = {"url": "https://93.184.216.34/hook", "events": ["order.*"]}
    assert client.post("/api/v1/webhooks", json=body, headers=headers).status_code == 201
    use_key(LOST)
    row = db.session.scalars(sa.select(IdempotencyKey)).one()
    row.answer_token = vault.encrypt("{}")
    db.session.commit()
    use_key(None)
    again = client.post("/api/v1/webhooks", json=body, headers=headers)
    assert again.status_code == 409
    assert "was done before" in again.get_json()["detail"]


def test_a_second_factor_that_cannot_be_read_lets_recovery_codes_in(
    app: Flask, use_key: Callable[[str | None], None], client: FlaskClient
):
    from portal.people import second_factor

    user = make_user("operator", email="ann@example.com")
    with writing() as session:
        (code, *_) = second_factor.replace_codes(session, user)
    use_key(LOST)
    token = vault.encrypt("JBSWY3DPEHPK3PXP")
    use_key(None)
    user.totp_token = token
    db.session.commit()
    form = {"email": "ann@example.com", "password": "correct horse battery"}
    assert client.post("/sign-in", data=form).status_code == 303
    assert client.post("/sign-in/code", data={"code": "123456"}).status_code == 422
    assert client.post("/sign-in/code", data={"code": code}).status_code == 303
