"""No drain ends because of a delivery: what composing, sending, receiving or recording one raises
is that attempt's failure, and what is stored wrongly that webhook's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pycurl
import pytest
import sqlalchemy as sa
from flask import Flask

from portal import runtime
from portal.clock import HOUR, now
from portal.composing import compose
from portal.db.session import db, table
from portal.delivery import actions, drain, health, recording
from portal.delivery.paces import Paces
from portal.delivery.recording import FinishedAttempt
from portal.journal.seldom import Seldom
from portal.models import Attempt, Delivery, Lane, Merchant, Notice, Webhook
from portal.outbound import access_tokens, defects, transfer
from portal.outbound.access_tokens import Tokens
from portal.outbound.response import Response
from portal.vault import encrypt
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_merchant, make_webhook
from tests.receiver import Receiver

PACES = Paces(linger_seconds=0.5, poll_seconds=0.1)

ERRORS = (
    UnicodeEncodeError("utf-8", "\ud83e", 0, 1, "surrogates not allowed"),
    ValueError("embedded null"),
    KeyError("secret"),
    IndexError(),
    TypeError(),
    AttributeError(),
    AssertionError(),
    MemoryError(),
    RecursionError(),
    ZeroDivisionError(),
    OverflowError(),
    OSError(5, "I/O"),
    RuntimeError(),
    pycurl.error(43, "A libcurl function was given a bad argument"),
    StopIteration(),
)


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1", "RETRY_SCHEDULE": "0 86400 86400", "HOLD_AFTER_FAILURES": "2"}


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    # The log of another test has not said it before.
    monkeypatch.setattr(defects, "told", Seldom(logging.getLogger(defects.__name__), 60))


class Owed:
    """What is owed to a receiver: to webhooks of alice one delivery that fails by an error each,
    and one that does not; and as many to a webhook of bob."""

    def __init__(self, merchant: Merchant, receiver: Receiver, **fields: Any):
        bob = make_merchant("bob")
        fine = make_webhook(bob, receiver.url("/bob"))
        self.bad: dict[str, Exception] = {}
        """The errors by events and by deliveries."""
        self.good: set[str] = set()
        for error in ERRORS:
            webhook = make_webhook(merchant, receiver.url("/alice"), **fields)
            event = make_event(merchant)
            delivery = make_delivery(event, webhook)
            self.bad |= {event.id: error, delivery.id: error}
            self.good.add(make_delivery(make_event(merchant), webhook).id)
            self.good.add(make_delivery(make_event(bob), fine).id)

    def meet(self, id_: str) -> None:
        """Raise the error of an event or delivery, where it has one."""
        if id_ in self.bad:
            raise self.bad[id_]

    def check(self) -> None:
        """What is good has arrived; what is bad has failed once, with its code and a sentence."""
        db.session.rollback()
        for delivery in db.session.scalars(sa.select(Delivery)):
            attempt = db.session.scalars(
                sa.select(Attempt).where(Attempt.delivery_id == delivery.id)
            ).one()
            if delivery.id in self.good:
                assert (delivery.state, attempt.status, attempt.error) == ("succeeded", 200, None)
                continue
            name = type(self.bad[delivery.id]).__name__
            assert (attempt.ok, attempt.error) == (False, "internal_error")
            assert delivery.state == "pending"
            assert (attempt.error_detail or "").startswith("The portal could not ")
            assert f"({name})." in (attempt.error_detail or "")
            assert (delivery.attempts, delivery.step) == (1, 1)
            assert (delivery.next_attempt_at or 0) > now()
        assert not any(db.session.scalars(sa.select(Webhook.held_at)))
        assert db.session.scalars(sa.select(Lane)).one().leased_until == 0, "it ended in order"


def before(owner: Any, name: str, meet: Callable[..., None], patch: pytest.MonkeyPatch) -> None:
    """Have `meet` called with the same arguments before a function."""
    whole = getattr(owner, name)

    def met(*args: Any, **named: Any) -> Any:
        meet(*args, **named)
        return whole(*args, **named)

    patch.setattr(owner, name, met)


def compose_one(owed: Owed, patch: pytest.MonkeyPatch) -> None:
    before(compose.Composer, "compose", lambda _, event_id, *__: owed.meet(event_id), patch)


def start_one(owed: Owed, patch: pytest.MonkeyPatch) -> None:
    before(
        transfer.Transfer,
        "begin",
        lambda _, outgoing, *__: owed.meet(dict(outgoing.signature)["webhook-id"]),
        patch,
    )


def read_one(owed: Owed, patch: pytest.MonkeyPatch) -> None:
    before(
        transfer.Transfer, "answer", lambda self, *_: owed.meet(self.tag.trying.due.event_id), patch
    )


def settle_one(owed: Owed, patch: pytest.MonkeyPatch) -> None:
    before(recording, "settle", lambda tried, _: owed.meet(tried.due.event_id), patch)


def record_one(owed: Owed, patch: pytest.MonkeyPatch) -> None:
    def meet(tried: Sequence[FinishedAttempt], _full: Collection[int]) -> None:
        for one in tried:
            if not one.is_plain:
                owed.meet(one.due.event_id)

    before(recording, "rows_of", meet, patch)


STEPS = (compose_one, start_one, read_one, settle_one, record_one)


@on_both_databases
@pytest.mark.parametrize("step", STEPS)
def test_whatever_a_step_raises_is_the_failure_of_its_attempt_which_is_tried_again(
    app: Flask,
    merchant: Merchant,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: Callable[[Owed, pytest.MonkeyPatch], None],
):
    owed = Owed(merchant, receiver)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        step(owed, patch)
        assert drain.drain(0, paces=PACES) == 3 * len(ERRORS)
    owed.check()
    told = [record for record in caplog.records if record.exc_info]
    assert {record.exc_info[0] for record in told if record.exc_info} == set(map(type, ERRORS))
    assert len(told) == len(ERRORS)
    sent = sum(one.path == "/alice" for one in receiver.ledger)

    db.session.execute(
        sa.update(table(Delivery))
        .values(next_attempt_at=now())
        .where(table(Delivery).c.state == "pending")
    )
    db.session.commit()
    drain.drain(0, paces=PACES)
    db.session.rollback()
    assert set(db.session.scalars(sa.select(Delivery.state))) == {"succeeded"}
    assert sum(one.path == "/alice" for one in receiver.ledger) == sent + len(ERRORS)


def test_one_that_comes_again_and_again_is_told_once_with_its_traceback(
    merchant: Merchant,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    webhook = make_webhook(merchant, receiver.url())
    for _ in range(50):
        make_delivery(make_event(merchant), webhook)

    def broken(*_: Any) -> None:
        raise ValueError("canary")

    monkeypatch.setattr(compose.Composer, "compose", broken)
    drain.drain(0, paces=PACES)
    assert caplog.text.count("ValueError: canary") == 1
    assert "Traceback" in caplog.text
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Attempt)) == 50


@on_both_databases
def test_an_access_token_that_cannot_be_had_by_a_defect_is_that_attempts_failure(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    bob = make_merchant("bob")
    make_delivery(make_event(bob), make_webhook(bob, receiver.url("/bob")))
    auth = {
        "type": "oauth2",
        "token_url": receiver.url("/žeton"),
        "client_id": "erp",
        "client_secret": encrypt("hidden"),
        "scope": "",
        "audience": "",
        "client_auth": "header",
    }
    receiver.broken = {"/%C5%BEeton": (200, {}, b'{"access_token":"token"}')}
    webhook = make_webhook(merchant, receiver.url("/alice"), auth=auth)
    make_delivery(make_event(merchant), webhook)

    def broken(*_: Any) -> None:
        raise RecursionError

    for name in ("request", "read_token"):
        runtime.part(Tokens).by_client.clear()
        make_delivery(make_event(merchant), webhook)
        with monkeypatch.context() as patch:
            patch.setattr(access_tokens, name, broken)
            drain.drain(0, paces=PACES)
    assert {one.path for one in receiver.ledger} == {"/bob", "/%C5%BEeton"}
    errors = db.session.scalars(sa.select(Attempt.error).where(Attempt.webhook_id == webhook.id))
    assert errors.all() == ["internal_error"] * 3
    make_delivery(make_event(merchant), webhook)
    drain.drain(0, paces=PACES)
    assert receiver.ledger[-1].path == "/alice"
    assert receiver.ledger[-1].headers["Authorization"] == "Bearer token"


@on_both_databases
def test_results_that_the_database_refuses_are_recorded_plainly_and_the_others_whole(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    bob = make_merchant("bob")
    fine, odd = make_webhook(bob, receiver.url("/bob")), make_webhook(merchant, receiver.url())
    refused: dict[str, tuple[str, Any]] = {}
    for name, value in (
        ("duration_us", 2**70),
        ("error_detail", "\ud83e"),
        ("status", "many"),
        ("headers", [("X", "\ud83e")]),
        ("body", object()),
    ):
        for _ in range(20):
            make_delivery(make_event(bob), fine)
        event = make_event(merchant)
        refused[event.id] = (name, value)
        make_delivery(event, odd)
    whole = transfer.Transfer.answer

    def answer(self: Any, code: int, message: str) -> Response:
        answer = whole(self, code, message)
        if (one := refused.get(self.tag.trying.due.event_id)) is not None:
            setattr(answer, *one)
        return answer

    monkeypatch.setattr(transfer.Transfer, "answer", answer)
    assert drain.drain(0, paces=PACES) == 105
    db.session.rollback()
    failed = db.session.scalars(sa.select(Attempt).where(Attempt.error.is_not(None))).all()
    assert {one.event_id for one in failed} == refused.keys()
    assert {one.error for one in failed} == {"internal_error"}
    assert sum("It was answered 200." in (one.error_detail or "") for one in failed) == 4
    states = db.session.execute(sa.select(Delivery.merchant_id, Delivery.state).distinct()).all()
    assert {tuple(row) for row in states} == {(bob.id, "succeeded"), (merchant.id, "pending")}
    assert db.session.scalars(sa.select(Lane)).one().leased_until == 0


@on_both_databases
def test_a_result_that_is_refused_in_any_form_is_left_out_and_the_others_are_recorded(
    merchant: Merchant,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    bob = make_merchant("bob")
    fine = make_webhook(bob, receiver.url("/bob"))
    odd = make_delivery(make_event(merchant), make_webhook(merchant, receiver.url("/alice"))).id
    for _ in range(20):
        make_delivery(make_event(bob), fine)

    def refuse(tried: Sequence[FinishedAttempt], _full: Collection[int]) -> None:
        if odd in [one.due.id for one in tried]:
            raise sa.exc.IntegrityError("INSERT", {}, ValueError())

    # One batch of all.
    paces = replace(PACES, record_seconds=2.0)
    receiver.delay = 0.2
    with monkeypatch.context() as patch:
        before(recording, "rows_of", refuse, patch)
        assert drain.drain(0, paces=paces) == 20
    assert "it is left out" in caplog.text
    db.session.rollback()
    pending = db.session.scalars(sa.select(Delivery).where(Delivery.state == "pending")).all()
    assert [(one.id, one.attempts) for one in pending] == [(odd, 0)]
    assert drain.drain(0, paces=paces) == 1
    assert sum(one.path == "/alice" for one in receiver.ledger) == 2


@on_both_databases
def test_a_database_that_goes_while_the_result_to_blame_is_looked_for_loses_nothing(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    owed = Owed(merchant, receiver)
    gone: list[str] = []

    def fail(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # Every other write fails, in the middle of each way to the results.
        if "UPDATE lane" in statement:
            gone.append(statement)
            if 1 < len(gone) < 30 and len(gone) % 2:
                raise sa.exc.OperationalError(statement, {}, psycopg.OperationalError("gone"))

    with monkeypatch.context() as patch:
        record_one(owed, patch)
        sa.event.listen(db.engine, "before_cursor_execute", fail)
        try:
            assert drain.drain(0, paces=replace(PACES, away_seconds=0.01)) == 3 * len(ERRORS)
        finally:
            sa.event.remove(db.engine, "before_cursor_execute", fail)
    assert len(gone) > 30
    owed.check()
    assert len(receiver.ledger) == 3 * len(ERRORS), "nothing is sent again"


@on_both_databases
def test_a_health_that_cannot_be_recorded_keeps_no_result_from_it(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    bob = make_merchant("bob")
    refusing, breaking = Receiver(), Receiver()
    refusing.always = breaking.always = 400
    mine = make_webhook(merchant, refusing.url())
    others = make_webhook(bob, breaking.url())
    for owner, webhook in ((merchant, mine), (bob, others)):
        make_delivery(make_event(owner), webhook)

    def refuse(_: Any, changed: health.Changed, __: Any) -> None:
        if changed.webhook_id == mine_id:
            raise sa.exc.DataError("UPDATE", {}, ValueError())

    mine_id = mine.id
    with monkeypatch.context() as patch:
        before(health, "store", refuse, patch)
        assert drain.drain(0, paces=PACES) == 2
    refusing.close()
    breaking.close()
    db.session.rollback()
    failures = {one.id: one.failures for one in db.session.scalars(sa.select(Webhook))}
    assert failures == {mine_id: 0, others.id: 1}
    assert db.session.scalars(sa.select(Lane)).one().leased_until == 0


SHAPES: dict[str, dict[str, Any]] = {
    "no pairs": {"headers": {"X-A": 1}},
    "a pair without a value": {"headers": [{"name": "X-A"}]},
    "a number for a value": {"headers": [{"name": "X-A", "value": 7, "secret": False}]},
    "no type of authentication": {"auth": {"user": "erp"}},
    "an unknown authentication": {"auth": {"type": "oauth2"}},
    "words for a schedule": {"retry_schedule": ["soon"]},
    "nothing of a schedule": {"retry_schedule": [None]},
    "no secrets": {"old_secrets": [{"until": "later"}]},
    "a secret of another kind": {"secret_token": encrypt},
    "a lost secret beside it": {
        "secret_token": "lost",
        "headers": [{"name": "X-A"}],
        "auth": {"type": "nothing"},
    },
    "no JSON": {"headers": None},
}


@on_both_databases
def test_a_webhook_whose_settings_cannot_be_used_is_held_with_a_notice_until_they_can(
    app: Flask, merchant: Merchant, receiver: Receiver
):
    bob = make_merchant("bob")
    fine = make_webhook(bob, receiver.url("/bob"))
    odd: dict[str, dict[str, Any]] = {}
    hook = table(Webhook)
    for shape in SHAPES.values():
        webhook = make_webhook(merchant, receiver.url("/alice"))
        odd[webhook.id] = {name: getattr(webhook, name) for name in shape}
        values = {
            name: encrypt("whsec_?") if value is encrypt else value for name, value in shape.items()
        }
        make_delivery(make_event(merchant), webhook)
        make_delivery(make_event(bob), fine)
        if values == {"headers": None}:
            if db.engine.dialect.name == "postgresql":
                # It takes no such text for JSON.
                values["headers"] = "no list"
            else:
                values = {"headers": sa.literal_column("'{broken'")}
        db.session.execute(sa.update(hook).where(hook.c.id == webhook.id).values(**values))
        db.session.commit()
    for _ in range(2):
        drain.drain(0, paces=PACES)
    assert [one.path for one in receiver.ledger] == ["/bob"] * len(SHAPES)
    db.session.rollback()
    held = db.session.execute(
        sa.select(hook.c.id, hook.c.failures).where(hook.c.held_at.is_not(None))
    ).all()
    assert {(row.id, row.failures) for row in held} == {(id_, 0) for id_ in odd}
    notices = db.session.scalars(sa.select(Notice)).all()
    assert sorted((one.webhook_id, one.kind) for one in notices) == sorted(
        (id_, "held") for id_ in odd
    )
    assert {one.message.split(".")[0] for one in notices} == {
        "The portal cannot use the settings of this webhook as they are stored"
    }

    for id_, values in odd.items():
        db.session.execute(
            sa.update(hook)
            .where(hook.c.id == id_)
            .values(**values, next_probe_at=now(), updated_at=now())
        )
    db.session.commit()
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 2 * len(SHAPES)
    db.session.rollback()
    assert set(db.session.scalars(sa.select(Delivery.state))) == {"succeeded"}


@on_both_databases
def test_a_held_webhook_with_letters_in_its_path_is_looked_at_and_goes_on(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(
        merchant,
        receiver.url("/žofie"),
        failures=9,
        away=9,
        unreachable=True,
        failing_since=now(),
        held_at=now(),
        next_probe_at=now(),
    )
    make_delivery(make_event(merchant), webhook)
    drain.drain(0, paces=PACES)
    assert [one.path for one in receiver.ledger] == ["/%C5%BEofie"]
    db.session.rollback()
    assert db.session.get_one(Webhook, webhook.id).held_at is None


def test_where_a_look_fails_by_a_defect_a_probe_finds_out_and_the_drain_goes_on(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    bob = make_merchant("bob")
    webhook = make_webhook(
        merchant,
        receiver.url("/alice"),
        failures=9,
        away=9,
        unreachable=True,
        failing_since=now(),
        held_at=now(),
        next_probe_at=now(),
    )
    make_delivery(make_event(merchant), webhook)
    make_delivery(make_event(bob), make_webhook(bob, receiver.url("/bob")))

    def broken(look: transfer.Transfer[Any], *_: Any) -> None:
        if look.looks_only:
            raise ValueError("error parsing asn1 value")

    with monkeypatch.context() as patch:
        before(transfer.Transfer, "answer", broken, patch)
        drain.drain(0, paces=PACES)
    assert sorted(one.path for one in receiver.ledger) == ["/alice", "/bob"]


def test_a_test_tells_what_the_portal_fails_at(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: Any) -> None:
        raise ValueError("canary")

    webhook = make_webhook(merchant, receiver.url())
    monkeypatch.setattr(compose.Composer, "compose", broken)
    attempt = actions.send_test(webhook.merchant_id, webhook.id, "order.created", "tests")
    assert attempt.error == "internal_error"
    assert attempt.error_detail == "The portal could not make the request (ValueError)."


@on_both_databases
def test_a_probe_whose_result_is_left_out_is_followed_by_others(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health, "FIRST_PAUSE", 100_000)
    monkeypatch.setattr(health, "LONGEST_PAUSE", 200_000)
    hour_ago = now() - HOUR
    webhook = make_webhook(
        merchant,
        receiver.url(),
        held_at=hour_ago,
        next_probe_at=hour_ago,
        failures=20,
        away=20,
        failing_since=hour_ago,
    )
    event = make_event(merchant, type="customer.created")
    # What a person asks for is the first probe.
    odd = make_delivery(event, webhook, trigger="manual").id
    make_delivery(make_event(merchant), webhook)
    receiver.by_id = {event.id: 500}

    def refuse(tried: Sequence[FinishedAttempt], _full: Collection[int]) -> None:
        if odd in [one.due.id for one in tried]:
            raise sa.exc.IntegrityError("INSERT", {}, ValueError())

    with monkeypatch.context() as patch:
        before(recording, "rows_of", refuse, patch)
        assert drain.drain(0, paces=replace(PACES, linger_seconds=3.0)) == 1
    assert len(receiver.ledger) == 2
    db.session.rollback()
    assert db.session.get_one(Webhook, webhook.id).held_at is None
    states = db.session.execute(sa.select(Delivery.id == odd, Delivery.state)).all()
    assert {tuple(row) for row in states} == {(True, "pending"), (False, "succeeded")}
