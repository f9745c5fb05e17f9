"""Owners are told by mail when their store has nearly stored what it may, and when it has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import jobs
from portal.api import saved_answers
from portal.clock import DAY, HOUR, now
from portal.db.session import db, writing
from portal.errors import StorageFull
from portal.models import AuditEntry, Mail, Merchant, OperationsEntry, StoredBytes
from portal.notices import choices, mail, storage_notices
from portal.storage import allowance, measuring
from portal.storage.allowance import MB
from tests.conftest import on_both_databases
from tests.factories import make_merchant, make_user
from tests.mailbox import Mailbox


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    yield mailbox
    mailbox.close()


@pytest.fixture
def settings(mailbox: Mailbox) -> dict[str, str]:
    return {
        "MERCHANT_MB": "10",
        "SMTP_URL": f"smtp://127.0.0.1:{mailbox.port}",
        "MAIL_FROM": "hooks@example.com",
        "PUBLIC_URL": "https://hooks.example.com",
    }


def mailed(merchant: Merchant, mailbox: Mailbox, megabytes: float) -> list[str]:
    """The subjects of what is mailed when so much is stored."""
    day, before = now() // DAY * DAY, len(mailbox.messages)
    with writing() as session:
        session.merge(
            StoredBytes(
                merchant_id=merchant.id, starts_at=day, logs=int(megabytes * MB), payloads=0
            )
        )
    jobs.notify()
    with writing() as session:
        session.execute(sa.update(Mail).values(next_attempt_at=now()))
    mail.send_due()
    return [str(message["Subject"]) for message in mailbox.messages[before:]]


@on_both_databases
def test_owners_are_told_once_that_it_is_nearly_full_and_once_that_it_is(
    app: Flask, merchant: Merchant, mailbox: Mailbox
):
    for role in ("owner", "editor", "viewer"):
        make_user(role, merchant, email=f"{role}@example.com")
    make_user("owner", make_merchant("bob"), email="bob@example.com")
    measuring.measure()
    nearly, full = (
        f"[{merchant.name}] storage is {text}"
        for text in ("85% full", "full, new events are refused")
    )
    assert mailed(merchant, mailbox, 7.9) == []
    assert mailed(merchant, mailbox, 8.5) == [nearly]
    text = mailbox.messages[-1].get_content()
    assert "has stored 8.5 MB of 10 MB" in text
    assert "https://hooks.example.com/m/alice/settings#storage" in text
    # Up and down around a mark is no news.
    for megabytes in (9.0, 7.9, 8.5):
        assert mailed(merchant, mailbox, megabytes) == []
    assert mailed(merchant, mailbox, 10) == [full]
    for megabytes in (12, 9.9, 10.1, 8.5, 10.1):
        assert mailed(merchant, mailbox, megabytes) == []
    assert mailed(merchant, mailbox, 7.4) == []
    # There was room: it is news again, and all at once is one mail.
    assert mailed(merchant, mailbox, 11) == [full]
    assert set(mailbox.recipients) == {"owner@example.com"}
    assert db.session.scalars(
        sa.select(AuditEntry.action)
        .where(AuditEntry.action.startswith("merchant.storage"))
        .order_by(AuditEntry.number)
    ).all() == ["merchant.storage_nearly_full", *["merchant.storage_full"] * 2]
    assert (
        len(
            db.session.scalars(
                sa.select(OperationsEntry).where(OperationsEntry.kind == storage_notices.KIND)
            ).all()
        )
        == 2
    )


def test_who_wants_no_such_mail_gets_none(app: Flask, merchant: Merchant, mailbox: Mailbox):
    owner = make_user("owner", merchant, email="ann@example.com")
    editor = make_user("editor", merchant, email="ed@example.com")
    choices.choose(owner, merchant, ["held"])
    choices.choose(editor, merchant, ["storage"])
    measuring.measure()
    assert mailed(merchant, mailbox, 10)
    assert mailbox.recipients == ["ed@example.com"]


def test_a_key_for_which_there_is_no_room_is_refused_before_anything_is_done(
    app: Flask, merchant: Merchant, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
):
    measuring.measure(now() + HOUR)
    monkeypatch.setattr(allowance, "KEPT_SECONDS", -1.0)
    assert saved_answers.claim(merchant.id, "before", "d" * 64) is None
    saved_answers.save_answer(merchant.id, "before", saved_answers.SavedAnswer(200, {}, "{}"))
    mailed(merchant, mailbox, 10)
    with pytest.raises(StorageFull, match="Send it without one"):
        saved_answers.claim(merchant.id, "after", "d" * 64)
    kept = saved_answers.claim(merchant.id, "before", "d" * 64)
    assert kept == saved_answers.SavedAnswer(200, {}, "{}")
