"""SQLite's write-ahead log stays short, whoever reads, and what was committed is on the disk."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import create_app, jobs
from portal.composing.cells import cells
from portal.config import load_config
from portal.db import room, wal
from portal.db.session import db
from portal.errors import Unavailable
from portal.models import Merchant
from portal.webhooks import checking, setup
from tests.conftest import on_both_databases
from tests.factories import make_event


@pytest.fixture
def reader(app: Flask) -> Iterator[Callable[[], sqlite3.Connection]]:
    """Begins to read, as another program may."""
    with contextlib.ExitStack() as opened:

        def begin() -> sqlite3.Connection:
            found = opened.enter_context(
                contextlib.closing(
                    sqlite3.connect(str(db.engine.url.database), isolation_level=None)
                )
            )
            found.execute("BEGIN")
            found.execute("SELECT count(*) FROM event").fetchone()
            return found

        yield begin


def test_a_commit_waits_for_the_disk(environment: dict[str, str], empty_sqlite: Path):
    """Of the `app` of other tests it does not, which would take most of their time."""
    shutil.copyfile(empty_sqlite, environment["PORTAL_DATABASE_URL"].removeprefix("sqlite:///"))
    with create_app(load_config(environment)).app_context():
        assert db.session.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert db.session.scalar(sa.text("PRAGMA synchronous")) == 2, "FULL"
        db.session.remove()
        db.engine.dispose()


def grow(merchant: Merchant, events: int = 40) -> None:
    for _ in range(events):
        make_event(merchant, data='{"a":"%s"}' % ("x" * 20_000))


def test_a_log_that_overlapping_reads_have_let_grow_is_emptied(
    merchant: Merchant,
    reader: Callable[[], sqlite3.Connection],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(wal, "LONG_BYTES", 500_000)
    monkeypatch.setattr(wal, "WAIT_MS", 50)
    one = reader()
    grow(merchant)
    other = reader()
    one.execute("COMMIT")
    grow(merchant)
    db.session.rollback()
    assert (wal.size() or 0) > 500_000
    with caplog.at_level(logging.WARNING):
        jobs.measure()
    assert "cannot be emptied" in caplog.text
    other.execute("COMMIT")
    jobs.measure()
    assert (wal.size() or 0) < 500_000
    grow(merchant, 1)


def test_what_the_log_holds_is_no_free_room(
    app: Flask,
    merchant: Merchant,
    reader: Callable[[], sqlite3.Connection],
    monkeypatch: pytest.MonkeyPatch,
):
    config = replace(app.config["PORTAL"], disk_free_mb=50)

    class Free:
        f_bavail, f_frsize = config.disk_free_mb + 1, room.MB

    monkeypatch.setattr(room.os, "statvfs", lambda _: Free)
    wal.shorten()
    room.check(config)
    reader()
    grow(merchant, 60)
    with pytest.raises(Unavailable, match="nearly full"):
        room.check(config)


@on_both_databases
def test_no_snapshot_is_open_while_a_name_is_looked_up_or_a_template_filled(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    is_open: list[bool] = []
    fill = cells.fill

    def look_up(_host: str, _merchant_id: int) -> list[Any]:
        is_open.append(db.session.registry().in_transaction())
        return []

    def note(*given: Any, **more: Any) -> Any:
        is_open.append(db.session.registry().in_transaction())
        return fill(*given, **more)

    monkeypatch.setattr(checking, "addresses_of", look_up)
    monkeypatch.setattr(cells, "fill", note)
    fields = {
        "url": "https://erp.example.com/hook",
        "events": ["order.*"],
        "description": "ERP",
        "body_template": "{{ event.id }}",
    }
    webhook = setup.create_webhook(merchant.id, fields, "a test")
    setup.update_webhook(
        webhook.merchant_id, webhook.id, {"url": "https://erp.example.com/other"}, "a test"
    )
    assert checking.url_problem("https://erp.example.com/", merchant.id) is None
    assert checking.preview(merchant.id, fields, webhook).body
    assert len(is_open) >= 5
    assert not any(is_open)
