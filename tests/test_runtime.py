"""What a process remembers is its application's alone."""

from __future__ import annotations

from dataclasses import replace

from flask import Flask
from flask.testing import FlaskClient

from portal import create_app, runtime
from portal.audit import chain, log
from portal.db.session import db, writing
from portal.models import AuditEntry


def test_what_one_application_has_counted_another_does_not_know(
    app: Flask, client: FlaskClient, api_key: str
):
    config = app.config["PORTAL"] = replace(app.config["PORTAL"], api_requests=1)
    headers = {"Authorization": f"Bearer {api_key}"}
    # Three, for a second may end between two of them.
    told = [client.get("/api/v1/webhooks", headers=headers).status_code for _ in range(3)]
    assert 429 in told
    other = create_app(config)
    assert other.test_client().get("/api/v1/webhooks", headers=headers).status_code == 200
    with other.app_context():
        db.engine.dispose()


def test_a_part_that_is_put_into_the_runtime_is_the_one_that_is_found(app: Flask):
    class Part:
        pass

    class Special(Part):
        pass

    special = Special()
    runtime.of(app).put(Part, special)
    assert runtime.part(Part) is special


def test_an_entry_is_chained_once_however_many_applications_were_made(app: Flask):
    before = chain.verify().entries
    create_app(app.config["PORTAL"])
    with writing() as session:
        log.record(session, "cli", "one.thing")
    found = chain.verify()
    assert (found.entries, found.broken) == (before + 1, None)
    assert db.session.query(AuditEntry).filter_by(action="one.thing").count() == 1
