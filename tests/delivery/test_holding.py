"""Holding and probing: whether somebody answers decides, and what is owed arrives soon after."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import sqlalchemy as sa
from flask import Flask, current_app

from portal.clock import DAY, HOUR, MINUTE, now
from portal.config import Config
from portal.db.session import db, writing
from portal.delivery import actions, drain, due, health, lanes, probing, silence
from portal.delivery.paces import Paces
from portal.delivery.recorder import Batch, Recorder, commit
from portal.events import ingest
from portal.models import Attempt, Delivery, Event, Merchant, Notice, Webhook
from portal.notices import notices
from tests.conftest import on_both_databases
from tests.factories import make_attempt, make_delivery, make_event, make_webhook
from tests.ports import free_port
from tests.receiver import Receiver

PACES = Paces(linger_seconds=0.6, poll_seconds=0.1)

SECOND = 1_000_000


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


@pytest.fixture(autouse=True)
def _shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds for what takes minutes: all pauses, and how long a drain waits for more."""
    monkeypatch.setattr(health, "FIRST_PAUSE", SECOND)
    monkeypatch.setattr(health, "LONGEST_PAUSE", 2 * SECOND)


def send(merchant: Merchant, kind: str, count: int) -> list[str]:
    events = [{"type": kind, "object_id": str(number), "data": {}} for number in range(count)]
    return [answer.id for answer in ingest.ingest_events(merchant.id, events, batch=True)]


def states() -> Counter[str]:
    db.session.rollback()
    return Counter(db.session.scalars(sa.select(Delivery.state)))


def kinds() -> list[str]:
    db.session.rollback()
    return list(db.session.scalars(sa.select(Notice.kind).order_by(Notice.id)))


def the_webhook() -> Webhook:
    db.session.rollback()
    return db.session.scalars(sa.select(Webhook)).one()


@on_both_databases
def test_a_receiver_that_refuses_one_type_of_event_gets_all_others(
    merchant: Merchant, receiver: Receiver
):
    make_webhook(merchant, receiver.url())
    receiver.by_type = {"customer.created": 422}
    refused = send(merchant, "customer.created", 40)
    drain.drain(0, paces=PACES)
    assert the_webhook().held_at is None, "somebody answers"
    taken = send(merchant, "order.created", 5)
    drain.drain(0, paces=PACES)
    assert set(taken) <= set(receiver.ids())
    assert states() == {"pending": 40, "succeeded": 5}
    assert max(Counter(receiver.ids())[event_id] for event_id in refused) <= 2
    assert kinds() == []


@on_both_databases
def test_a_receiver_that_breaks_on_one_type_of_event_gets_all_others(
    merchant: Merchant, receiver: Receiver
):
    make_webhook(merchant, receiver.url())
    receiver.by_type = {"customer.created": 500}
    broken = send(merchant, "customer.created", 40)
    drain.drain(0, paces=PACES)
    taken = send(merchant, "order.created", 5)
    started = time.monotonic()
    while not set(taken) <= set(receiver.ids()):
        drain.drain(0, paces=PACES)
        assert time.monotonic() - started < 10
    assert states() == {"pending": 40, "succeeded": 5}
    tries = Counter(receiver.ids())
    assert max(tries[event_id] for event_id in broken) <= 4, "no schedule is used up at once"


def test_the_other_types_arrive_also_when_all_came_at_once(merchant: Merchant, receiver: Receiver):
    make_webhook(merchant, receiver.url(), max_in_flight=1)
    receiver.by_type = {"customer.created": 500, "customer.updated": 503}
    for kind in ("customer.created", "customer.updated", "order.created"):
        send(merchant, kind, 25)
    drain.drain(0, paces=PACES)
    drain.drain(0, paces=PACES)
    assert states()["succeeded"] == 25


def drain_until(receiver: Receiver, wanted: set[str], seconds: float) -> None:
    started = time.monotonic()
    while not wanted <= set(receiver.ids()):
        drain.drain(0, paces=PACES)
        assert time.monotonic() - started < seconds


