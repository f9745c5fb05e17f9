"""The audit log costs the same to read however long it is, and says how far it looked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal.audit import log as audit_log
from portal.clock import SECOND, now
from portal.db import keyset
from portal.db.session import db, table
from portal.models import AuditEntry, Merchant
from tests import factories
from tests.conftest import on_both_databases

LENGTH = 3_000
LOOKED = 100
START = now() - LENGTH * SECOND
ACTIONS = ("user.signed_in", "user.signed_out", "webhook.updated")
RARE = (40, 2_500)
"""Places in the log, the oldest first, of what was done by who did little."""


@pytest.fixture
def log(merchant: Merchant, monkeypatch: pytest.MonkeyPatch) -> Merchant:
    """A log of LENGTH entries, a second apart, of two merchants; whose other merchant it is."""
    monkeypatch.setattr(keyset, "LOOKED_THROUGH", LOOKED)
    other = factories.make_merchant("bob")
    db.session.execute(
        sa.insert(table(AuditEntry)),
        [
            {
                "at": START + n * SECOND,
                "merchant_id": (merchant.id, other.id)[n % 2],
                "actor": "user:rare@example.com" if n in RARE else "user:often@example.com",
                "action": "merchant.created" if n in RARE else ACTIONS[n % 3],
                "target": "",
                "detail": {},
            }
            for n in range(LENGTH)
        ],
    )
    db.session.commit()
    db.session.execute(sa.text("ANALYZE"))
    db.session.commit()
    return other


def places(rows: list[tuple[AuditEntry, str | None]]) -> list[int]:
    return [(entry.at - START) // SECOND for entry, _slug in rows]


FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "merchant": {"merchant": "alice"},
    "no such merchant": {"merchant": "carol"},
    "action": {"action": "webhook.updated"},
    "rare action": {"action": "merchant.created"},
    "start of actions": {"action": "user."},
    "no such action": {"action": "nothing"},
    "actor": {"actor": "rare@"},
    "no such actor": {"actor": "nobody@"},
    "times": {"since": START + 100 * SECOND, "before": START + 2_000 * SECOND},
    "all": {
        "merchant": "alice",
        "actor": "rare",
        "action": "user.",
        "since": START,
        "before": START + 2_000 * SECOND,
    },
    "merchant and action": {"merchant": "alice", "action": "merchant.created"},
}


@on_both_databases
@pytest.mark.parametrize("chosen", FILTERS.values(), ids=FILTERS)
def test_a_page_looks_at_no_more_than_its_part_of_the_log(log: Merchant, chosen: dict[str, Any]):
    def page() -> None:
        audit_log.entries(limit=10, **chosen)

    for statement, parameters in statements_of(page):
        assert_bounded(statement, parameters)


@on_both_databases
def test_so_does_each_part_of_a_file(log: Merchant, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keyset, "BATCH", 10)

    def parts() -> None:
        for number, _part in enumerate(audit_log.every_entry(actor="rare@", merchant="alice")):
            assert number < 20

    for statement, parameters in statements_of(parts):
        assert_bounded(statement, parameters)


@on_both_databases
def test_the_actions_are_found_without_reading_the_log(log: Merchant):
    found: list[str] = []
    (only,) = statements_of(lambda: found.extend(audit_log.actions()))
    assert found == sorted(["merchant.created", *ACTIONS])
    assert_bounded(*only)


@on_both_databases
def test_page_after_page_finds_all_that_somebody_did(log: Merchant):
    found: list[int] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        page = audit_log.entries(cursor, actor="rare@")
        assert (page.looked_back_to is None) == (page.next_cursor is None)
        found += places(list(page.rows))
        cursor, pages = page.next_cursor, pages + 1
    assert found == [2_500, 40]
    assert pages == LENGTH // LOOKED


@on_both_databases
def test_filters_find_together_what_each_finds(log: Merchant):
    first = audit_log.entries(merchant="bob", action="user.", since=START + 2_990 * SECOND)
    assert places(list(first.rows)) == [2_997, 2_995, 2_991]
    assert {slug for _entry, slug in first.rows} == {"bob"}
    both = audit_log.entries(merchant="alice", action="merchant.created")
    assert places(list(both.rows)) == [2_500, 40]
    assert both.looked_back_to is None
    assert not audit_log.entries(merchant="bob", action="merchant.created").rows


@on_both_databases
def test_a_file_is_complete_however_far_apart_its_rows_are(
    log: Merchant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keyset, "BATCH", 10)
    rows = [row for part in audit_log.every_entry(actor="rare@") for row in part]
    assert [row["merchant"] for row in rows] == ["alice", "alice"]
    assert rows[0]["time"] > rows[1]["time"]
    assert sum(len(part) for part in audit_log.every_entry()) == LENGTH
    assert sum(len(part) for part in audit_log.every_entry(actor="often@")) == LENGTH - len(RARE)


def test_the_page_says_how_far_it_looked_and_goes_on(
    signed_in: Callable[[str], FlaskClient], log: Merchant
):
    client = signed_in("auditor")
    page = client.get("/staff/audit?actor=rare@").text
    assert "Looked back to" in page
    assert "found nothing so far" in page
    assert "Nothing fits" not in page
    address = "/staff/audit?actor=rare@"
    for _ in range(10):
        (onward,) = [part.partition('"')[0] for part in page.split('<a rel="next" href="')[1:]][:1]
        address = onward.replace("&amp;", "&")
        page = client.get(address).text
        if "user:rare@example.com" in page:
            break
    assert "merchant.created</code>" in page
    assert "Looked back to" in page


def test_a_cursor_that_the_portal_did_not_make_is_refused(
    signed_in: Callable[[str], FlaskClient], log: Merchant
):
    assert signed_in("auditor").get("/staff/audit?cursor=7").status_code == 400


def statements_of(run: Callable[[], object]) -> list[tuple[str, Any]]:
    """What is asked of the audit log while `run` runs, with its parameters."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if "audit_entry" in statement:
            asked.append((statement, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        run()
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)
    assert asked
    return asked


def assert_bounded(statement: str, parameters: Any) -> None:
    connection = db.session.connection()
    if connection.dialect.name == "sqlite":
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        for step in plan.mappings():
            # In the order of an index, a scan ends at the page's end; nothing is sorted first.
            detail = step["detail"]
            if detail.startswith("SCAN audit_entry"):
                assert "INDEX ix_audit_entry_read" in detail, statement
                assert "LIMIT" in statement, statement
        return
    (plan,) = connection.exec_driver_sql(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters
    ).scalars()
    # A merchant who has half of the log may be found by time alone: every second row is theirs.
    assert _most_rows(plan[0]["Plan"]) <= 2 * (LOOKED + 1), (statement, plan)


def _most_rows(plan: dict[str, Any]) -> float:
    if plan["Node Type"] == "Bitmap Index Scan":
        return 0  # It counts rows of tests before this one too, which are not there any more.
    seen = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return max([seen * plan["Actual Loops"], *map(_most_rows, plan.get("Plans", []))])
