"""The engine against a real receiver: what is owed arrives, signed, once the receiver takes it."""

from __future__ import annotations

import base64
import json
import sys
import time
from dataclasses import replace
from types import FrameType
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flask import Flask
from redis import Redis
from redis.connection import Connection, UnixDomainSocketConnection
from standardwebhooks import Webhook as Verifier

from portal.clock import SECOND, now
from portal.config import Config
from portal.db.session import db
from portal.delivery import attempts, drain, lanes, recorder, wakes
from portal.delivery.paces import Paces
from portal.diagnosis import reports, signatures
from portal.errors import Unavailable
from portal.events import ingest
from portal.logs import stories
from portal.models import (
    Attempt,
    AttemptPayload,
    Delivery,
    Event,
    EventPayload,
    Lane,
    Merchant,
    Notice,
    Webhook,
)
from portal.outbound.libcurl import CurlTransport
from portal.signing import evox_sign
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_merchant, make_webhook
from tests.raw_receiver import KeepingReceiver, answers
from tests.receiver import Receiver

# Before it ends it must have looked for retries that are due at once.
PACES = Paces(linger_seconds=0.7, poll_seconds=0.1)

ORDER = {"type": "order.created", "object_id": "1000", "data": {"total": "99.50"}}


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1", "RETRY_SCHEDULE": "0 0 0", "HOLD_AFTER_FAILURES": "50"}


def send(merchant: Merchant, **fields: Any) -> str:
    (answer,) = ingest.ingest_events(merchant.id, [ORDER | fields], batch=False)
    return answer.id


def the(model: Any) -> Any:
    db.session.rollback()
    (row,) = db.session.scalars(sa.select(model)).all()
    return row


def everything(model: Any) -> list[Any]:
    db.session.rollback()
    return list(db.session.scalars(sa.select(model).order_by(model.id)))


