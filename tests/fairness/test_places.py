"""What takes long has so many places in a process, and one merchant a part of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.db.session import db
from portal.delivery import actions
from portal.errors import TooManyRequests
from portal.fairness.places import (
    DOWNLOAD,
    PAGE,
    PAGE_OF_USER,
    SEARCH,
    TAIL,
    TEMPLATE,
    TEST,
    Places,
)
from portal.models import Merchant, User, Webhook
from portal.people import sessions
from portal.views import exports
from tests.factories import make_event, make_merchant, make_webhook
from tests.receiver import Receiver


@pytest.mark.parametrize(
    ("threads", "kind", "in_all", "each"),
    [
        (8, DOWNLOAD, 4, 2),
        (8, TAIL, 2, 1),
        (8, TEST, 2, 1),
        (1, DOWNLOAD, 1, 1),
        (1, TAIL, 0, 0),
        (1, TEST, 1, 1),
        (40, TEST, 10, 5),
        (8, SEARCH, 2, 1),
        (1, SEARCH, 1, 1),
        (8, PAGE, 8, 6),
        (1, PAGE, 1, 1),
        (2, PAGE_OF_USER, 2, 1),
    ],
)
def test_one_merchant_has_half_of_them_and_of_pages_three_quarters(
    threads: int, kind: str, in_all: int, each: int
) -> None:
    def room(places: Places, *merchants: int | None) -> int:
        count = 0
        for merchant_id in merchants:
            try:
                places.take(kind, merchant_id)
            except TooManyRequests:
                continue
            count += 1
        return count

    places = Places(threads)
    assert room(places, *[7] * 50) == each
    assert room(places, *range(100, 150)) == in_all - each
    for _ in range(each):
        places.give_back(kind, 7)
    assert room(places, *[None] * 50) == each, "staff may have all of them"
    assert room(Places(threads), *[None] * 50) == in_all


def test_many_threads_take_no_more_than_there_are() -> None:
    places = Places(40)
    most, now, lock = 0, 0, threading.Lock()

    def work(number: int) -> None:
        nonlocal most, now
        for _ in range(200):
            try:
                places.take(TEST, number)
            except TooManyRequests:
                continue
            with lock:
                now += 1
                most = max(most, now)
            with lock:
                now -= 1
            places.give_back(TEST, number)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    assert 0 < most <= 10
    assert not places._taken


def test_who_has_none_waits_for_one_that_others_have_and_goes_before_them() -> None:
    places = Places(8)
    for other in (1, 2):
        places.take(TEMPLATE, other)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(places.take, TEMPLATE, 3, 60.0)
        while not places._waiting[TEMPLATE]:
            time.sleep(0.01)
        # One waits for each merchant, and none for one that has its own share.
        for merchant_id in (1, 3):
            with pytest.raises(TooManyRequests):
                places.take(TEMPLATE, merchant_id, 60.0)
        places.give_back(TEMPLATE, 1)
        # Who asks again at once, as a loop does, does not get before it.
        with pytest.raises(TooManyRequests):
            places.take(TEMPLATE, 1)
        waiting.result(60)
    with pytest.raises(TooManyRequests):
        places.take(TEMPLATE, 4, 0.01)
    places.give_back(TEMPLATE, 2)
    places.take(TEMPLATE, 4)


class TestTests:
    """Tests of webhooks whose receivers hang."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"WEB_THREADS": "8"}

    def test_those_of_one_merchant_leave_places_to_another(
        self, app: Flask, merchant: Merchant, receiver: Receiver
    ) -> None:
        bob = make_merchant("bob")
        receiver.delay = 1.0
        hooks = [make_webhook(merchant, receiver.url()).id for _ in range(6)]
        other = make_webhook(bob, receiver.url()).id

        def test(webhook_id: str) -> str:
            with app.app_context():
                try:
                    webhook = db.session.get_one(Webhook, webhook_id)
                    return str(
                        actions.send_test(
                            webhook.merchant_id, webhook.id, "order.created", "test"
                        ).status
                    )
                except TooManyRequests as error:
                    return error.detail

        with ThreadPoolExecutor(8) as threads:
            own = [threads.submit(test, one) for one in hooks]
            answers = [threads.submit(test, other)]
            told = [one.result() for one in own]
        assert told.count("200") == 1
        assert sum("wait for their receivers" in one for one in told) == 5
        assert answers[0].result() == "200"


def test_a_download_ends_with_the_sign_in_and_is_not_whole(
    app: Flask,
    merchant: Merchant,
    signed_in: Callable[[str], FlaskClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("portal.db.keyset.BATCH", 3)
    for _ in range(10):
        make_event(merchant)
    client = signed_in("viewer")
    whole = client.get("/m/alice/export/events.jsonl", buffered=True)
    assert len(whole.text.splitlines()) == 10
    parts = iter(client.get("/m/alice/export/events.jsonl").response)
    next(parts)
    db.session.rollback()
    user = db.session.scalars(db.select(User)).one()
    for one in sessions.sessions(user):
        db.session.delete(one)
    db.session.commit()
    with pytest.raises(exports.Forbidden):
        list(parts)
