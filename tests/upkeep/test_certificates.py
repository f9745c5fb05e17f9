"""Certificates that end: seen at the target, told of in time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal import queues
from portal.clock import DAY, now
from portal.counts import attention
from portal.db.session import db
from portal.models import Merchant, Notice, Webhook
from portal.notices import notices
from portal.upkeep import certificates
from portal.webhooks import setup
from tests.certificates import Authority
from tests.conftest import on_both_databases
from tests.factories import make_webhook
from tests.raw_receiver import OK, RawReceiver, says


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The one authority that the portal trusts in this test."""
    authority = Authority(tmp_path)
    monkeypatch.setattr("certifi.where", lambda: str(authority.path))
    return authority


@pytest.fixture
def target(authority: Authority) -> Iterator[Callable[..., RawReceiver]]:
    """Starts a target with a certificate that ends in `days`."""
    started: list[RawReceiver] = []

    def start(**of_server: float) -> RawReceiver:
        started.append(RawReceiver(says(OK), authority.server(**of_server)))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for receiver in started:
        receiver.close()


def again(webhook: Webhook) -> Webhook:
    db.session.rollback()
    db.session.refresh(webhook)
    return webhook


def kinds(merchant: Merchant, webhook: Webhook) -> list[str]:
    return [one.kind for one in attention.concerns(merchant.id, {webhook.id: webhook}, {})]


@on_both_databases
def test_an_end_is_seen_without_sending_anything_and_told_once(merchant: Merchant, target):
    soon, later = target(days=10), target(days=60)
    near = make_webhook(merchant, f"https://127.0.0.1:{soon.port}/hook?x=1")
    same = make_webhook(merchant, f"https://127.0.0.1:{soon.port}?y", description="same server")
    far = make_webhook(merchant, f"https://127.0.0.1:{later.port}/")
    make_webhook(merchant, f"http://127.0.0.1:{soon.port}/", description="not TLS")
    make_webhook(merchant, f"https://127.0.0.1:{soon.port}/", description="off", enabled=False)
    before = near.updated_at
    assert certificates.check_all() == 3
    for webhook, days in ((near, 10), (same, 10), (far, 60)):
        ends_at = again(webhook).certificate_ends_at
        assert ends_at is not None
        assert abs(ends_at - now() - days * DAY) < DAY / 100
    assert near.updated_at == before, "its settings are what they were"
    assert [request for request in soon.requests if request] == []
    assert certificates.check_all() == 0, "once a day is enough"

    assert kinds(merchant, near) == ["certificate"]
    assert kinds(merchant, far) == []
    assert notices.warn_of_certificates() == 2
    assert notices.warn_of_certificates() == 0
    told = db.session.scalars(sa.select(Notice).where(Notice.webhook_id == near.id)).all()
    assert ["ends on" in notice.message for notice in told] == [True]


def test_one_that_has_ended_is_told_of_too(
    merchant: Merchant, target, signed_in: Callable[..., FlaskClient]
):
    webhook = make_webhook(merchant, f"https://127.0.0.1:{target(days=-1).port}/")
    certificates.check_all()
    assert again(webhook).certificate_ends_at is not None
    assert kinds(merchant, webhook) == ["certificate"]
    viewer = signed_in("viewer")
    page = viewer.get("/m/alice/").text
    assert "certificate ends" in page
    assert "nothing can be delivered" in page
    assert "Target’s certificate" in viewer.get(f"/m/alice/webhooks/{webhook.id}").text


def test_one_that_is_over_ended_when_it_was_first_seen(
    merchant: Merchant, target, monkeypatch: pytest.MonkeyPatch
):
    webhook = make_webhook(merchant, f"https://127.0.0.1:{target(days=-1).port}/")
    certificates.check_all()
    first = again(webhook).certificate_ends_at
    monkeypatch.setattr(certificates, "EVERY", 0)
    assert certificates.check_all() == 1
    assert again(webhook).certificate_ends_at == first is not None


def test_two_that_end_are_two_things_to_know(merchant: Merchant):
    soon = now() + 3 * DAY
    webhook = make_webhook(merchant, certificate_ends_at=soon, client_certificate_ends_at=soon)
    assert notices.warn_of_certificates() == 2
    assert notices.warn_of_certificates() == 0
    told = db.session.scalars(
        sa.select(Notice).where(Notice.webhook_id == webhook.id, Notice.dismissed_at.is_(None))
    ).all()
    assert {notice.kind for notice in told} == {"certificate", "client_certificate"}


def test_a_target_that_does_not_answer_keeps_what_was_known(
    merchant: Merchant, target, monkeypatch: pytest.MonkeyPatch
):
    receiver = target(days=10)
    webhook = make_webhook(merchant, f"https://127.0.0.1:{receiver.port}/")
    certificates.check_all()
    known = again(webhook).certificate_ends_at
    receiver.close()
    monkeypatch.setattr(certificates, "EVERY", 0)
    assert certificates.check_all() == 1
    assert again(webhook).certificate_ends_at == known is not None


def test_many_targets_that_hang_are_looked_at_in_turns(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    """Each turn holds the worker for the time of one target, and queues the next."""
    monkeypatch.setattr(certificates, "BATCH", 4)
    monkeypatch.setattr(certificates, "SECONDS", 0.5)
    # It takes connections, and says nothing.
    with socket.create_server(("127.0.0.1", 0), backlog=20) as listener:
        for number in range(9):
            make_webhook(merchant, f"https://127.0.0.1:{listener.getsockname()[1]}/{number}")
        turns = []
        for _ in range(3):
            started = time.monotonic()
            turns.append(certificates.check_all())
            assert time.monotonic() - started < 2
    assert turns == [4, 4, 1]
    jobs = queues.queue_of(queues.MAINTENANCE).get_jobs()
    assert [job.func_name for job in jobs] == [queues.LOOK_AT_CERTIFICATES], "one waits at a time"


def test_an_address_inside_is_not_looked_at(merchant: Merchant, target):
    receiver = target(days=10)
    webhook = make_webhook(merchant, f"https://127.0.0.2:{receiver.port}/")
    assert certificates.check_all() == 1
    assert again(webhook).certificate_ends_at is None


def test_the_end_of_a_client_certificate_is_known_from_the_start(
    merchant: Merchant, authority: Authority
):
    chain, key = authority.issue("north", days=3)
    auth = {"type": "certificate", "certificate": chain, "key": key}
    webhook = setup.create_webhook(
        merchant.id, {"url": "https://8.8.8.8/", "events": ["*"], "auth": auth}, "test"
    )
    assert kinds(merchant, webhook) == ["certificate"]
    assert notices.warn_of_certificates() == 1
    chain, key = authority.issue("north", days=300)
    setup.update_webhook(
        webhook.merchant_id,
        webhook.id,
        {"auth": auth | {"certificate": chain, "key": key}},
        "test",
        webhook.version,
    )
    assert kinds(merchant, again(webhook)) == []


def test_another_server_has_another_certificate(merchant: Merchant):
    webhook = make_webhook(
        merchant, "https://8.8.8.8/a", certificate_ends_at=now(), certificate_checked_at=now()
    )
    setup.update_webhook(
        webhook.merchant_id, webhook.id, {"url": "https://8.8.8.8/b"}, "test", webhook.version
    )
    assert again(webhook).certificate_ends_at is not None
    setup.update_webhook(
        webhook.merchant_id, webhook.id, {"url": "https://8.8.4.4/b"}, "test", webhook.version
    )
    assert again(webhook).certificate_ends_at is None