@on_both_databases
def test_an_event_arrives_signed_both_ways_and_is_logged_byte_for_byte(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(
        merchant,
        receiver.url("/hook?x=1"),
        query_params=[{"name": "store", "value": "7", "secret": False}],
        headers=[{"name": "X-Auth", "value": "k", "secret": False}],
    )
    event_id = send(merchant)
    assert drain.drain(0, paces=PACES) == 1
    (request,) = receiver.ledger
    assert (request.method, request.path) == ("POST", "/hook?x=1&store=7")
    assert request.headers["X-Auth"] == "k"
    assert request.headers["webhook-id"] == event_id
    body = Verifier(webhook.secret).verify(request.body.decode(), dict(request.headers))
    assert body["data"] == {"total": "99.50"}
    assert request.headers["Evox-Signature"] == evox_sign(
        webhook.secret, int(request.headers["Evox-Time"]), request.body
    )
    attempt, payload = the(Attempt), the(AttemptPayload)
    assert (attempt.status, attempt.number, attempt.method, attempt.error) == (200, 1, "POST", None)
    assert attempt.uri == receiver.url("/hook?x=1&store=7")
    assert attempt.duration_us > 0
    assert payload.body_kind == "record"
    stored = the(EventPayload)
    assert stored.head[:-1] + f',"data":{stored.data}}}' == request.body.decode()
    assert dict(json.loads(payload.request_headers))["webhook-id"] == event_id
    assert payload.response_body == b"ok"
    assert the(Delivery).state == "succeeded"


@on_both_databases
def test_a_failure_is_retried_with_the_same_id_until_it_succeeds(
    merchant: Merchant, receiver: Receiver
):
    make_webhook(merchant, receiver.url())
    event_id = send(merchant)
    receiver.will_answer([500, 500, 200])
    drain.drain(0, paces=PACES)
    assert receiver.ids() == [event_id] * 3
    assert len({request.body for request in receiver.ledger}) == 1
    assert [(row.number, row.status) for row in everything(Attempt)] == [
        (1, 500),
        (2, 500),
        (3, 200),
    ]
    assert the(Delivery).state == "succeeded"
    assert the(Webhook).failures == 0


@on_both_databases
def test_after_the_last_attempt_the_delivery_has_failed(merchant: Merchant, receiver: Receiver):
    make_webhook(merchant, receiver.url())
    send(merchant)
    receiver.always = 500
    drain.drain(0, paces=PACES)
    delivery = the(Delivery)
    assert (delivery.state, delivery.attempts, delivery.next_attempt_at) == ("failed", 3, None)
    assert the(Webhook).failures == 3


@on_both_databases
def test_an_attempt_says_that_its_connection_died_and_it_was_sent_twice(merchant: Merchant):
    # The second request finds the connection of the first, and that is closed under it.
    replies = [answers, lambda _connection: False, answers]
    receiver = KeepingReceiver(lambda connection: replies.pop(0)(connection))
    make_webhook(merchant, receiver.url, max_in_flight=1)
    send(merchant)
    send(merchant)
    assert drain.drain(0, paces=PACES) == 2
    receiver.kill()
    assert (receiver.requests, [one.sends for one in everything(Attempt)]) == (3, [1, 2])
    assert {(one.status, one.error) for one in everything(Attempt)} == {(200, None)}
    assert {(one.state, one.attempts) for one in everything(Delivery)} == {("succeeded", 1)}


@on_both_databases
def test_410_disables_the_webhook_and_people_are_told(merchant: Merchant, receiver: Receiver):
    make_webhook(merchant, receiver.url())
    send(merchant)
    receiver.always = 410
    drain.drain(0, paces=PACES)
    webhook = the(Webhook)
    assert not webhook.enabled
    assert "410" in webhook.disabled_reason
    assert the(Notice).kind == "disabled"
    assert len(receiver.ledger) == 1


def test_a_redirect_is_a_failure_and_is_not_followed(merchant: Merchant, receiver: Receiver):
    make_webhook(merchant, receiver.url(), retry_schedule=[0])
    send(merchant)
    receiver.always = (307, {"Location": receiver.url("/elsewhere")}, b"")
    drain.drain(0, paces=PACES)
    assert [request.path for request in receiver.ledger] == ["/hook"]
    assert the(Delivery).state == "failed"


@pytest.mark.parametrize(
    "settings", [{"LANES": "1", "RETRY_SCHEDULE": "0 0 0", "HOLD_AFTER_FAILURES": "20"}]
)
def test_a_webhook_that_hangs_slows_nobody_else(app: Flask, merchant: Merchant, receiver: Receiver):
    hanging = Receiver()
    hanging.delay = 3.0
    make_webhook(merchant, hanging.url(), timeout_seconds=2, retry_schedule=[0])
    make_webhook(merchant, receiver.url())
    for _ in range(60):
        send(merchant)
    started = time.monotonic()
    drain.drain(0, paces=PACES)
    hanging.close()
    assert len(receiver.ledger) == 60
    assert max(request.at for request in receiver.ledger) - time.time() < 0
    last = max(row.attempted_at for row in everything(Attempt) if row.status == 200)
    first = min(row.attempted_at for row in everything(Attempt))
    assert (last - first) / 1e6 < 1.5
    assert time.monotonic() - started < 20


def test_a_disabled_webhook_gets_nothing_until_it_is_enabled(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(merchant, receiver.url())
    send(merchant)
    webhook.disable("Too loud.")
    db.session.commit()
    assert lanes.forgotten() == []
    drain.drain(0, paces=PACES)
    assert receiver.ledger == []
    assert the(Delivery).state == "pending"
    webhook = the(Webhook)
    webhook.enable()
    db.session.commit()
    assert lanes.forgotten() == [0]
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 1


class TestAWebhookThatOnlyFails:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"LANES": "1", "RETRY_SCHEDULE": "0 86400", "HOLD_AFTER_FAILURES": "3"}

    @on_both_databases
    def test_it_is_held_probed_and_drained_when_it_recovers(
        self, merchant: Merchant, receiver: Receiver
    ):
        make_webhook(merchant, receiver.url())
        receiver.always = 503
        for _ in range(3):
            send(merchant)
        drain.drain(0, paces=PACES)
        webhook = the(Webhook)
        assert webhook.held_at is not None
        assert the(Notice).kind == "held"
        for _ in range(5):
            send(merchant)
        assert len(receiver.ledger) == 3
        drain.drain(0, paces=PACES)
        assert len(receiver.ledger) == 3, "nothing is sent before a probe is due"

        receiver.always = 200
        webhook = the(Webhook)
        db.session.execute(
            sa.update(Webhook).values(next_probe_at=now(), updated_at=Webhook.updated_at)
        )
        db.session.commit()
        assert lanes.forgotten() == [0]
        drain.drain(0, paces=PACES)
        assert the(Webhook).held_at is None
        assert len(receiver.ledger) == 11, "what was tried and waits for a day goes out, too"
        assert {row.state for row in everything(Delivery)} == {"succeeded"}
        assert the(Webhook).catch_up_from is None
        kinds = [notice.kind for notice in everything(Notice) if notice.dismissed_at is None]
        assert kinds == ["recovered"]

    def test_a_probe_counts_in_its_deliverys_schedule(self, merchant: Merchant, receiver: Receiver):
        webhook = make_webhook(
            merchant,
            receiver.url(),
            failures=9,
            failing_since=now(),
            held_at=now(),
            next_probe_at=now(),
        )
        make_delivery(make_event(merchant), webhook)
        receiver.always = 500
        drain.drain(0, paces=PACES)
        delivery = the(Delivery)
        assert (delivery.state, delivery.step, delivery.attempts) == ("pending", 1, 1)
        assert delivery.next_attempt_at > now()
        assert the(Webhook).next_probe_at > now()

    def test_after_days_of_failures_it_is_disabled_with_a_notice(
        self, merchant: Merchant, receiver: Receiver
    ):
        long_ago = now() - 6 * 86_400 * 1_000_000
        webhook = make_webhook(
            merchant,
            receiver.url(),
            failures=99,
            failing_since=long_ago,
            held_at=long_ago,
            next_probe_at=now(),
        )
        make_delivery(make_event(merchant), webhook)
        receiver.always = 500
        drain.drain(0, paces=PACES)
        assert the(Webhook).state == "disabled"
        assert the(Notice).kind == "disabled"
        assert the(Delivery).state == "pending"


@on_both_databases
def test_a_late_owners_writes_are_refused(
    app: Flask, merchant: Merchant, receiver: Receiver, caplog: pytest.LogCaptureFixture
):
    make_webhook(merchant, receiver.url())
    send(merchant)
    renewed: list[recorder.Batch] = []

    def commit(batch: recorder.Batch, config: Config) -> None:
        recorder.commit(batch, config)
        renewed.append(batch)

    own = recorder.Recorder(app, app.config["PORTAL"], commit)
    late = drain.Drain(0, recorder=own, paces=replace(PACES, heartbeat_seconds=60.0))
    assert late.lease(0)
    receiver.delay = 2.0
    while not renewed:
        late.step()
    # Another worker takes the lane while the request is under way.
    db.session.execute(sa.update(Lane).values(leased_until=0))
    db.session.commit()
    token = lanes.lease(0, "another")
    assert token is not None
    late.loop(lambda: False, lambda: None)
    late.close()
    assert "Lanes [0] have another owner now." in caplog.text
    assert len(receiver.ledger) == 1
    assert late.attempts == 0
    assert everything(Attempt) == []
    assert the(Delivery).state == "pending"
    lanes.release({0: token})
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 2
    assert len(set(receiver.ids())) == 1
    assert the(Delivery).state == "succeeded"


def test_a_lease_of_a_clock_that_was_set_back_is_free(app: Flask):
    db.session.execute(sa.update(Lane).values(leased_until=now() + 3_600 * 1_000_000))
    db.session.commit()
    assert lanes.lease(0, "owner") is not None


def test_an_event_past_its_payload_days_fails_and_says_so(merchant: Merchant, receiver: Receiver):
    webhook = make_webhook(merchant, receiver.url())
    make_delivery(make_event(merchant), webhook)
    db.session.execute(sa.delete(EventPayload))
    db.session.commit()
    drain.drain(0, paces=PACES)
    assert receiver.ledger == []
    assert the(Attempt).error == "payload_expired"
    assert the(Delivery).state == "failed"


def test_a_target_inside_is_refused_at_send(app: Flask, merchant: Merchant, receiver: Receiver):
    make_webhook(merchant, f"http://127.0.0.2:{receiver.port}/", retry_schedule=[0])
    send(merchant)
    drain.drain(0, paces=PACES)
    assert receiver.ledger == []
    assert the(Attempt).error == "egress_refused"


def test_secret_values_are_sent_and_never_logged(merchant: Merchant, receiver: Receiver):
    from portal import vault

    token = vault.encrypt("canary-7f3a")
    make_webhook(
        merchant,
        receiver.url(),
        headers=[{"name": "X-Key", "value": token, "secret": True}],
        query_params=[{"name": "key", "value": token, "secret": True}],
    )
    send(merchant)
    drain.drain(0, paces=PACES)
    (request,) = receiver.ledger
    assert request.headers["X-Key"] == "canary-7f3a"
    assert request.path == "/hook?key=canary-7f3a"
    assert "canary" not in the(Attempt).uri
    assert "canary" not in the(AttemptPayload).request_headers


def test_a_thousand_events_for_three_webhooks_all_arrive_once(
    merchant: Merchant, receiver: Receiver
):
    for _ in range(3):
        make_webhook(merchant, receiver.url())
    events = [ORDER | {"object_id": str(number)} for number in range(1_000)]
    ingest.ingest_events(merchant.id, events, batch=True)
    drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 3_000
    assert len(set(receiver.ids())) == 1_000
    db.session.rollback()
    states = db.session.execute(
        sa.select(Delivery.state, sa.func.count()).group_by(Delivery.state)
    ).all()
    assert [tuple(row) for row in states] == [("succeeded", 3_000)]
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Event)) == 1_000


