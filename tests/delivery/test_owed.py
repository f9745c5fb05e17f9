"""However large what is owed is, a read takes little of it into memory, and comes to all of it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from portal.clock import HOUR, MINUTE, SECOND, now
from portal.db.session import db
from portal.delivery import drain, due, lines, reading
from portal.delivery.due import START, Cursor, DueDelivery
from portal.delivery.line import Line
from portal.delivery.owed import LARGE
from portal.delivery.paces import Paces
from portal.models import Delivery, Event, EventPayload, Merchant, Webhook
from tests.conftest import on_both_databases
from tests.factories import make_attempt, make_delivery, make_event, make_webhook
from tests.receiver import Receiver
from tests.upkeep.test_plans import noted, plan, prefer_indexes, scans

PACES = Paces(linger_seconds=1.0)

pytestmark = on_both_databases
__all__ = ["prefer_indexes"]

SMALL, MIDDLE, MOST = 100, LARGE + 1, 300_000
ROOM = 4 * MIDDLE


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "AT_ONCE", ROOM)
    monkeypatch.setattr(due, "LOOKED", 20)


def record(size: int) -> str:
    return f'{{"text":"{"é" * (size - 11)}"}}'


def owed(webhook: Webhook, merchant: Merchant, count: int = 40, **fields: Any) -> list[Delivery]:
    """What is due, small and large, several of each moment; in the order in which it is read."""
    made = []
    for number in range(count):
        # The usual, those between, and the largest.
        size = (SMALL, MIDDLE, SMALL, MOST, MIDDLE, MIDDLE)[number % 6]
        data = None if number % 7 == 3 else record(size)
        event = make_event(merchant, data=data, type=("order.created", "order.paid")[number % 2])
        if number % 5 == 2:
            payload = db.session.get_one(EventPayload, (merchant.id, event.id))
            payload.previous = record(MIDDLE)
        values = {
            "object_key": f"order:{event.id}",
            "next_attempt_at": now() - MINUTE + number // 4,
        }
        made.append(make_delivery(event, webhook, **(values | fields)))
    db.session.commit()
    return sorted(made, key=lambda one: (one.next_attempt_at, one.id))


def waiting(webhook: Webhook, merchant: Merchant) -> list[Delivery]:
    made = owed(webhook, merchant, is_retry=True, step=2, attempts=2, next_attempt_at=now() + HOUR)
    for one in made:
        make_attempt(one, 503, attempted_at=now() - MINUTE)
    return made


def whole(one: DueDelivery) -> tuple[str | None, str | None]:
    payload = db.session.get_one(EventPayload, (one.merchant_id, one.event_id))
    return payload.data, payload.previous


def types() -> dict[str, str]:
    return {row.id: row.type for row in db.session.execute(sa.select(Event.id, Event.type))}


Reading = Callable[[Cursor], tuple[list[DueDelivery], Cursor | None]]


def all_of(read: Reading) -> list[str]:
    """The IDs of all that is read, read after read, each of which has little in it."""
    found: list[str] = []
    cursor: Cursor | None = START
    while cursor is not None:
        before = cursor
        rows, cursor = read(cursor)
        assert cursor is None or cursor > before
        sizes = [one.size for one in rows]
        assert sum(sizes[:-1]) < ROOM, "and one in any case"
        for one in rows:
            assert one.payload is not None
            assert (one.payload.data, one.payload.previous) == whole(one)
        found += [one.id for one in rows]
    return found


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("without", [(), ("order.paid",)])
@pytest.mark.parametrize("is_retry", [False, True])
def test_reads_of_what_is_large_are_short_and_come_to_all_of_it_in_its_order(
    merchant: Merchant, ordered: bool, without: tuple[str, ...], is_retry: bool
):
    webhook = make_webhook(merchant)
    rows = owed(webhook, merchant, is_retry=is_retry)
    kinds = types()
    expected = [one.id for one in rows if kinds[one.event_id] not in without]
    found = all_of(
        lambda after: due.read(
            webhook.id,
            is_retry=is_retry,
            moment=now() + SECOND,
            after=after,
            count=30,
            ordered=ordered,
            without=without,
            room=ROOM,
        )
    )
    assert found == expected


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("without", [(), ("order.paid",)])
def test_so_are_reads_of_what_waits(merchant: Merchant, ordered: bool, without: tuple[str, ...]):
    webhook = make_webhook(merchant)
    rows = waiting(webhook, merchant)
    found = all_of(
        lambda after: due.waiting(
            webhook.id,
            moment=now(),
            tried_before=now(),
            after=after,
            count=30,
            ordered=ordered,
            without=without,
            room=ROOM,
        )
    )
    kinds = types()
    assert found == [one.id for one in rows if kinds[one.event_id] not in without]


def test_a_read_of_the_largest_takes_a_bounded_part_of_the_memory(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(due, "AT_ONCE", 4 * 1024 * 1024)
    webhook = make_webhook(merchant)
    for _ in range(100):
        # One sign has all of them take four bytes.
        data = f'{{"text":"\N{PARTY POPPER}{"x" * 2_000_000}"}}'
        make_delivery(make_event(merchant, data=data), webhook)
    db.session.rollback()
    one = Line()
    one.webhook_id, one.ordered = webhook.id, False
    tracemalloc.start()
    one.fill(lines.BUFFER, now())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Of 800 MB.
    assert most < 100_000_000
    assert len(one.buffer) == 3


def test_what_is_known_is_not_read_again_however_large_it_is(merchant: Merchant):
    webhook = make_webhook(merchant)
    rows = [one.id for one in owed(webhook, merchant)]
    known = set(rows[:30])
    with noted("SELECT") as statements:
        found, _ = due.read(
            webhook.id,
            is_retry=False,
            moment=now() + SECOND,
            after=START,
            count=30,
            ordered=False,
            known=known,
            room=10 * MOST,
        )
    assert [one.id for one in found] == rows[30:]
    assert len(statements) <= 1 + 10 // due.FEW + 1


@pytest.mark.usefixtures("prefer_indexes")
def test_what_was_left_out_is_read_by_an_index(merchant: Merchant):
    webhook = make_webhook(merchant)
    rows = owed(webhook, merchant)
    with noted("SELECT") as statements:
        due.read(
            webhook.id,
            is_retry=False,
            moment=now() + SECOND,
            after=START,
            count=len(rows),
            ordered=False,
            room=len(rows) * MOST,
        )
    texts = [one for one in statements if "FROM delivery" not in " ".join(one[0].split())]
    assert len(texts) > 1
    for statement, parameters in texts:
        assert not scans(plan(statement, parameters)), statement


def test_after_a_large_read_few_are_asked_for_and_then_more_again(merchant: Merchant):
    webhook = make_webhook(merchant)
    for size in [MOST] * 6 + [SMALL] * 60:
        make_delivery(make_event(merchant, data=record(size)), webhook)
    one = Line()
    one.webhook_id, one.ordered = webhook.id, False
    counts, asked = [], []
    read = due.read

    def noting(*args: Any, **values: Any) -> Any:
        asked.append(values["count"])
        return read(*args, **values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(due, "read", noting)
        while one.may_have_more:
            one.fill(lines.BUFFER, now())
            counts.append(len(one.buffer))
            one.buffer.clear()
    assert counts == [1] * 6 + [2, 4, 8, 16, 30]
    assert asked[0] == lines.BUFFER <= reading.MOST_AT_ONCE


@pytest.fixture
def fills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    fill = Line.fill

    def noting(self: Line, want: int, moment: int) -> int:
        sizes.append(fill(self, want, moment))
        return sizes[-1]

    monkeypatch.setattr(Line, "fill", noting)
    return sizes


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("caught_up", [False, True])
def test_a_drain_sends_all_of_what_is_large_once(
    merchant: Merchant, receiver: Receiver, ordered: bool, caught_up: bool, fills: list[int]
):
    webhook = make_webhook(
        merchant, receiver.url(), ordered=ordered, catch_up_from=now() if caught_up else None
    )
    rows = owed(webhook, merchant)
    rows += owed(webhook, merchant, is_retry=True, step=1, attempts=1)
    if caught_up:
        rows += waiting(webhook, merchant)
    # Some in a row of one record.
    for one in rows[:30:3]:
        one.object_key = "order:same"
    db.session.commit()
    events = [one.event_id for one in rows]
    same = [
        one.event_id
        for one in sorted(rows, key=lambda one: (one.created_at, one.id))
        if one.object_key == "order:same"
    ]
    drain.drain(0, paces=PACES)
    assert sorted(receiver.ids()) == sorted(events)
    if ordered:
        assert [one for one in receiver.ids() if one in same] == same
    assert max(fills) < ROOM + 2 * (MOST + MIDDLE)


def test_one_that_hangs_on_a_type_gets_all_of_the_others(
    merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("portal.delivery.silence.PATIENCE_SECONDS", 0.5)
    webhook = make_webhook(merchant, receiver.url(), timeout_seconds=3)
    receiver.hanging = {"order.paid"}
    owed(webhook, merchant)
    wanted = [event_id for event_id, kind in types().items() if kind == "order.created"]
    drain.drain(0, paces=PACES)
    assert sorted(one for one in receiver.ids() if one in wanted) == sorted(wanted)
