"""What the audit log has of tries to get into an account."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from portal.clock import DAY
from portal.db.session import db
from portal.models import AuditEntry, Merchant
from portal.people import accounts, resets, tries
from tests.conftest import PASSWORD, on_both_databases
from tests.factories import make_user

FROM = {"environ_base": {"REMOTE_ADDR": "203.0.113.7"}}


def entries() -> list[tuple[str, str, str | None]]:
    db.session.rollback()
    return [
        (entry.action, entry.target, entry.address)
        for entry in db.session.scalars(
            sa.select(AuditEntry).where(AuditEntry.action.like("%_refused")).order_by(AuditEntry.id)
        )
    ]


@on_both_databases
def test_who_tries_passwords_has_one_entry_and_tells_nothing_of_who_is_unknown(
    client: FlaskClient, merchant: Merchant
):
    user = make_user("owner", merchant, password=PASSWORD)
    for email in (
        user.email,
        user.email.upper(),
        "nobody@example.com",
        user.email,
        "no address",
        "a\0b@example.com",
    ):
        client.post("/sign-in", data={"email": email, "password": "hunter2"}, **FROM)
    assert entries() == [("user.sign_in_refused", user.email, "203.0.113.7")]


@on_both_databases
def test_what_anybody_may_read_of_the_portal_does_not_tell_who_has_an_account(
    client: FlaskClient, merchant: Merchant
):
    user = make_user("owner", merchant, password=PASSWORD)

    def told_by(bring_about: Callable[[str], object], email: str) -> dict[str, float]:
        """What changes in /metrics by what somebody does with an address."""

        def read() -> dict[str, float]:
            return {
                family.name + str(sample.labels): sample.value
                for family in text_string_to_metric_families(client.get("/metrics").text)
                for sample in family.samples
            }

        before = read()
        bring_about(email)
        return {name: value - before[name] for name, value in read().items()}

    def try_password(email: str) -> None:
        client.post("/sign-in", data={"email": email, "password": "hunter2"}, **FROM)

    accounts.create_merchant("bob", "", "cli")
    for bring_about in (try_password, resets.send_link):
        assert told_by(bring_about, user.email) == told_by(bring_about, "nobody@example.com")
    assert len(entries()) == 1
    assert (
        told_by(lambda slug: accounts.create_merchant(slug, "", "cli"), "carol")[
            "portal_audit_entries{}"
        ]
        == 1
    )


def test_there_is_another_entry_after_a_while(
    client: FlaskClient, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    user = make_user("owner", merchant, password=PASSWORD)
    for pause in (0, tries.EVERY - 60_000_000, tries.EVERY + 60_000_000):
        moment = time.time_ns() // 1_000 + pause
        monkeypatch.setattr(tries, "now", lambda moment=moment: moment)
        client.post("/sign-in", data={"email": user.email, "password": "hunter2"}, **FROM)
    assert len(entries()) == 2


def test_a_clock_that_was_set_back_hides_no_try(
    client: FlaskClient, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    user = make_user("owner", merchant, password=PASSWORD)
    for pause in (0, -DAY):
        moment = time.time_ns() // 1_000 + pause
        monkeypatch.setattr(tries, "now", lambda moment=moment: moment)
        client.post("/sign-in", data={"email": user.email, "password": "hunter2"}, **FROM)
    assert len(entries()) == 2


def test_a_code_and_ones_own_password_are_noted_too(
    client: FlaskClient, merchant: Merchant, signed_in: Callable[[str], FlaskClient]
):
    owner = signed_in("owner")
    owner.post("/account/password", data={"current": "hunter2"}, **FROM)
    (entry,) = entries()
    assert entry[0] == "user.password_refused"


def test_a_refusal_is_one_also_where_nothing_can_be_written(
    app: Flask, client: FlaskClient, merchant: Merchant
):
    user = make_user("owner", merchant, password=PASSWORD)
    database = sqlite3.connect(db.engine.url.database or "")
    database.execute("BEGIN IMMEDIATE")
    try:
        started = time.monotonic()
        answer = client.post("/sign-in", data={"email": user.email, "password": "hunter2"}, **FROM)
        assert (answer.status_code, time.monotonic() - started < 3) == (422, True)
    finally:
        database.rollback()
    assert entries() == []
