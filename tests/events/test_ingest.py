"""What was answered is stored: the event, its record and what it owes, once."""

from __future__ import annotations

import contextvars
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, current_app

from portal import runtime
from portal.db.session import db, writing
from portal.errors import Conflict, Invalid, TooManyRequests, Unavailable
from portal.events import ingest, repeats, rules
from portal.events.rules import NewEvent
from portal.fairness import courtesy, places
from portal.json_events import parse_events
from portal.models import Delivery, Event, EventPayload, Merchant
from portal.strict_json import dump
from tests.breathing import Breathing
from tests.conftest import on_both_databases
from tests.factories import make_merchant, make_webhook

ORDER = {
    "type": "order.created",
    "object_type": "order",
    "object_id": "1000",
    "source_user_type": "storefront",
    "source_user_id": "1000",
    "occurred_at": 1763930000,
    "correlation_id": "checkout-77",
    "data": {"id": "1000", "number": "SO-1000", "total": "99.50", "currency": "EUR"},
    "previous": {"total": "89.50"},
}


def send(merchant: Merchant, *events: Any, batch: bool = False) -> list[ingest.Accepted]:
    return ingest.ingest_events(merchant.id, list(events), batch=batch)


def spelled(record: str, **fields: Any) -> Any:
    """An event whose record is written like this."""
    content = json.dumps(ORDER | {"id": "mine-1", "data": "here"} | fields)
    return parse_events(content.replace('"here"', record).encode())


def count(model: Any) -> int:
    db.session.rollback()
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


@on_both_databases
def test_an_event_is_stored_with_its_record_and_what_it_owes(merchant: Merchant):
    wanting = make_webhook(merchant, events=["order.*"])
    make_webhook(merchant, events=["cart.*"])
    make_webhook(merchant, except_sources=["storefront"])
    make_webhook(merchant, enabled=False)
    make_webhook(make_merchant("bob"))
    (answer,) = send(merchant, ORDER)
    assert answer.deliveries == 1
    event = db.session.get_one(Event, (merchant.id, answer.id))
    assert (event.type, event.object_id, event.correlation_id) == (
        "order.created",
        "1000",
        "checkout-77",
    )
    assert event.occurred_at == 1763930000 * 1_000_000
    assert event.schema_error is None
    payload = db.session.get_one(EventPayload, (merchant.id, answer.id))
    assert payload.previous == '{"total":"89.50"}'
    assert '"timestamp":"2025-11-23T20:33:20Z","created":1763930000' in payload.head
    (delivery,) = db.session.scalars(sa.select(Delivery)).all()
    assert (delivery.webhook_id, delivery.state) == (wanting.id, "pending")


@on_both_databases
def test_an_inactive_merchants_events_are_logged_and_nothing_is_owed(app: Flask):
    merchant = make_merchant("sleeping", active=False)
    make_webhook(merchant)
    (answer,) = send(merchant, ORDER)
    assert answer.deliveries == 0
    assert count(Event) == 1
    assert count(Delivery) == 0


@on_both_databases
def test_the_same_id_with_the_same_content_gets_the_first_answer_again(merchant: Merchant):
    make_webhook(merchant)
    first = send(merchant, ORDER | {"id": "mine-1"})
    make_webhook(merchant)
    reordered = dict(reversed(list((ORDER | {"id": "mine-1"}).items())))
    assert send(merchant, reordered) == first
    assert (count(Event), count(Delivery)) == (1, 1)


@on_both_databases
def test_the_same_id_with_other_content_is_refused(merchant: Merchant):
    send(merchant, ORDER | {"id": "mine-1"})
    with pytest.raises(Conflict, match="mine-1"):
        send(merchant, ORDER | {"id": "mine-1", "object_id": "2"})
    assert count(Event) == 1


