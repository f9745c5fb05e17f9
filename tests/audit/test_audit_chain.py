"""What was noted in the audit log cannot be changed unseen."""

from __future__ import annotations

import contextvars
import threading

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.audit import chain, log
from portal.db.session import db, writing
from portal.models import AuditEntry, Merchant
from portal.webhooks import setup
from tests.cli.test_cli import Call, migrated, portal
from tests.conftest import on_both_databases
from tests.factories import make_webhook

__all__ = ["migrated", "portal"]


def noted(count: int, merchant_id: int | None = None) -> None:
    for number in range(count):
        with writing() as session:
            log.record(
                session,
                "user:ann@example.com",
                "thing.done",
                f"thing {number}",
                merchant_id,
                before="é",
                after=[1, None, {"b": 2, "a": 1.5}],
            )


def note_and_fail() -> None:
    with writing() as session:
        log.record(session, "cli", "thing.undone")
        raise ZeroDivisionError


@on_both_databases
def test_every_entry_is_chained_and_a_transaction_that_fails_leaves_no_gap(
    app: Flask, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chain, "BATCH", 2)
    before = chain.verify()
    webhook = make_webhook(merchant)
    setup.disable(webhook.merchant_id, webhook.id, "For a while.", "user:ann@example.com")
    with pytest.raises(ZeroDivisionError):
        note_and_fail()
    noted(4)
    with writing() as session:
        log.record(session, "cli", "one.of.two")
        session.flush()
        log.record(session, "cli", "two.of.two")
    found = chain.verify()
    assert found.broken is None
    assert found.entries == before.entries + 7
    assert chain.verify(before.end).broken is None
    assert chain.verify("f" * 64).broken == ("The end that was kept is not in the log any more.")


@on_both_databases
def test_entries_of_many_threads_stand_one_after_another(app: Flask, merchant: Merchant):
    merchant_id = merchant.id
    db.session.rollback()
    failures = []

    def work() -> None:
        with app.app_context():
            try:
                noted(5, merchant_id)
            except Exception as error:  # noqa: BLE001 - any is a failure, shown below
                failures.append(error)

    threads = [threading.Thread(target=contextvars.Context().run, args=(work,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (chain.verify().broken, chain.verify().entries) == (None, 40)


@on_both_databases
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE audit_entry SET actor = 'user:bob@example.com' WHERE number = 3", "Entry 3 "),
        ("UPDATE audit_entry SET at = at + 1 WHERE number = 3", "Entry 3 "),
        ("UPDATE audit_entry SET detail = '{}' WHERE number = 3", "Entry 3 "),
        ("UPDATE audit_entry SET address = '10.0.0.1' WHERE number = 3", "Entry 3 "),
        ("DELETE FROM audit_entry WHERE number = 3", "Entry 3 is missing"),
        ("DELETE FROM audit_entry WHERE number = 5", "Entries after 4 are missing"),
        ("DELETE FROM audit_entry", "Entries after 0 are missing"),
        (
            "UPDATE audit_entry SET number = NULL, hash = NULL WHERE number = 5",
            "after 4 are missing",
        ),
        (
            "INSERT INTO audit_entry (at, actor, action, target, detail) "
            "VALUES (1, 'cli', 'x', '', '{}')",
            "never chained",
        ),
    ],
)
def test_what_is_changed_in_the_database_is_found_and_named(app: Flask, statement: str, said: str):
    noted(5)
    assert chain.verify().broken is None
    db.session.execute(sa.text(statement))
    db.session.commit()
    assert said in (chain.verify().broken or "")


def test_an_entry_of_a_request_says_from_where(app: Flask, merchant: Merchant):
    with app.test_request_context(environ_base={"REMOTE_ADDR": "192.0.2.7"}):
        noted(1)
    noted(1)
    assert db.session.scalars(sa.select(AuditEntry.address).order_by(AuditEntry.id)).all() == [
        "192.0.2.7",
        None,
    ]


@pytest.mark.whole
def test_an_operator_verifies_the_log(migrated: Call):
    assert migrated("merchant", "create", "acme", "--name", "Acme").returncode == 0
    done = migrated("audit", "verify")
    assert done.stdout.startswith("1 entries, whole; end: ")
    end = done.stdout.rpartition(" ")[2].strip()
    assert migrated("merchant", "activate", "acme").returncode == 0
    assert migrated("audit", "verify", "--end", end).returncode == 0
    assert migrated("audit", "verify", "--end", "0" * 63 + "1").returncode == 1
