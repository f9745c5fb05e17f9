"""No delete, and no look for what to delete, reads a table that grows with the log: the plan of
each is read, on both databases."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask, current_app

from benchmarks import history
from portal.api import saved_answers
from portal.clock import DAY, HOUR, MINUTE, SECOND, now
from portal.counts import counting
from portal.db import bulk
from portal.db.session import db, table, writing
from portal.delivery import recording
from portal.delivery.due import DueDelivery
from portal.diagnosis import inspector, shares
from portal.events import repeats
from portal.ids import new_id, request_id_at
from portal.logs import browse
from portal.models import (
    CountedUntil,
    Delivery,
    IdempotencyKey,
    InspectedRequest,
    Mail,
    Merchant,
    Notice,
    Webhook,
)
from portal.notices import gathering, mail, notices
from portal.people import invitations, resets, second_factor, sessions
from portal.recovery import batches
from portal.storage import allowance, measuring, sizes
from portal.upkeep import expiry, retention
from tests.conftest import on_both_databases
from tests.factories import (
    make_attempt,
    make_delivery,
    make_event,
    make_merchant,
    make_user,
    make_webhook,
)

pytestmark = on_both_databases

PORTAL = Path(__file__).resolve().parents[2] / "portal"
Statement = tuple[str, Any]


@contextmanager
def noted(*verbs: str) -> Iterator[list[Statement]]:
    """The statements that run meanwhile and begin with one of the verbs."""
    found: list[Statement] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if statement.lstrip().upper().startswith(verbs):
            found.append((statement, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)


def plan(statement: str, parameters: Any) -> list[str]:
    """The steps of a statement's plan."""
    parameters = parameters[0] if isinstance(parameters, list) else parameters
    is_sqlite = db.engine.dialect.name == "sqlite"
    explain = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
    with db.engine.connect() as connection:
        rows = connection.exec_driver_sql(explain + statement, parameters).all()
        connection.rollback()
    return [str(row[-1]).strip() for row in rows]


def scans(steps: list[str]) -> list[str]:
    """The steps that read a table, or an index of it, from one end to the other."""
    found = []
    for number, step in enumerate(steps):
        if re.match(r"SCAN (?!CONSTANT)", step) or "Seq Scan on" in step:
            found.append(step)
        elif re.search(r"Index (Only )?Scan .*(using|on) ", step):
            following = steps[number + 1] if number + 1 < len(steps) else ""
            if not following.startswith("Index Cond"):
                found.append(step)
    return found


def forget_statistics() -> None:
    """Let PostgreSQL know as little of its tables as of new ones."""
    with db.engine.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE pg_class SET reltuples = -1, relpages = 0"
                " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            )
        )
        connection.execute(
            sa.text(
                "DELETE FROM pg_statistic WHERE starelid IN"
                " (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)"
            )
        )


@pytest.fixture
def prefer_indexes(app: Flask) -> Iterator[None]:
    """PostgreSQL reads an empty table whole whatever its indexes; where it may not and still does,
    no index would serve. Of a table that it has seen with one row in it, one index costs as
    much as another, so what it knows is forgotten."""
    if db.engine.dialect.name != "postgresql":
        yield
        return
    engine = db.engine
    forget_statistics()

    def no_scans(connection: Any, _record: Any) -> None:
        connection.execute("SET enable_seqscan = off; SET enable_sort = off")
        connection.commit()

    sa.event.listen(engine, "connect", no_scans)
    engine.dispose()
    yield
    sa.event.remove(engine, "connect", no_scans)
    engine.dispose()


def a_story(merchant: Merchant, days: float) -> Delivery:
    moment = now() - int(days * DAY)
    event = make_event(merchant, received_at=moment)
    delivery = make_delivery(event, make_webhook(merchant), "succeeded")
    make_attempt(delivery, id=request_id_at(moment) + delivery.id[-20:], attempted_at=moment)
    return delivery