def test_a_delivery_costs_the_thread_that_sends_no_more_calls_than_it_must(
    merchant: Merchant, receiver: Receiver
):
    for _ in range(5):
        make_webhook(merchant, receiver.url())
    events = [ORDER | {"object_id": str(number)} for number in range(400)]
    ingest.ingest_events(merchant.id, events, batch=True)
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        drain.drain(0, paces=PACES)
    finally:
        sys.setprofile(None)
    assert len(receiver.ledger) == 2_000
    # Some hundred and ten, and what a machine that stands still now and then makes of it.
    assert calls / 2_000 < 160


def test_a_drain_with_nothing_to_do_ends_and_gives_its_lane_back(app: Flask):
    started = time.monotonic()
    drain.drain(0, paces=replace(PACES, heartbeat_seconds=0.2))
    assert time.monotonic() - started < 3, "renewing its lease is no work"
    assert the(Lane).owner is None


def test_a_drain_whose_recorder_fails_by_a_defect_ends_and_sends_no_more(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    make_webhook(merchant, receiver.url(), max_in_flight=1)
    for _ in range(20):
        send(merchant)
    with monkeypatch.context() as patch:
        patch.setattr("portal.delivery.recording.log_attempts", broken)
        patch.setattr("threading.excepthook", lambda _: None)
        with pytest.raises(RuntimeError, match="recorder"):
            drain.drain(0, paces=PACES)
    assert len(receiver.ledger) < 20
    assert the(Lane).owner is None
    assert lanes.lease(0, "another") is None, "it rests, or all would be sent again at once"
    rest = int(PACES.defect_rest_seconds * SECOND)
    monkeypatch.setattr(lanes, "now", lambda: now() + rest + 1)
    assert lanes.lease(0, "another") is not None


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_redis_that_dies_ends_no_drain(
    merchant: Merchant,
    receiver: Receiver,
    valkey: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    comes_back: bool,
):
    make_webhook(merchant, receiver.url())
    operator = Redis.from_url(valkey)
    operator.ping()
    run = drain.Drain(0, paces=PACES)
    assert run.lease(0)
    if not comes_back:

        def refused(*_: Any) -> None:
            raise ConnectionRefusedError

        for kind in (Connection, UnixDomainSocketConnection):
            monkeypatch.setattr(kind, "_connect", refused)
    assert operator.client_kill_filter(_type="pubsub")
    send(merchant)
    run.loop(lambda: False, lambda: None)
    assert run.attempts == 1
    run.close()
    assert the(Lane).owner is None
    assert lanes.lease(0, "another") is not None, "it does not rest as after a defect"
    assert "failed" not in caplog.text


@pytest.mark.parametrize("broken", ["recorder", "wakes", "transport"])
def test_a_drains_end_does_all_that_it_can_whatever_fails(
    merchant: Merchant,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    caplog: pytest.LogCaptureFixture,
):
    make_webhook(merchant, receiver.url())
    parts: dict[str, tuple[Any, str]] = {
        "recorder": (recorder.Recorder, "collect"),
        "wakes": (wakes.Wakes, "close"),
        "transport": (CurlTransport, "close"),
    }
    done = []

    def fails(*_: Any) -> None:
        raise RuntimeError("canary")

    for name, (part, method) in parts.items():
        ends = getattr(part, method)
        monkeypatch.setattr(
            part,
            method,
            fails
            if name == broken
            else lambda self, ends=ends, name=name: done.append(name) or ends(self),
        )
    run = drain.Drain(0, paces=PACES)
    assert run.lease(0)
    run.close()
    assert done == [name for name in parts if name != broken]
    assert the(Lane).owner is None
    assert "canary" in caplog.text


@on_both_databases
def test_a_result_that_the_database_refuses_gives_the_lanes_back_and_says_so(
    merchant: Merchant,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    class Refused(sa.exc.IntegrityError):
        """Of a kind of its own, which the log has not told of for another test."""

    def refused(*_: Any) -> None:
        raise Refused("INSERT", {}, ValueError("canary"))

    make_webhook(merchant, receiver.url())
    send(merchant)
    with monkeypatch.context() as patch:
        patch.setattr("portal.delivery.recording.log_attempts", refused)
        drain.drain(0, paces=PACES)
    assert len(receiver.ledger) == 1
    assert the(Lane).owner is None
    assert now() < the(Lane).leased_until <= now() + PACES.defect_rest_seconds * SECOND
    assert "cannot be recorded" in caplog.text
    assert "lanes [0] are given back" in caplog.text
    assert "have another owner" not in caplog.text
    db.session.execute(sa.update(Lane).values(leased_until=0))
    db.session.commit()
    drain.drain(0, paces=PACES)
    assert the(Delivery).state == "succeeded"


@on_both_databases
def test_a_database_that_fails_while_settings_are_read_ends_no_drain(
    merchant: Merchant, receiver: Receiver
):
    make_webhook(merchant, receiver.url())
    send(merchant)
    engine = db.engine
    failed: list[str] = []

    def fail(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "WHERE webhook.id =" in statement and "webhook.url" in statement and len(failed) < 2:
            failed.append(statement)
            raise sa.exc.OperationalError(statement, {}, psycopg.OperationalError("gone"))

    sa.event.listen(engine, "before_cursor_execute", fail)
    try:
        assert (
            drain.drain(
                0,
                paces=replace(PACES, linger_seconds=30.0),
                should_stop=lambda: bool(receiver.ledger),
            )
            == 1
        )
    finally:
        sa.event.remove(engine, "before_cursor_execute", fail)
    assert len(failed) == 2
    assert the(Delivery).state == "succeeded"


def test_a_webhook_that_signs_with_ed25519_too_is_verified_with_its_public_key(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(merchant, receiver.url(), sign_ed25519=True)
    event_id = send(merchant)
    assert drain.drain(0, paces=PACES) == 1
    (request,) = receiver.ledger
    headers = {name.lower(): value for name, value in request.headers.items()}
    hmac_entry, entry = headers["webhook-signature"].split(" ")
    assert hmac_entry.startswith("v1,")
    key = Ed25519PublicKey.from_public_bytes(
        base64.b64decode((webhook.public_key or "").removeprefix("whpk_"))
    )
    content = f"{event_id}.{headers['webhook-timestamp']}.".encode() + request.body
    key.verify(base64.b64decode(entry.removeprefix("v1a,")), content)
    checks = reports.report(stories.attempt_detail(merchant.id, the(Attempt).id)).checks
    assert [(check.scheme, check.made_with_current) for check in checks] == [
        (signatures.STANDARD, True),
        (signatures.ED25519, True),
        (signatures.EVOX, True),
    ]


def test_a_drain_that_is_told_to_stop_waits_for_what_is_under_way_and_does_not_ask_for_it(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    # More than it starts in one round is waiting.
    paces = replace(PACES, slice_seconds=0.0)
    receiver.delay = 0.5
    for _ in range(3):
        make_webhook(merchant, receiver.url(), max_in_flight=1)
    for _ in range(5):
        send(merchant)
    looks = 0
    run = CurlTransport.run

    def count(self: CurlTransport[Any], *seconds: float) -> Any:
        nonlocal looks
        looks += 1
        return run(self, *seconds)

    monkeypatch.setattr(CurlTransport, "run", count)
    drain.drain(0, paces=paces, should_stop=lambda: looks > 0)
    assert len(receiver.ledger) in (1, 2)
    assert looks < 100


def test_many_results_are_written_by_turns_and_what_they_mean_comes_last():
    results: list[Any] = list(range(700))
    healths: list[Any] = ["held"]
    pieces = recorder.Batch({0: 1}, results, healths).pieces()
    assert [len(piece.results) for piece in pieces] == [300, 300, 100]
    assert [one for piece in pieces for one in piece.results] == results
    assert [piece.healths for piece in pieces] == [[], [], healths]
    assert len(recorder.Batch({0: 1}, healths=healths).pieces()) == 1
    assert len(recorder.Batch({0: 1}).pieces()) == 1, "leases are renewed"


@pytest.mark.parametrize("settings", [{"LANES": "1"}])
def test_answers_that_cannot_be_recorded_yet_fill_no_memory(
    app: Flask, merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    """However long that lasts: the disk may be full. And what is owed to others goes out."""
    monkeypatch.setattr(attempts, "MOST_UNWRITTEN", 2_000_000)
    receiver.broken["/much"] = (200, {}, b"x" * 60_000)
    much, other = make_webhook(merchant, receiver.url("/much")), make_merchant("other")
    for _ in range(150):
        make_delivery(make_event(merchant), much)
    owed = make_delivery(make_event(other), make_webhook(other, receiver.url("/other")))
    is_away = True

    def away_for_long(batch: recorder.Batch, config: Config) -> None:
        if is_away:
            raise Unavailable("The disk is full.")
        recorder.commit(batch, config)

    own = recorder.Recorder(app, app.config["PORTAL"], away_for_long)
    began = time.monotonic()

    def most_at_once() -> bool:
        nonlocal is_away
        come = len(receiver.ledger)
        if is_away and time.monotonic() - began > 3:
            # 25 of them are 1.5 MB; and a webhook's limit may be under way beyond that.
            assert 25 <= come <= 25 + 20 + 10, come
            assert [one.path for one in receiver.ledger].count("/other") == 1
            is_away = False
        return False

    assert drain.Drain(0, paces=PACES, recorder=own).run(most_at_once) == 151
    assert not is_away
    assert len(receiver.ledger) == 151
    assert db.session.get_one(Delivery, owed.id).state == "succeeded"


@pytest.mark.parametrize("settings", [{"LANES": "1"}])
def test_results_that_wait_for_the_database_keep_nobody_elses_deliveries_waiting(
    app: Flask, merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(attempts, "MOST_UNRECORDED", 40)
    many, other = make_webhook(merchant, receiver.url("/many")), make_merchant("other")
    for _ in range(150):
        make_delivery(make_event(merchant), many)
    make_delivery(
        make_event(other),
        make_webhook(other, receiver.url("/other")),
        next_attempt_at=now() + 1_500_000,
    )
    is_away = True

    def away_for_long(batch: recorder.Batch, config: Config) -> None:
        if is_away:
            raise Unavailable("Others are writing.")
        recorder.commit(batch, config)

    own = recorder.Recorder(app, app.config["PORTAL"], away_for_long)
    began = time.monotonic()

    def other_has_come() -> bool:
        nonlocal is_away
        paths = [one.path for one in receiver.ledger]
        if is_away and time.monotonic() - began > 4:
            # The first are with the recorder; and a webhook's limit may be under way beyond that.
            assert 30 <= paths.count("/many") <= 2 * 40 + 20, paths.count("/many")
            assert paths.count("/other") == 1
            is_away = False
        return False

    assert drain.Drain(0, paces=PACES, recorder=own).run(other_has_come) == 151
    assert not is_away