@pytest.mark.parametrize("batch", [False, True])
@on_both_databases
def test_what_is_spelled_otherwise_is_compared_in_nobodys_turn_to_write(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch, batch: bool
):
    """Two records of 900 KB take a tenth of a second or more."""
    read, is_in_transaction = repeats.read_records, list[bool]()

    def note(*texts: str | None) -> list[Any]:
        is_in_transaction.append(db.session.registry().in_transaction())
        return read(*texts)

    monkeypatch.setattr(repeats, "read_records", note)
    once, again, new = (spelled(f'{{"a":{number}}}') for number in ("12.50", "12.5", "1250e-2"))
    first = send(merchant, once)
    others = [again, new, ORDER | {"object_id": "2"}] if batch else [again]
    answers = send(merchant, *others, batch=batch)
    assert answers[0] == first[0]
    assert set(is_in_transaction) == {False}
    with pytest.raises(Conflict):
        send(merchant, spelled('{"a":12.51}'))
    assert set(is_in_transaction) == {False}
    assert count(Event) == 1 + batch


@on_both_databases
def test_what_a_portal_of_today_stored_is_not_read_as_one_of_before_did(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(repeats, "former_fingerprint", lambda *_: pytest.fail("as before"))
    for moment in ({"occurred_at": 1763930000}, {"occurred_at": None}):
        fields = moment | {"id": f"mine-{len(str(moment))}"}
        first = send(merchant, spelled('{"a":1.0}', **fields))
        assert send(merchant, spelled('{"a":1.00}', **fields)) == first
        with pytest.raises(Conflict):
            send(merchant, spelled('{"a":2}', **fields))


def test_long_records_are_compared_a_few_at_a_time_and_counted_to_their_merchant(
    merchant: Merchant,
):
    letters = "x" * 80_000
    send(merchant, spelled(f'{{"t":"{letters}","a":1}}'))
    again = spelled(f'{{"a":1,"t":"{letters}"}}')
    breaths: list[None] = []
    courtesy.do(Breathing(lambda: breaths.append(None)))
    try:
        send(merchant, again)
    finally:
        courtesy.do(None)
    assert len(breaths) == 1
    places.places()._taken[places.REPEAT, merchant.id] = 1
    with pytest.raises(TooManyRequests, match="compared with those that came before"):
        send(merchant, again)


@on_both_databases
def test_two_merchants_may_use_the_same_id(merchant: Merchant):
    other = make_merchant("bob")
    send(merchant, ORDER | {"id": "mine-1"})
    send(other, ORDER | {"id": "mine-1", "object_id": "2"})
    assert count(Event) == 2


# So many threads that none waits for a connection.
@pytest.mark.parametrize("settings", [{"WEB_THREADS": "50"}])
@on_both_databases
def test_fifty_at_once_with_one_id_make_one_event(app: Flask, merchant: Merchant):
    make_webhook(merchant)
    merchant_id = merchant.id
    db.session.rollback()
    answers: list[Any] = []

    def work() -> None:
        with app.app_context():
            found = db.session.get_one(Merchant, merchant_id)
            try:
                answers.extend(send(found, ORDER | {"id": "mine-1"}))
            except Exception as error:  # noqa: BLE001 - any is a failure, shown below
                answers.append(error)

    threads = [threading.Thread(target=contextvars.Context().run, args=(work,)) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [ingest.Accepted("mine-1", 1)] * 50
    assert sum(one.added for one in answers) == 1
    assert (count(Event), count(Delivery)) == (1, 1)


@on_both_databases
def test_who_waits_for_a_group_holds_no_connection(app: Flask, merchant: Merchant):
    merchant_id = merchant.id
    db.session.rollback()
    answers: list[Any] = []

    def work() -> None:
        with app.app_context():
            # As a request does, which looks its key up.
            answers.extend(send(db.session.get_one(Merchant, merchant_id), ORDER))

    threads = [threading.Thread(target=contextvars.Context().run, args=(work,)) for _ in range(12)]
    group = runtime.part(ingest.Ingest).turns
    with writing() as session:
        if db.engine.dialect.name == "postgresql":
            session.execute(sa.text("LOCK TABLE event IN EXCLUSIVE MODE"))
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 4
        while len(group._waiting) < 11 and time.monotonic() < deadline:
            time.sleep(0.01)
        held = db.engine.pool.checkedout()
    for thread in threads:
        thread.join()
    assert len(answers) == 12
    assert held <= 2, "this test has one, and the group that is being stored another"


@on_both_databases
def test_a_batch_keeps_its_order_and_repeats_count_once(merchant: Merchant):
    events = [ORDER | {"object_id": str(number)} for number in range(100)]
    answers = send(merchant, *events, ORDER | {"id": "twice"}, ORDER | {"id": "twice"}, batch=True)
    assert len(answers) == 102
    assert answers[-1] == answers[-2]
    stored = db.session.scalars(sa.select(Event).order_by(Event.received_at)).all()
    assert [event.id for event in stored] == [answer.id for answer in answers[:-1]]


def test_a_record_has_at_most_so_many_bytes_in_a_batch_too(merchant: Merchant):
    def event(letters: int) -> Any:
        return ORDER | {"data": {"text": "é" * letters}, "previous": {"a": 1}}

    most = (rules.MAX_RECORD - len('{"text":""}{"a":1}')) // 2
    assert len(send(merchant, event(most), batch=True)) == 1
    with pytest.raises(Invalid) as refused:
        send(merchant, ORDER, event(most + 1), batch=True)
    (error,) = refused.value.errors
    assert error.pointer == "/events/1/data"
    assert "at most 2,097,152" in error.message
    assert count(Event) == 1


def test_one_wrong_event_of_a_batch_refuses_all_and_is_named(merchant: Merchant):
    with pytest.raises(Invalid) as refused:
        send(merchant, ORDER, {"type": "order.crated"}, {"type": 7}, batch=True)
    assert [error.pointer for error in refused.value.errors] == ["/events/1/type", "/events/2/type"]
    assert "order.created" in refused.value.errors[0].message
    assert count(Event) == 0


def test_data_that_breaks_the_schema_is_stored_and_flagged(merchant: Merchant):
    (answer,) = send(merchant, {"type": "order.created", "data": {"lines": "none"}})
    event = db.session.get_one(Event, (merchant.id, answer.id))
    assert event.schema_error is not None


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"type": None}, "/type"),
        ({"type": ""}, "/type"),
        ({"type": "a..b"}, "/type"),
        ({"type": "../x"}, "/type"),
        ({"type": "*"}, "/type"),
        ({"type": "order.*"}, "/type"),
        ({"type": "order." + "x" * 256}, "/type"),
        ({"type": "order.\u202ecreated"}, "/type"),
        ({"type": 7}, "/type"),
        ({"type": "no.such_type"}, "/type"),
        ({"object_id": "a\nb"}, "/object_id"),
        ({"object_id": "x" * 256}, "/object_id"),
        ({"object_id": ""}, "/object_id"),
        ({"object_id": True}, "/object_id"),
        ({"object_type": "a b"}, "/object_type"),
        ({"source_user_type": "a:b"}, "/source_user_type"),
        ({"source_user_id": "\u202e1"}, "/source_user_id"),
        ({"correlation_id": 7}, "/correlation_id"),
        ({"id": "a\nb"}, "/id"),
        ({"id": "a/b"}, "/id"),
        ({"id": "x" * 256}, "/id"),
        ({"id": ""}, "/id"),
        ({"id": 7}, "/id"),
        ({"occurred_at": "9999-01-01T00:00:00Z"}, "/occurred_at"),
        ({"occurred_at": "2025-11-23T20:33:20"}, "/occurred_at"),
        ({"occurred_at": "soon"}, "/occurred_at"),
        ({"occurred_at": -1}, "/occurred_at"),
        ({"occurred_at": 1763930000000}, "/occurred_at"),
        ({"occurred_at": True}, "/occurred_at"),
        ({"occurred_at": 10**300}, "/occurred_at"),
        ({"occurred_at": []}, "/occurred_at"),
        ({"data": []}, "/data"),
        ({"data": "x"}, "/data"),
        ({"previous": 7}, "/previous"),
        ({"colour": "red"}, "/colour"),
        ({"a/b~": 1}, "/a~1b~0"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_stored(merchant: Merchant, changes, pointer):
    with pytest.raises(Invalid) as refused:
        send(merchant, ORDER | changes)
    assert pointer in [error.pointer for error in refused.value.errors]
    assert count(Event) == 0


@pytest.mark.parametrize("event", [None, [], 7, "x"])
def test_what_is_no_object_is_refused(merchant: Merchant, event: Any):
    with pytest.raises(Invalid):
        send(merchant, event)


@pytest.mark.parametrize("size", [0, 1_001])
def test_a_batch_holds_1_to_1000_events(merchant: Merchant, size: int):
    with pytest.raises(Invalid) as refused:
        send(merchant, *[ORDER] * size, batch=True)
    assert refused.value.errors[0].pointer == "/events"


class TestWithoutRedis:
    """Redis is a wake-up call; without it events are taken as fast."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"REDIS_URL": "redis://127.0.0.1:1/0"}

    def test_an_event_is_taken(self, merchant: Merchant):
        make_webhook(merchant)
        started = time.monotonic()
        for _ in range(20):
            assert send(merchant, ORDER)[0].deliveries == 1
        assert time.monotonic() - started < 5
        assert count(Delivery) == 20


@pytest.mark.parametrize("text", ['say "hi" \\ / ', "Zoë – 東京 🛒", "a\u2028b\x7f", "<script>&'"])
def test_the_head_is_json_whatever_its_texts_hold(text: str):
    event = NewEvent(
        "order.created",
        "order",
        text,
        text,
        None,
        1_763_930_000_000_000,
        text,
        None,
        None,
        None,
        None,
    )
    head = event.head("evt_1", 5)
    assert head == dump(json.loads(head)), "compact, and non-ASCII as it is, like the record"
    assert json.loads(head) == {
        "id": "evt_1",
        "type": "order.created",
        "timestamp": "2025-11-23T20:33:20Z",
        "created": 1_763_930_000,
        "sequence": 5,
        "object_type": "order",
        "object_id": text,
        "source_user_type": text,
        "source_user_id": None,
        "correlation_id": text,
    }


class TestLargeBatches:
    """A batch that would keep everybody else from writing for long is stored in parts."""

    @pytest.fixture(autouse=True)
    def _small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ingest, "PART_DELIVERIES", 12)

    @pytest.fixture
    def parts(self, merchant: Merchant) -> Iterator[list[int]]:
        """How many deliveries each transaction has stored."""
        found: list[int] = []
        seen = 0
        assert merchant.id

        def note(_connection: sa.Connection) -> None:
            nonlocal seen
            # The connection that commits sees them already.
            stored = _connection.exec_driver_sql("SELECT count(*) FROM delivery").scalar() or 0
            if stored != seen:
                found.append(stored - seen)
                seen = stored

        sa.event.listen(db.engine, "commit", note)
        yield found
        sa.event.remove(db.engine, "commit", note)

    @on_both_databases
    def test_others_write_between_its_parts_and_its_order_is_kept(
        self, merchant: Merchant, parts: list[int]
    ):
        for _ in range(5):
            make_webhook(merchant)
        make_webhook(merchant, events=["order.created"])
        kinds = ["order.created" if number % 2 else "order.paid" for number in range(20)]
        answers = send(merchant, *({"type": kind} for kind in kinds), batch=True)
        assert [answer.deliveries for answer in answers] == [
            6 if kind == "order.created" else 5 for kind in kinds
        ]
        assert sum(parts) == 110
        assert max(parts) <= 12
        rows = db.session.execute(sa.select(Event.id).order_by(Event.received_at)).scalars()
        assert list(rows) == [answer.id for answer in answers]

    def test_its_parts_are_smaller_while_others_are_there(
        self, merchant: Merchant, parts: list[int], monkeypatch: pytest.MonkeyPatch
    ):
        for _ in range(3):
            make_webhook(merchant)
        are_there = iter([False] * 2)
        monkeypatch.setattr(ingest, "are_several_there", lambda: next(are_there, True))
        answers = send(merchant, *[ORDER] * 12, batch=True)
        assert [answer.deliveries for answer in answers] == [3] * 12
        assert parts == [12, 12, 3, 3, 3, 3]
        rows = db.session.execute(sa.select(Event.id).order_by(Event.received_at)).scalars()
        assert list(rows) == [answer.id for answer in answers]

    def test_others_go_first_between_them(self, merchant: Merchant, parts: list[int]):
        for _ in range(6):
            make_webhook(merchant)
        stored: list[int] = []
        courtesy.do(Breathing(lambda: stored.append(sum(parts))))
        try:
            send(merchant, *[ORDER] * 6, batch=True)
        finally:
            courtesy.do(None)
        assert stored == [12, 24, 36]

    def test_one_event_is_stored_whole_whatever_it_owes(self, merchant: Merchant, parts: list[int]):
        for _ in range(15):
            make_webhook(merchant)
        answers = send(merchant, ORDER, ORDER, batch=True)
        assert [answer.deliveries for answer in answers] == [15, 15]
        assert parts == [15, 15]

    def test_long_records_are_stored_in_parts_too(
        self, merchant: Merchant, parts: list[int], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(ingest, "PART_CHARACTERS", 2_500)
        make_webhook(merchant)
        event = {"type": "order.created", "data": {"text": "x" * 1_000}}
        assert len(send(merchant, *[event] * 7, batch=True)) == 7
        assert sum(parts) == 7
        assert max(parts) == 2

    @on_both_databases
    def test_a_conflict_refuses_all_of_it(self, merchant: Merchant):
        for _ in range(5):
            make_webhook(merchant)
        send(merchant, {"type": "order.created", "id": "used"})
        events: list[dict[str, Any]] = [{"type": "order.created"} for _ in range(19)]
        with pytest.raises(Conflict) as caught:
            send(merchant, *events, {"type": "order.paid", "id": "used"}, batch=True)
        assert caught.value.errors[0].pointer == "/events/19/id"
        assert count(Event) == 1

    @on_both_databases
    def test_what_ends_early_says_how_much_is_stored_and_is_sent_again_without_doubles(
        self, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
    ):
        for _ in range(5):
            make_webhook(merchant)
        events = [{"type": "order.created", "id": f"e{number}"} for number in range(10)]
        store, calls = ingest.store, 0

        def away(requests: Any) -> Any:
            nonlocal calls
            calls += 1
            # The first finds out that it is too much for one transaction.
            if calls == 4:
                raise Unavailable("The database is away.")
            return store(requests)

        monkeypatch.setattr(ingest, "store", away)
        runtime.of(current_app).put(ingest.Ingest, ingest.Ingest())
        with pytest.raises(Unavailable, match="The first 4 of the 10 events are stored") as caught:
            send(merchant, *events, batch=True)
        assert "not stored twice" in caught.value.detail
        assert count(Event) == 4
        answers = send(merchant, *events, batch=True)
        assert [(answer.id, answer.deliveries) for answer in answers] == [
            (f"e{number}", 5) for number in range(10)
        ]
        assert (count(Event), count(Delivery)) == (10, 50)

    def test_few_of_them_are_stored_at_once(self, merchant: Merchant):
        for _ in range(5):
            make_webhook(merchant)
        batch = [{"type": "order.created"}] * 10
        with (
            places.held(places.BATCH, merchant.id),
            pytest.raises(TooManyRequests, match="large batches of events are being stored"),
        ):
            send(merchant, *batch, batch=True)
        assert count(Event) == 0
        assert len(send(merchant, *batch, batch=True)) == 10