@pytest.mark.usefixtures("prefer_indexes")
def test_the_clean_up_finds_and_deletes_by_ranges_of_an_index(app: Flask) -> None:
    for slug, days in (("default", None), ("short", 1), ("long", 400)):
        merchant = make_merchant(slug, event_days=days, payload_days=days)
        for age in (500, 70, 2):
            a_story(merchant, age)
    counting.count_new()
    with noted("DELETE", "SELECT", "UPDATE") as statements:
        retention.purge_expired(moment=now() + 8 * DAY)
    deleted = {re.split(r"\W+", text)[2] for text, _ in statements if text.startswith("DELETE")}
    assert deleted >= {log.name for log in expiry.LOGS} | {"event_count", "attempt_count"}
    for log in expiry.ALL_LOGS:
        # Those that had nothing to delete now, too.
        dialect = db.engine.dialect
        for walk in expiry.walks(expiry.Periods(now()), [log]):
            key = tuple(1 if column.type.python_type is int else "x" for column in walk.key)
            for statement in (
                walk.look(None, 5),
                walk.look(key, 5),
                *walk.removal(dialect.name, key, key),
            ):
                compiled = statement.compile(  # type: ignore[attr-defined]
                    dialect=dialect, compile_kwargs={"literal_binds": True}
                )
                statements.append((str(compiled).replace("%%", "%"), ()))
    for statement, parameters in statements:
        if re.search(
            "(FROM|UPDATE) (clean_up|clock_seen|merchant|webhook|operations_entry)", statement
        ):
            # What grows with merchants or machines alone; and, once, the last line of an earlier
            # version.
            continue
        assert not scans(plan(statement, parameters)), statement


