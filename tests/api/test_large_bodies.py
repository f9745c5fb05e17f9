"""Bodies of many events: what was read of them takes many times their size of memory."""

from __future__ import annotations

import json

import pytest
from flask import Flask

from portal.api.reading import MAX_BODY
from portal.db.session import db
from portal.events import ingest
from portal.events.ingest import Accepted
from portal.fairness import courtesy, places
from portal.models import Merchant
from tests.api.caller import Caller, problem
from tests.api.conftest import ORDER
from tests.breathing import Breathing


def test_of_one_store_one_large_body_is_read_at_a_time_and_small_ones_always(
    app: Flask, api: Caller, bobs: Caller, alice: Merchant
) -> None:
    large = json.dumps({"events": [ORDER] * 2}).encode().ljust(MAX_BODY + 1)
    # One of that store is being read.
    with app.app_context(), places.held(places.BODY, alice.id):
        refused = problem(api.send("POST", "/events", large), 429)
        assert "being read" in refused["detail"]
        assert api.post("/events", ORDER).status_code == 202
        assert bobs.send("POST", "/events", large).status_code == 202
    assert api.send("POST", "/events", large).status_code == 202


def test_others_go_first_while_a_large_batch_is_read_and_checked(app: Flask, api: Caller) -> None:
    # A type of its own is looked up in the database.
    assert api.post("/event-types", {"name": "loyalty.earned"}).status_code == 201
    event = {"type": "loyalty.earned", "data": {"text": "x" * 900_000}}
    batch = json.dumps({"events": [event] * 17}).encode()
    breaths: list[bool] = []
    is_stored: list[bool] = []

    def store(*_: object) -> list[Accepted]:
        is_stored.append(True)
        return [Accepted("evt_1", 0)] * 17

    courtesy.do(Breathing(lambda: breaths.append(db.session.registry().in_transaction())))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ingest, "_stored", store)
            assert api.send("POST", "/events", batch).status_code == 202
    finally:
        courtesy.do(None)
    assert is_stored
    # Each event once when it is read, checked, and told from others.
    assert len(breaths) >= 3 * 17
    assert not any(breaths)


def test_others_go_first_between_long_checks_of_schemas(app: Flask, api: Caller) -> None:
    schema = {"properties": {"a": {"items": {"allOf": [{}] * 300}}}}
    fields = {"name": "loyalty.earned", "schema": schema}
    assert api.post("/event-types", fields).status_code == 201
    event = {"type": "loyalty.earned", "data": {"a": [1] * 10_000}}
    breaths: list[bool] = []
    courtesy.do(Breathing(lambda: breaths.append(db.session.registry().in_transaction())))
    try:
        assert api.post("/events", {"events": [event] * 4}).status_code == 202
    finally:
        courtesy.do(None)
    assert len(breaths) >= 4
    assert not any(breaths)


def test_who_reads_a_large_batch_rests_for_two_seconds_at_most() -> None:
    rests: list[None] = []
    courtesy.do(Breathing(lambda: rests.append(None), rests=0.5))
    try:
        pace = courtesy.Pace()
        for _ in range(100):
            pace.done(courtesy.STRETCH // 2)
    finally:
        courtesy.do(None)
    assert len(rests) == 4
