"""After the secret key was changed, nothing that is stored needs the old one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import vault
from portal.db.session import Base, db
from portal.models import IdempotencyKey, Mail, Merchant, User, Webhook
from portal.run import sealed_word
from portal.upkeep import resealing
from tests.cli.test_cli import Call, migrated, portal
from tests.conftest import on_both_databases
from tests.factories import make_user, make_webhook

__all__ = ["migrated", "portal"]

OLD, NEW = "o" * 40, "n" * 40


def use_keys(app: Flask, *keys: str) -> None:
    app.config["PORTAL"] = replace(app.config["PORTAL"], secret_keys=keys)
    db.session.expire_all()


@on_both_databases
def test_everything_that_is_stored_opens_with_the_new_key_alone(app: Flask, merchant: Merchant):
    use_keys(app, OLD)
    pairs = [
        {"name": "X-Key", "value": vault.encrypt("hidden"), "secret": True},
        {"name": "X-Plain", "value": "shown", "secret": False},
    ]
    auth = {"type": "basic", "user": "erp", "password": vault.encrypt("hidden too")}
    webhooks = [
        make_webhook(merchant, headers=pairs, query_params=pairs, auth=auth) for _ in range(3)
    ]
    webhooks[0].rotate_secret("whsec_" + "QUFB" * 11)
    webhooks[0].rotate_secret("whsec_" + "QkJC" * 11)
    plain = make_webhook(merchant)
    db.session.add(Mail.make("ann@example.com", "Subject", "Body"))
    make_user("ann@example.com").totp_token = vault.encrypt("code")
    db.session.add(
        IdempotencyKey(
            merchant_id=merchant.id,
            key="once",
            digest="d",
            status=201,
            answer_token=vault.encrypt("answer"),
        )
    )
    db.session.commit()
    sealed_word.check()
    secrets = {one.id: one.signing_secrets(0) for one in (*webhooks, plain)}
    before = {one.id: (one.version, one.updated_at) for one in webhooks}

    use_keys(app, NEW, OLD)
    result = resealing.reseal()
    assert result.unreadable == []
    assert result.renewed == {
        "mail.body_token": 1,
        "user_account.totp_token": 1,
        "idempotency_key.answer_token": 1,
        "webhook.secret_token": 4,
        "webhook.old_secrets": 1,
        "webhook.query_params": 3,
        "webhook.headers": 3,
        "webhook.auth": 3,
        "sealed_word.word_token": 1,
    }
    assert set(resealing.reseal().renewed.values()) == {0}, "a second run finds nothing to do"

    use_keys(app, NEW)
    sealed_word.check()
    for webhook in db.session.scalars(sa.select(Webhook)).all():
        assert webhook.signing_secrets(0) == secrets[webhook.id]
    first = db.session.get_one(Webhook, webhooks[0].id)
    assert vault.decrypt(first.headers[0]["value"]) == "hidden"
    assert vault.decrypt(first.query_params[0]["value"]) == "hidden"
    assert first.headers[1] == pairs[1]
    assert first.auth is not None
    assert vault.decrypt(first.auth["password"]) == "hidden too"
    assert first.auth["user"] == "erp"
    assert len(first.old_secrets) == 2
    assert all(vault.decrypt(old["token"]) for old in first.old_secrets)
    for column, text in (
        (Mail.body_token, "Body"),
        (User.totp_token, "code"),
        (IdempotencyKey.answer_token, "answer"),
    ):
        assert vault.decrypt(db.session.scalars(sa.select(column)).one() or "") == text
    assert {
        one.id: (one.version, one.updated_at)
        for one in db.session.scalars(sa.select(Webhook).where(Webhook.id.in_(before)))
    } == before


@on_both_databases
def test_many_rows_are_done_in_batches_and_what_no_key_opens_is_named(
    app: Flask, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resealing, "BATCH", 2)
    use_keys(app, "lost" * 10)
    lost = make_webhook(merchant)
    use_keys(app, OLD)
    for _ in range(5):
        make_webhook(merchant)
    use_keys(app, NEW, OLD)
    result = resealing.reseal()
    assert result.renewed["webhook.secret_token"] == 5
    assert result.unreadable == [f"webhook.secret_token of {lost.id}"]


def test_every_column_that_holds_a_token_is_found():
    """A column that the vault encrypts is named `…_token`, and the other way round."""
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            assert column.name.endswith("_token") == isinstance(column.type, vault.Token), column


@pytest.mark.whole
def test_an_operator_changes_the_key_with_two_commands(migrated: Call, environment: dict[str, str]):
    fresh = migrated("secrets", "new-key").stdout.strip()
    assert len(fresh) >= 32
    old = environment.get("PORTAL_SECRET_KEY", OLD)
    environment["PORTAL_SECRET_KEY"] = f"{fresh},{old}"
    done = migrated("secrets", "rotate-key")
    assert done.returncode == 0, done.stderr
    assert "take them out" in done.stdout
    counts = json.loads(migrated("secrets", "rotate-key", "--json").stdout)
    assert counts["unreadable"] == []