def test_deliveries_are_read_in_the_order_of_their_events_and_are_not_sorted(
    merchant: Merchant,
) -> None:
    """A store whose events go to a hundred webhooks is owed hundreds of thousands."""
    for number in range(3):
        make_delivery(make_event(merchant, received_at=now() + number), make_webhook(merchant))
    with noted("SELECT") as statements:
        cursor = browse.deliveries(merchant.id, limit=1).next_cursor
        browse.deliveries(merchant.id, cursor=cursor, limit=1)
        for values in ({"state": "failed"}, {"since": str(now() // SECOND)}, {"until": "1"}):
            browse.deliveries(merchant.id, values)
    read = [one for one in statements if "FROM event JOIN delivery" in " ".join(one[0].split())]
    assert len(read) >= 5
    for statement, parameters in read:
        # Those of one moment alone are.
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan(statement, parameters), statement


def shares_of(merchant: Merchant) -> None:
    attempt_id = db.session.scalar(sa.text("SELECT id FROM attempt"))
    shares.create_share(merchant.id, attempt_id, "1", "cli")


def counted_again(_merchant: Merchant) -> None:
    db.session.add(CountedUntil(id=1, moment=now() + DAY))
    db.session.commit()
    counting.count_new()


def measured_again(merchant: Merchant) -> None:
    measuring.measure(now() + DAY)
    measuring.measure()


def records_left_over(merchant: Merchant) -> None:
    repeats.forget_records(merchant.id, ["evt_1", "evt_2"])


def kept_answers(merchant: Merchant) -> None:
    saved_answers.claim(merchant.id, "k", "d")
    saved_answers.release(merchant.id, "k")
    with time_machine.travel((now() - 2 * DAY) / SECOND):
        saved_answers.claim(merchant.id, "k", "d")
    saved_answers.claim(merchant.id, "k", "d")


def an_inspector(merchant: Merchant) -> None:
    found = inspector.prepare(merchant.id, "cli")
    for _ in range(inspector.KEPT + 2):
        inspector.receive(found.token, inspector.Received("GET", "/x", [], b""))
    inspector.remove(merchant.id, "cli")


def mail_given_up(merchant: Merchant) -> None:
    with writing() as session:
        session.add(Mail.make("a@example.com", "s", "b", merchant.id))
    message = mail._Message([db.session.scalars(sa.select(Mail)).one()], merchant)
    mail.put_off(message, mail.Refused("no"))


def handed_out(merchant: Merchant) -> None:
    make_user("owner", merchant, email="ann@example.com")
    with writing() as session:
        for _ in range(2):
            gathering.queue(session, merchant.id, "held", "s", "b")
    with time_machine.travel((now() + DAY) / SECOND):
        gathering.hand_out()
    with writing() as session:
        for number in range(31):
            session.add(
                Notice(
                    merchant_id=merchant.id, at=now() + number * MINUTE, kind="held", message="m"
                )
            )
        gathering.queue(session, merchant.id, "held", "s", "b")
    with time_machine.travel((now() + 2 * MINUTE) / SECOND):
        gathering.hand_out()


def sign_ins(merchant: Merchant) -> None:
    user = make_user("owner", merchant)
    sessions.begin(user)
    sessions.end_others(user, "none")


def password_links(merchant: Merchant) -> None:
    link = resets.make_link(make_user("owner", merchant), "cli")
    resets.choose(link.rpartition("/")[2], "another long password", "another long password")


def recovery_codes(merchant: Merchant) -> None:
    user = make_user("owner", merchant)
    with writing() as session:
        second_factor.replace_codes(session, user)
        second_factor.end_if_last(session, user)


def invited(merchant: Merchant) -> None:
    invitations.invite(merchant, "bob@example.com", "viewer", "cli")


def a_webhook_that_came_and_went(merchant: Merchant) -> None:
    webhook, config = make_webhook(merchant), current_app.config["PORTAL"]
    for kind in ("held", "recovered"):
        with writing() as session:
            notices.notify(session, merchant.id, webhook.id, kind, "It flaps.", now(), config)


DELETES: dict[str, Callable[[Merchant], object]] = {
    "events/repeats.py": records_left_over,
    "diagnosis/shares.py": shares_of,
    "counts/counting.py": counted_again,
    "storage/measuring.py": measured_again,
    "diagnosis/inspector.py": an_inspector,
    "api/saved_answers.py": kept_answers,
    "people/invitations.py": invited,
    "notices/gathering.py": handed_out,
    "notices/mail.py": mail_given_up,
    "notices/notices.py": a_webhook_that_came_and_went,
    "people/resets.py": password_links,
    "people/second_factor.py": recovery_codes,
    "people/sessions.py": sign_ins,
}
"""What makes each module delete."""


def test_every_module_that_deletes_is_known(database: str) -> None:
    found = set()
    for path in PORTAL.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "sa.delete":
                found.add(str(path.relative_to(PORTAL)))
    assert found == DELETES.keys() | {"upkeep/expiry.py"}


@pytest.mark.usefixtures("prefer_indexes")
@pytest.mark.parametrize("module", DELETES)
def test_every_other_delete_is_by_an_index_too(merchant: Merchant, module: str) -> None:
    a_story(merchant, 1)
    with noted("DELETE") as statements:
        DELETES[module](merchant)
    assert statements
    for statement, parameters in statements:
        assert not scans(plan(statement, parameters)), statement


@pytest.mark.usefixtures("prefer_indexes")
def test_what_is_stored_is_measured_by_ranges_of_an_index_and_read_by_the_merchant(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "BATCH", 1)
    # The first time all merchants are looked at, once.
    measuring.measure()
    for days in (3, 2, 2, 1):
        a_story(merchant, days)
    with noted("SELECT", "UPDATE", "INSERT") as statements:
        measuring.measure()
        allowance.of([merchant.id])
    assert {part.table.name for part in sizes.PARTS} <= {
        name for text, _ in statements for name in re.findall(r"FROM (\w+)", text)
    }
    for statement, parameters in statements:
        found = scans(plan(statement, parameters))
        assert not [step for step in found if "measured_until" not in step], statement


MANY = 60_000
"""Events of which some are past their days: a scan would show, and they are made in seconds."""


def fill_beside(webhook: Webhook) -> None:
    """Rows in what a clean-up meets beside the log, as after months: the log counted, and so many
    merchants, webhooks like this one, keys and inspected requests that no planner would rather
    read their tables whole; a few of them past their time."""
    # The clean-up's row, which the first sweep makes.
    retention.sweep()
    moment = now()
    while counting.count_new() < moment - HOUR:
        pass
    like = dict(db.session.execute(sa.select(table(Webhook))).mappings().first() or {})
    ages = [number * HOUR // 100 for number in range(2_500)]
    with writing() as session:
        bulk.insert(
            session.connection(),
            table(Merchant),
            ("id", "slug", "name", "active", "created_at"),
            [(1_000 + number, f"m-{number}", "M", True, moment) for number in range(200)],
        )
        session.execute(
            sa.insert(table(Webhook)),
            [
                like | {"id": new_id("wh"), "merchant_id": 1_000 + number}
                for number in range(200)
                for _ in range(10)
            ],
        )
        bulk.insert(
            session.connection(),
            table(IdempotencyKey),
            ("merchant_id", "key", "digest", "created_at"),
            [(webhook.merchant_id, str(age), "d", moment - age) for age in ages],
        )
        bulk.insert(
            session.connection(),
            table(InspectedRequest),
            (
                "id",
                "merchant_id",
                "received_at",
                "method",
                "uri",
                "headers",
                "body",
                "size",
                "status",
                "took_us",
            ),
            [
                (
                    f"{inspector.id_at(moment - age)}{number:020x}",
                    webhook.merchant_id,
                    moment - age,
                    "POST",
                    "/",
                    "[]",
                    b"",
                    0,
                    200,
                    1,
                )
                for number, age in enumerate(ages)
            ],
        )


def steps_of_a_batch() -> int:
    """The most that SQLite's machine does in one statement of a clean-up, in thousands of steps."""
    worst = ticks = 0
    raw = db.engine.raw_connection().driver_connection
    assert isinstance(raw, sqlite3.Connection)

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    def begin(*_arguments: Any) -> None:
        nonlocal ticks
        ticks = 0

    def end(*_arguments: Any) -> None:
        nonlocal worst
        worst = max(worst, ticks)

    def count(connection: Any, _record: Any, _proxy: Any) -> None:
        connection.set_progress_handler(tick, 1_000)

    for name, does in (("before_cursor_execute", begin), ("after_cursor_execute", end)):
        sa.event.listen(db.engine, name, does)
    sa.event.listen(db.engine, "checkout", count)
    retention.purge_expired()
    return worst


def test_a_batch_costs_the_same_however_long_the_log_is(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = make_merchant("short", event_days=57, payload_days=13)
    kept = make_delivery(make_event(merchant, received_at=now() - 61 * DAY), make_webhook(merchant))
    for owner in (merchant, short):
        history.fill(make_webhook(owner), MANY // 2, days=60.5, payload_days=15.25)
    fill_beside(make_webhook(short))
    rows = {
        log.name: db.session.scalar(sa.select(sa.func.count()).select_from(log.table)) or 0
        for log in expiry.LOGS
    }
    db.session.rollback()
    if db.engine.dialect.name == "sqlite":
        # As many rows as a machine removes in a hundredth of a second differ; so many all do. A
        # table has more than two hundred times as many.
        monkeypatch.setattr(retention, "MOST_ROWS", 250)
        assert steps_of_a_batch() < 40
    else:
        # Or the last page of webhooks is half of them, and reading them all the better plan.
        monkeypatch.setattr(expiry, "PAGE", 100)
        with db.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("ANALYZE"))
        with noted("DELETE", "SELECT") as statements:
            retention.purge_expired()
        # Each once, and of those that differ in their values alone some more.
        for statement, parameters in (
            *dict(statements).items(),
            *statements[:: len(statements) // 40 + 1],
        ):
            steps = plan(statement, parameters)
            # The merchants are read whole, for their periods, and the webhooks once, for those that
            # are deleted; the clean-up is one row, as each moment up to which is measured; of
            # clocks there is one for each machine.
            assert not [
                step
                for step in scans(steps)
                if not re.search(
                    r" on (merchant|webhook|clean_up|clock_seen|measured_until)\b", step
                )
            ], (statement, steps)
    db.session.rollback()
    left = {
        log.name: db.session.scalar(sa.select(sa.func.count()).select_from(log.table)) or 0
        for log in expiry.LOGS
    }
    per_day = MANY / 2 / 60.5
    assert rows["event"] - left["event"] == pytest.approx(per_day * (0.5 + 3.5), rel=0.01)
    assert rows["attempt_payload"] - left["attempt_payload"] == pytest.approx(
        per_day * (0.25 + 2.25), rel=0.01
    )
    assert db.session.get(Delivery, kept.id) is not None


def test_results_are_recorded_by_ids_whatever_was_counted_as_pending(app: Flask):
    """PostgreSQL had counted nothing as pending, and read all that was for each failed attempt."""
    merchant = make_merchant()
    webhook = make_webhook(merchant)
    columns = tuple(column.name for column in table(Delivery).columns)
    sample = make_delivery(make_event(merchant), webhook)
    values = {name: getattr(sample, name) for name in columns}

    def insert(state: str) -> list[str]:
        ids = [new_id("dlv") for _ in range(3_000)]
        with writing() as session:
            bulk.insert(
                session.connection(),
                table(Delivery),
                columns,
                [
                    tuple((values | {"id": one, "state": state, "next_attempt_at": 1}).values())
                    for one in ids
                ],
            )
        return ids

    insert("succeeded")
    db.session.execute(sa.text("UPDATE delivery SET state = 'succeeded'"))
    db.session.commit()
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))
    ids = insert("pending")

    def due(delivery_id: str) -> DueDelivery:
        return DueDelivery(delivery_id, merchant.id, "", "", 0, 0, "scheduled", "", None)

    retried: list[tuple[DueDelivery, dict[str, Any]]] = [
        (due(one), {"attempts": 1, "next_attempt_at": 10 + number, "is_retry": True})
        for number, one in enumerate(ids[:5])
    ]
    well = [(due(one), {"state": "succeeded", "finished_at": 7}) for one in ids[5:10]]
    with noted("UPDATE") as found, writing() as session:
        recording.update_deliveries(session, [*retried, *well])
        assert batches.update(session, "pending", ids[10:15], {"next_attempt_at": 3}) == 5
    assert len(found) == 3, "retries are one statement for the driver, though each has its time"
    for statement, parameters in found:
        steps = plan(statement, parameters)
        assert not [step for step in scans(steps) if "VIRTUAL TABLE" not in step], steps
        assert not any("ix_delivery" in step for step in steps), steps
    assert db.session.scalars(
        sa.select(Delivery.next_attempt_at)
        .where(Delivery.id.in_(ids[:5]))
        .order_by(Delivery.next_attempt_at)
    ).all() == [10, 11, 12, 13, 14]
