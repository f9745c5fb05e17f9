"""Requests that come at the same moment share a transaction, and none of them another's fate."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import runtime
from portal.db.session import db
from portal.errors import Conflict, Unavailable
from portal.events import ingest, requests
from portal.events.group_commit import GroupCommit, _Waiting
from portal.events.ingest import Ingest
from portal.models import Event, Merchant
from tests.conftest import on_both_databases
from tests.factories import make_merchant, make_webhook


class Gathered:
    """Runs the first task alone, and holds it until the others wait for their turn."""

    def __init__(self, run: Callable[[list[Any]], list[Any]], most: int = 1_000):
        self.sizes: list[int] = []
        self._run = run
        self._may_go = threading.Event()
        self._first = threading.Event()
        self.told: list[list[Any]] = []
        self.turns: GroupCommit[Any, Any] = GroupCommit(
            self._group, self.told.append, lambda task: getattr(task, "weight", 1), lambda: most
        )

    def _group(self, tasks: list[Any]) -> list[Any]:
        self.sizes.append(len(tasks))
        if not self._first.is_set():
            self._first.set()
            assert self._may_go.wait(20)
        return self._run(tasks)

    def play(self, take: Callable[[Any], Any], tasks: list[Any]) -> list[Any]:
        """What each task gives, or the exception that it ends with."""

        def outcome(task: Any) -> Any:
            try:
                return take(task)
            except (LookupError, ValueError, Conflict, Unavailable) as error:
                return error

        with ThreadPoolExecutor(len(tasks)) as pool:
            contexts = [contextvars.copy_context() for _ in tasks]
            first = pool.submit(contexts[0].run, outcome, tasks[0])
            assert self._first.wait(20)
            others = [
                pool.submit(context.run, outcome, task)
                for context, task in zip(contexts[1:], tasks[1:], strict=True)
            ]
            while len(self.turns._waiting) < len(others):
                threading.Event().wait(0.01)
            self._may_go.set()
            return [future.result(20) for future in (first, *others)]


def test_who_comes_while_others_are_stored_goes_together_next():
    gathered = Gathered(lambda tasks: [task * 2 for task in tasks])
    assert gathered.play(gathered.turns.submit, [1, 2, 3, 4]) == [2, 4, 6, 8]
    assert gathered.sizes == [1, 3]
    assert gathered.told == [[2], [4, 6, 8]]


def test_a_group_has_a_most():
    gathered = Gathered(lambda tasks: tasks, most=2)
    assert gathered.play(gathered.turns.submit, [1, 2, 3, 4]) == [1, 2, 3, 4]
    assert gathered.sizes == [1, 2, 1]


def test_what_is_raised_after_one_group_keeps_no_other_waiting():
    def then(_results: list[int]) -> None:
        raise ValueError("the queue")

    turns = GroupCommit[int, int](
        lambda tasks: [task * 2 for task in tasks], then, lambda _: 1, lambda: 1
    )
    others = [_Waiting[int, int](task) for task in (1, 2)]
    turns._waiting.extend(others)
    with pytest.raises(ValueError, match="the queue"):
        turns.submit(3)
    assert [other.future.result(1) for other in others] == [2, 4]


def test_an_exception_of_one_is_its_own_and_what_is_raised_ends_all_and_nobody_later():
    def run(tasks: list[int]) -> list[Any]:
        if 13 in tasks:
            raise LookupError
        return [ValueError() if task < 0 else task for task in tasks]

    gathered = Gathered(run)
    one, refused, three = gathered.play(gathered.turns.submit, [1, -2, 3])
    assert (one, three) == (1, 3)
    assert isinstance(refused, ValueError)
    gathered = Gathered(run)
    one, *others = gathered.play(gathered.turns.submit, [1, 13, 3])
    assert one == 1
    assert [type(other) for other in others] == [LookupError, LookupError]
    assert gathered.turns.submit(4) == 4


def test_who_runs_another_group_first_does_not_end_with_it():
    def run(tasks: list[int]) -> list[int | Exception]:
        if 13 in tasks:
            raise LookupError
        return [*tasks]

    turns = GroupCommit[int, int](run, lambda _: None, lambda _: 1, lambda: 1)
    other = _Waiting[int, int](13)
    turns._waiting.append(other)
    assert turns.submit(3) == 3
    assert not turns._waiting, "it would be run later, when nobody knows of it any more"
    with pytest.raises(LookupError):
        other.future.result(1)


def events_at_once(app: Flask, sent: list[tuple[int, dict[str, Any]]]) -> tuple[list[Any], int]:
    """What each request gives that came while another was stored, and in how many groups."""
    gathered = Gathered(ingest.store)
    runtime.of(app).part(Ingest).turns = gathered.turns

    def take(task: tuple[int, dict[str, Any]]) -> Any:
        with app.app_context():
            (answer,) = ingest.ingest_events(task[0], [task[1]], batch=False)
            return answer

    db.session.rollback()
    return gathered.play(take, sent), len(gathered.sizes)


@on_both_databases
def test_requests_of_several_merchants_share_a_transaction_and_one_conflict_is_its_own(
    app: Flask, merchant: Merchant
):
    other = make_merchant("bob")
    make_webhook(merchant)
    make_webhook(other)
    make_webhook(other)
    event = {"type": "order.created", "id": "mine", "object_id": "1"}
    first, owed, theirs, again, conflict = events_at_once(
        app,
        [
            (merchant.id, {"type": "order.created"}),
            (merchant.id, event),
            (other.id, event),
            (merchant.id, event),
            (merchant.id, event | {"object_id": "2"}),
        ],
    )[0]
    assert (first.deliveries, owed.deliveries, theirs.deliveries) == (1, 1, 2)
    assert again == owed
    assert isinstance(conflict, Conflict)
    stored = db.session.execute(sa.select(Event.merchant_id, Event.object_id)).all()
    assert sorted(tuple(row) for row in stored if row.object_id) == [
        (merchant.id, "1"),
        (other.id, "1"),
    ]


@on_both_databases
def test_who_was_compared_shares_no_transaction_and_takes_nobodys(
    app: Flask, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    other = make_merchant("bob")
    event = {"type": "order.created", "id": "mine", "data": {"a": Decimal("1.50")}}
    again = event | {"data": {"a": Decimal("1.5")}}
    new = {"type": "order.created", "id": "new"}
    ingest.ingest_events(merchant.id, [event], batch=False)
    gathered = Gathered(ingest.store)
    runtime.of(app).part(Ingest).turns = gathered.turns
    alone: list[list[Any]] = []
    store = ingest.store

    def note(requests: list[Any]) -> Any:
        alone.append([request.ids for request in requests])
        return store(requests)

    monkeypatch.setattr(ingest, "store", note)

    def take(task: tuple[int, list[dict[str, Any]]]) -> Any:
        with app.app_context():
            return ingest.ingest_events(*task, batch=True)

    db.session.rollback()
    answers = gathered.play(
        take,
        [
            (other.id, [{"type": "order.created"}]),
            (merchant.id, [again, new]),
            (other.id, [{"type": "order.created"}]),
        ],
    )
    assert gathered.sizes == [1, 2]
    assert alone == [[["mine", "new"]]]
    assert [one.id for one in answers[1]] == ["mine", "new"]
    db.session.rollback()
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Event)) == 4


@on_both_databases
def test_a_transaction_is_weighed_by_deliveries_and_who_owes_many_shares_none(
    app: Flask, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    """Eight requests of ten events for a hundred webhooks each were one of 8,000 deliveries."""
    monkeypatch.setattr(requests, "LARGE_DELIVERIES", 8)
    monkeypatch.setattr(ingest, "PART_DELIVERIES", 12)
    other = make_merchant("bob")
    for _ in range(5):
        make_webhook(merchant)
    make_webhook(merchant, events=["order.paid"])
    sizes: list[int] = []
    insert = ingest._Rows.insert

    def note(rows: Any) -> None:
        sizes.append(len(rows._deliveries))
        insert(rows)

    monkeypatch.setattr(ingest._Rows, "insert", note)
    for _ in range(2):
        # Before it is known what they owe, and after.
        gathered = Gathered(ingest.store, 12)
        runtime.of(app).part(Ingest).turns = gathered.turns

        def take(task: tuple[int, int]) -> Any:
            with app.app_context():
                events = [{"type": "order.created"}] * task[1]
                return ingest.ingest_events(task[0], events, batch=True)

        ids = merchant.id, other.id
        db.session.rollback()
        sizes.clear()
        answers = gathered.play(take, [(ids[1], 1), *[(ids[0], 1)] * 6, (ids[1], 1)])
        assert [len(one) for one in answers] == [1] * 8
        assert sum(sizes) == 30
        assert max(sizes) <= 12
        (one, two) = ingest.ingest_events(ids[0], [{"type": "order.created"}] * 2, batch=True)
        assert (one.deliveries, two.deliveries) == (5, 5)
        assert len(gathered.told[-1]) < 2 or not any(
            len(stored.answers) == 2 for stored in gathered.told[-1]
        ), "it owes ten: no group has it"


@on_both_databases
def test_what_the_database_refuses_of_one_does_not_refuse_the_others(
    app: Flask, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    # As if another process had stored the ID between the look and the insert.
    ingest.ingest_events(merchant.id, [{"type": "order.created", "id": "there"}], batch=False)
    find, blind = ingest.repeats.find, [True, True]

    def look(merchant_id: int, ids: list[str]) -> Any:
        if ids and blind:
            blind.pop()
            return []
        return find(merchant_id, ids)

    monkeypatch.setattr(ingest.repeats, "find", look)
    answers, groups = events_at_once(
        app,
        [
            (merchant.id, {"type": "order.created"}),
            (merchant.id, {"type": "order.paid"}),
            (merchant.id, {"type": "order.created", "id": "there"}),
        ],
    )
    assert [type(answer).__name__ for answer in answers] == ["Accepted"] * 3
    assert answers[2].id == "there"
    assert groups == 3
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Event)) == 3


@on_both_databases
def test_a_defect_that_one_event_meets_fails_it_alone(
    app: Flask, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    add = ingest._Rows.add

    def stumble(rows: Any, request: Any) -> Any:
        if request.events[0].type == "order.paid":
            raise UnicodeEncodeError("latin-1", "€", 0, 1, "as a driver may")
        return add(rows, request)

    monkeypatch.setattr(ingest._Rows, "add", stumble)
    types = ["order.created", "order.deleted", "order.paid", "order.updated"]
    answers, _ = events_at_once(app, [(merchant.id, {"type": name}) for name in types])
    assert [type(answer).__name__ for answer in answers] == [
        "Accepted",
        "Accepted",
        "UnicodeEncodeError",
        "Accepted",
    ]


@on_both_databases
def test_what_was_stored_alone_is_told_so_though_the_database_takes_no_other(
    app: Flask, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    add = ingest._Rows.add

    def stumble(rows: Any, request: Any) -> Any:
        answers = add(rows, request)
        if request.events[0].type == "order.paid":
            if len(rows._events) == 1:
                raise Unavailable("The database is busy or away.")
            raise ValueError("of all together")
        return answers

    monkeypatch.setattr(ingest._Rows, "add", stumble)
    types = ["order.created", "order.deleted", "order.updated", "order.paid"]
    gathered, _ = events_at_once(app, [(merchant.id, {"type": name}) for name in types])
    assert [type(answer).__name__ for answer in gathered] == [
        "Accepted",
        "Accepted",
        "Accepted",
        "Unavailable",
    ]
    stored = db.session.scalars(sa.select(Event.type)).all()
    assert sorted(stored) == sorted(types[:3])