class TestAReceiverThatBreaksOnSomeOfAType:
    @on_both_databases
    def test_gets_a_good_one_that_comes_behind_many_bad_ones(
        self, merchant: Merchant, receiver: Receiver
    ):
        make_webhook(merchant, receiver.url(), retry_schedule=[0, 3600, 3600])
        receiver.always = 500
        send(merchant, "order.created", 120)
        drain.drain(0, paces=PACES)
        assert the_webhook().held_at is not None
        good = send(merchant, "order.created", 1)
        receiver.by_id = dict.fromkeys(good, 200)
        drain_until(receiver, set(good), 12)
        assert the_webhook().state != "disabled"
        assert max(Counter(receiver.ids()).values()) <= 2, "one wait was cut short at most"

    @pytest.mark.parametrize(
        "index",
        [pytest.param(0, marks=pytest.mark.whole), 120, pytest.param(240, marks=pytest.mark.whole)],
    )
    def test_gets_the_one_good_among_hundreds_wherever_it_stands(
        self, merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, index: int
    ):
        monkeypatch.setattr(probing, "ALL_ASKED", 5 * SECOND)
        make_webhook(
            merchant,
            receiver.url(),
            retry_schedule=[0, 3600, 3600],
            failures=30,
            away=30,
            failing_since=now(),
            held_at=now(),
            next_probe_at=now(),
        )
        receiver.always = 500
        good = send(merchant, "order.created", 241)[index]
        receiver.by_id = {good: 200}
        drain_until(receiver, {good}, 45)

    def test_is_asked_one_thing_at_a_time_however_much_is_new(
        self, merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(probing, "ALL_ASKED", SECOND)
        make_webhook(merchant, receiver.url(), retry_schedule=[0, 3600, 3600])
        receiver.always = 500
        send(merchant, "order.created", 60)
        drain.drain(0, paces=PACES)
        assert the_webhook().held_at is not None
        asked = len(receiver.ledger)
        receiver.delay = 0.05
        more = send(merchant, "order.created", 30)
        drain_until(receiver, set(more), 60)
        starts = [request.at for request in receiver.ledger[asked:]]
        assert len(starts) >= 30
        assert min(later - sooner for sooner, later in pairwise(starts)) > 0.05

    def test_is_asked_sparingly_with_what_was_sent_before(
        self, merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ):
        """Or nothing would be left to find out with that it is back."""
        monkeypatch.setattr(probing, "ALL_ASKED", SECOND)
        webhook = make_webhook(
            merchant,
            receiver.url(),
            failures=30,
            away=30,
            failing_since=now(),
            held_at=now(),
            next_probe_at=now(),
            retry_schedule=[0, 3600, 3600, 3600],
        )
        waiting = []
        for _ in range(30):
            row = make_delivery(
                make_event(merchant),
                webhook,
                step=2,
                attempts=2,
                is_retry=True,
                next_attempt_at=now() + HOUR,
            )
            make_attempt(row, 500, attempted_at=now() - MINUTE)
            waiting.append(row.event_id)
        receiver.always = 500
        fresh = send(merchant, "order.created", 30)
        started = time.monotonic()
        drain_until(receiver, set(fresh), 30)
        regular_rounds = (time.monotonic() - started) / 1.0 + 1
        assert len(set(waiting) & set(receiver.ids())) <= regular_rounds


class TestAReceiverThatHangsOnATypeOfEvent:
    TIMEOUT_SECONDS = 8

    @pytest.fixture(autouse=True)
    def _sooner(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(silence, "PATIENCE_SECONDS", 0.5)

    def arrive_in(self, receiver: Receiver, wanted: list[str]) -> float:
        """After how many seconds of a drain all that is wanted has come."""
        started = time.time()
        drain.drain(
            0,
            paces=PACES,
            should_stop=lambda: set(wanted) <= set(receiver.ids()) or time.time() - started > 20,
        )
        came = {request.headers["webhook-id"]: request.at for request in receiver.ledger}
        return max(came[event_id] for event_id in wanted) - started

    @on_both_databases
    def test_gets_others_while_it_is_held(self, merchant: Merchant, receiver: Receiver):
        make_webhook(
            merchant,
            receiver.url(),
            failures=30,
            away=30,
            failing_since=now(),
            held_at=now(),
            next_probe_at=now(),
            timeout_seconds=self.TIMEOUT_SECONDS,
        )
        receiver.hanging = {"customer.created", "customer.updated", "order.updated"}
        for kind in sorted(receiver.hanging):
            send(merchant, kind, 6)
        good = send(merchant, "order.created", 6)
        assert self.arrive_in(receiver, good) < self.TIMEOUT_SECONDS
        assert the_webhook().held_at is None

    @on_both_databases
    def test_gets_others_behind_many_of_it(self, merchant: Merchant, receiver: Receiver):
        make_webhook(
            merchant, receiver.url(), timeout_seconds=self.TIMEOUT_SECONDS, max_in_flight=4
        )
        receiver.hanging = {"customer.created"}
        send(merchant, "customer.created", 40)
        good = send(merchant, "order.created", 6)
        assert self.arrive_in(receiver, good) < 2 * self.TIMEOUT_SECONDS

    def test_is_asked_with_one_of_it_at_a_time_and_gets_all_of_it_once_it_answers(
        self, merchant: Merchant, receiver: Receiver
    ):
        make_webhook(
            merchant,
            receiver.url(),
            timeout_seconds=2,
            max_in_flight=8,
            retry_schedule=[0, 3600, 3600],
        )
        receiver.hanging = {"customer.created"}
        owed = send(merchant, "customer.created", 16)
        end = time.monotonic() + 5
        drain.drain(0, paces=PACES, should_stop=lambda: time.monotonic() > end)
        assert 8 < len(receiver.ledger) <= 11, "as many as its limit at once, then one at a time"
        receiver.hanging = set()
        drain.drain(0, paces=PACES)
        assert set(owed) == set(receiver.ids())

    def test_that_is_away_is_asked_with_one_of_each_type_at_a_time(
        self, merchant: Merchant, receiver: Receiver
    ):
        make_webhook(
            merchant,
            receiver.url(),
            failures=30,
            away=30,
            failing_since=now(),
            held_at=now(),
            next_probe_at=now(),
            timeout_seconds=4,
        )
        receiver.hanging = {"customer.created", "order.created"}
        for kind in sorted(receiver.hanging):
            send(merchant, kind, 20)
        end = time.monotonic() + 3
        drain.drain(0, paces=PACES, should_stop=lambda: time.monotonic() > end)
        kinds = [json.loads(request.body)["type"] for request in receiver.ledger]
        assert sorted(kinds) == sorted(receiver.hanging)
        first, second = (request.at for request in receiver.ledger)
        assert second - first > 0.45, "not before the first has hung for a while"


@pytest.mark.parametrize("settings", [{"LANES": "1", "HOLD_AFTER_FAILURES": "3"}])
class TestAReceiverThatIsAway:
    @on_both_databases
    def test_costs_no_delivery_an_attempt_while_nobody_listens(self, merchant: Merchant):
        port = free_port()
        make_webhook(merchant, f"http://127.0.0.1:{port}/hook", retry_schedule=[0, 3600, 3600])
        first = send(merchant, "order.created", 3)
        drain.drain(0, paces=PACES)
        assert the_webhook().held_at is not None
        assert the_webhook().unreachable
        assert kinds() == ["held"]
        later = send(merchant, "order.created", 4)
        drain.drain(0, paces=PACES)
        drain.drain(0, paces=PACES)
        assert db.session.scalar(sa.select(sa.func.count(Attempt.id))) == 3, "looks are no attempts"
        receiver = Receiver(port=port)
        started = time.monotonic()
        while states()["succeeded"] < 7:
            drain.drain(0, paces=PACES)
            assert time.monotonic() - started < 15
        assert sorted(receiver.ids()) == sorted(first + later), "once each"
        receiver.close()
        assert the_webhook().state == "enabled"
        assert the_webhook().catch_up_from is None
        assert kinds() == ["held", "recovered"]

    @pytest.mark.parametrize("always", [500, 503, 429])
    def test_gets_what_waits_for_hours_when_it_takes_it_again(
        self, merchant: Merchant, receiver: Receiver, always: int
    ):
        make_webhook(merchant, receiver.url(), retry_schedule=[0, 3600, 3600, 3600])
        receiver.always = always
        owed = send(merchant, "order.created", 3)
        drain.drain(0, paces=PACES)
        assert the_webhook().held_at is not None
        receiver.always = 200
        started = time.monotonic()
        while states()["succeeded"] < 3:
            drain.drain(0, paces=PACES)
            assert time.monotonic() - started < 15
        assert max(Counter(receiver.ids()).values()) <= 4
        assert set(receiver.ids()) == set(owed)

    def test_never_costs_a_delivery_its_last_attempt_though_it_stays_away_for_days(
        self, merchant: Merchant, receiver: Receiver
    ):
        webhook = make_webhook(
            merchant,
            receiver.url(),
            failures=99,
            away=99,
            failing_since=now() - 4 * DAY,
            held_at=now() - 4 * DAY,
            next_probe_at=now(),
        )
        for due_at in (now(), now(), now() + HOUR):
            make_delivery(
                make_event(merchant),
                webhook,
                step=9,
                attempts=9,
                is_retry=True,
                next_attempt_at=due_at,
            )
        receiver.always = 503
        drain.drain(0, paces=PACES)
        assert receiver.ledger == []
        assert states() == {"pending": 3}
        # What is new tells that it is back, and all goes out.
        receiver.always = 200
        send(merchant, "order.created", 1)
        started = time.monotonic()
        while states()["succeeded"] < 3:
            db.session.execute(
                sa.update(Webhook).values(next_probe_at=now(), updated_at=Webhook.updated_at)
            )
            db.session.commit()
            drain.drain(0, paces=PACES)
            assert time.monotonic() - started < 15
        assert the_webhook().held_at is None

    def test_is_disabled_after_days_though_no_attempt_is_made(self, merchant: Merchant):
        webhook = make_webhook(
            merchant,
            f"http://127.0.0.1:{free_port()}/",
            failures=99,
            away=99,
            unreachable=True,
            failing_since=now() - 6 * DAY,
            held_at=now() - 6 * DAY,
            next_probe_at=now(),
        )
        make_delivery(
            make_event(merchant),
            webhook,
            step=3,
            attempts=3,
            is_retry=True,
            next_attempt_at=now() + HOUR,
        )
        assert lanes.forgotten() == [0]
        drain.drain(0, paces=PACES)
        assert the_webhook().state == "disabled"
        assert kinds() == ["disabled"]
        assert states() == {"pending": 1}

    def test_is_asked_one_thing_at_a_time_until_the_last_result_is_recorded(
        self, app: Flask, merchant: Merchant, receiver: Receiver
    ):
        webhook = make_webhook(
            merchant,
            receiver.url(),
            failures=9,
            away=9,
            failing_since=now(),
            held_at=now(),
            next_probe_at=now(),
        )
        for number in range(8):
            make_delivery(make_event(merchant, type=f"type.no{number}"), webhook)
        receiver.always = 500

        def slowly(batch: Batch, config: Config) -> None:
            if batch.results:
                time.sleep(0.3)
            commit(batch, config)

        drain.Drain(0, paces=PACES, recorder=Recorder(app, app.config["PORTAL"], slowly)).run()
        starts = [request.at for request in receiver.ledger]
        assert len(starts) >= 5, "a round tries several types"
        gaps = [later - sooner for sooner, later in pairwise(starts)]
        assert min(gaps) > 0.28
        assert len(set(receiver.ids()[:5])) == 5

    def test_is_left_alone_as_long_as_it_asks(self, merchant: Merchant, receiver: Receiver):
        make_webhook(merchant, receiver.url())
        receiver.always = (503, {"Retry-After": "120"}, b"later")
        send(merchant, "order.created", 3)
        drain.drain(0, paces=PACES)
        assert (the_webhook().next_probe_at or 0) > now() + 100 * SECOND
        send(merchant, "order.created", 3)
        drain.drain(0, paces=PACES)
        assert len(receiver.ledger) == 3

    def test_goes_on_being_probed_when_a_person_edits_it_meanwhile(
        self, merchant: Merchant, receiver: Receiver
    ):
        webhook = make_webhook(
            merchant,
            receiver.url(),
            failures=9,
            away=9,
            failing_since=now(),
            held_at=now(),
            next_probe_at=now(),
        )
        # It looks for what is due at its first step alone.
        run = drain.Drain(0, paces=replace(PACES, poll_seconds=60.0))
        assert run.lease(0)
        make_delivery(make_event(merchant), webhook)
        receiver.delay = 1.0
        run.step()
        with writing():
            webhook.description = "Edited"
        run.loop(lambda: run.attempts > 0, lambda: None)
        run.close()
        assert len(receiver.ledger) == run.attempts == 1
        assert the_webhook().held_at is not None, "the person's change was first"
        make_delivery(make_event(merchant), the_webhook())
        drain.drain(0, paces=PACES)
        assert the_webhook().held_at is None
        assert states() == {"succeeded": 2}


@on_both_databases
@pytest.mark.parametrize("schedule", [[0], [0, 0]])
def test_one_that_finds_nobody_at_its_last_attempt_is_held_and_arrives_later(
    merchant: Merchant, schedule: list[int]
):
    port = free_port()
    make_webhook(merchant, f"http://127.0.0.1:{port}/hook", retry_schedule=schedule)
    owed = send(merchant, "order.created", 1)
    drain.drain(0, paces=PACES)
    assert the_webhook().held_at is not None
    assert states() == {"pending": 1}
    assert kinds() == ["held"]
    receiver = Receiver(port=port)
    started = time.monotonic()
    while states()["succeeded"] < 1:
        drain.drain(0, paces=PACES)
        assert time.monotonic() - started < 15
    assert receiver.ids() == owed
    receiver.close()


@on_both_databases
def test_what_was_refused_waits_for_its_own_time_when_a_hold_ends(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(merchant, receiver.url(), catch_up_from=now())
    rows = {}
    for name, status, error, hurries in (
        ("away", None, "connection_refused", 0),
        ("broken", 502, None, 1),
        ("refused", 422, None, 0),
        ("own", None, "template_error", 0),
        ("again", 503, None, 2),
    ):
        rows[name] = make_delivery(
            make_event(merchant),
            webhook,
            step=4,
            attempts=4,
            is_retry=True,
            hurries=hurries,
            next_attempt_at=now() + HOUR,
        )
        make_attempt(rows[name], 500, attempted_at=now() - HOUR)
        make_attempt(rows[name], status, error=error, attempted_at=now() - MINUTE, number=2)
    arrived = {rows[name].event_id for name in ("away", "broken")}
    assert lanes.forgotten() == [0]
    drain.drain(0, paces=PACES)
    assert set(receiver.ids()) == arrived
    assert the_webhook().catch_up_from is None
    assert lanes.forgotten() == []


def test_what_waited_goes_out_however_much_it_is_and_at_first_slowly(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(merchant, receiver.url())
    for _ in range(450):
        row = make_delivery(
            make_event(merchant),
            webhook,
            step=2,
            attempts=2,
            is_retry=True,
            next_attempt_at=now() + HOUR,
        )
        make_attempt(row, 503, attempted_at=now() - MINUTE)
    webhook.disable("Maintenance.")
    webhook.enable()
    db.session.commit()
    drain.drain(0, paces=PACES)
    assert states() == {"succeeded": 450}
    assert len(receiver.ledger) == 450


def test_in_order_means_that_a_record_waits_for_its_refused_event_and_no_other_does(
    merchant: Merchant, receiver: Receiver
):
    webhook = make_webhook(
        merchant,
        receiver.url(),
        ordered=True,
        failures=30,
        away=30,
        failing_since=now(),
        held_at=now(),
        next_probe_at=now(),
    )
    receiver.by_type = {"order.created": 500}
    for record, kind in ((1, "order.created"), (1, "order.updated"), (2, "order.updated")):
        make_delivery(make_event(merchant, type=kind), webhook, object_key=f"order:{record}")
    # The factory's heads name one type; the receiver decides by it.
    heads = {row.id: row.type for row in db.session.scalars(sa.select(Event))}
    for event_id, kind in heads.items():
        db.session.execute(
            sa.text("UPDATE event_payload SET head = :head WHERE event_id = :id"),
            {"head": f'{{"id":"{event_id}","type":"{kind}"}}', "id": event_id},
        )
    db.session.commit()
    drain.drain(0, paces=PACES)
    assert the_webhook().held_at is None
    assert states() == {"pending": 2, "succeeded": 1}


class TestAReceiverThatRefusesEverything:
    @on_both_databases
    def test_is_not_held_and_its_people_are_told_once_and_again_when_it_works(
        self, merchant: Merchant, receiver: Receiver
    ):
        make_webhook(merchant, receiver.url())
        receiver.always = 401
        send(merchant, "order.created", 25)
        drain.drain(0, paces=PACES)
        webhook = the_webhook()
        assert (webhook.state, webhook.held_at, webhook.away) == ("failing", None, 0)
        assert notices.warn_of_refusals() == 0, "it may be a moment's trouble"
        later = now() + 6 * MINUTE
        assert notices.warn_of_refusals(later) == 1
        assert notices.warn_of_refusals(later) == 0
        assert notices.warn_of_ends(later + 3 * DAY) == 0
        assert notices.warn_of_ends(later + 4 * DAY) == 1
        assert kinds() == ["refused", "ending"]
        receiver.always = 200
        send(merchant, "order.created", 1)
        drain.drain(0, paces=PACES)
        assert kinds() == ["refused", "ending", "recovered"]
        assert the_webhook().state in ("enabled", "failing")

    def test_is_disabled_after_days(self, merchant: Merchant, receiver: Receiver):
        make_webhook(merchant, receiver.url(), failures=40, failing_since=now() - 6 * DAY)
        receiver.always = 401
        send(merchant, "order.created", 1)
        drain.drain(0, paces=PACES)
        assert the_webhook().state == "disabled"
        assert kinds() == ["disabled"]

    def test_few_failures_of_a_quiet_webhook_disable_nothing(
        self, merchant: Merchant, receiver: Receiver
    ):
        make_webhook(merchant, receiver.url(), failures=3, failing_since=now() - 9 * DAY)
        receiver.always = 401
        send(merchant, "order.created", 1)
        drain.drain(0, paces=PACES)
        assert the_webhook().state == "failing"

    def test_one_that_was_away_and_refuses_now_is_held_no_more_and_they_are_told(
        self, merchant: Merchant, receiver: Receiver
    ):
        webhook = make_webhook(
            merchant,
            receiver.url(),
            failures=30,
            away=30,
            failing_since=now() - HOUR,
            held_at=now() - HOUR,
            next_probe_at=now(),
        )
        make_delivery(make_event(merchant), webhook)
        receiver.always = 403
        drain.drain(0, paces=PACES)
        assert the_webhook().held_at is None
        assert kinds() == ["refused"]
        assert notices.warn_of_refusals() == 0


def test_what_cannot_be_composed_says_nothing_of_the_receiver(
    app: Flask, merchant: Merchant, receiver: Receiver
):
    make_webhook(
        merchant,
        receiver.url(),
        headers=[{"name": "X", "value": "{{ event.object_id | divided_by: 0 }}", "secret": False}],
    )
    send(merchant, "order.created", current_app.config["PORTAL"].hold_after_failures + 5)
    drain.drain(0, paces=PACES)
    webhook = the_webhook()
    assert receiver.ledger == []
    assert (webhook.held_at, webhook.away, webhook.state) == (None, 0, "failing")


@on_both_databases
def test_a_quick_round_begins_with_what_a_person_sends_again_and_has_nothing_of_a_recovery(
    merchant: Merchant,
):
    webhook = make_webhook(merchant, retry_schedule=[0, 3600, 3600])
    for _ in range(3):
        make_delivery(make_event(merchant), webhook)
    # As a recovery leaves them.
    recovered = make_delivery(make_event(merchant), webhook, is_retry=True, trigger="manual")
    failed = make_delivery(make_event(merchant), webhook, "failed", step=3)
    actions.resend(merchant.id, failed.id, "ann@example.com")
    fit = due.candidates(webhook.id, now(), ordered=False, dice=0.5)
    assert {failed.id, recovered.id} < {one.id for one in fit}
    quick = probing.Probing(is_quick=True)
    chosen = quick.choose(fit, [0, 3600, 3600])
    assert chosen is not None
    assert chosen.id == failed.id
    of_recovery = [one for one in fit if one.id == recovered.id]
    assert quick.choose(of_recovery, [0, 3600, 3600]) is None
    quick.takes_some = True
    assert quick.choose(of_recovery, [0, 3600, 3600]) == of_recovery[0]
