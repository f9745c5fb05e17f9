"""How many requests a key may make, and how many wrong keys an address may try."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flask import Flask

from portal import runtime
from portal.api import events, limits
from portal.api.limits import Limits, Window
from portal.errors import Unavailable
from portal.fairness import courtesy
from portal.models import Merchant
from portal.people import accounts
from portal.web import access
from portal.web.extensions import SITE_TIMES
from tests.api.caller import Caller, problem
from tests.api.conftest import ORDER
from tests.factories import make_merchant, make_webhook


@pytest.fixture
def settings() -> dict[str, str]:
    return {"API_REQUESTS": "3", "API_WRONG_KEYS": "2"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the limits, which stands still until the test sets it."""
    now = [1_000.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    return now


def test_a_key_is_told_how_many_requests_are_left_and_then_to_wait(
    api: Caller, clock: list[float]
) -> None:
    for left in (2, 1, 0):
        answer = api.post("/events", ORDER)
        assert answer.status_code == 202
        assert answer.headers["RateLimit-Policy"] == '"key";q=3;w=1'
        assert answer.headers["RateLimit"] == f'"key";r={left};t=1'
    refused = api.post("/events", ORDER)
    problem(refused, 429)
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["RateLimit"] == '"key";r=0;t=1'
    clock[0] += 1
    assert api.post("/events", ORDER).status_code == 202


def test_one_key_does_not_use_up_another(
    api: Caller, reader: Caller, bobs: Caller, clock: list[float]
) -> None:
    for _ in range(4):
        answer = api.get("/webhooks")
    assert answer.status_code == 429
    assert reader.get("/webhooks").status_code == 200
    assert bobs.get("/webhooks").status_code == 200


def test_refusals_carry_the_limits_too(api: Caller, clock: list[float]) -> None:
    answer = api.get("/webhooks/wh_nothing")
    problem(answer, 404)
    assert answer.headers["RateLimit"] == '"key";r=2;t=1'


def test_wrong_keys_from_an_address_are_soon_looked_up_no_more(
    app: Flask, api: Caller, alice: Merchant, clock: list[float]
) -> None:
    assert api.get("/webhooks").status_code == 200
    for key in ("whp_1", "whp_2"):
        problem(Caller(app.test_client(), key).get("/webhooks"), 401)
    refused = Caller(app.test_client(), "whp_3").get("/webhooks")
    problem(refused, 429)
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    # Who was known before is not locked out, and others are elsewhere.
    assert api.get("/webhooks").status_code == 200
    elsewhere = app.test_client().get(
        "/api/v1/webhooks",
        headers={"Authorization": "Bearer whp_4"},
        environ_base={"REMOTE_ADDR": "203.0.113.9"},
    )
    assert elsewhere.status_code == 401
    fresh = Caller(app.test_client(), accounts.create_key(alice, "read", "", "cli"))
    problem(fresh.get("/webhooks"), 429)
    clock[0] += 60
    assert fresh.get("/webhooks").status_code == 200


def test_a_key_that_was_revoked_is_a_wrong_one_from_then_on(
    app: Flask, alice: Merchant, clock: list[float]
) -> None:
    text = accounts.create_key(alice, "write", "", "cli")
    caller = Caller(app.test_client(), text)
    assert caller.get("/webhooks").status_code == 200
    assert caller.post("/events", ORDER).status_code == 202
    accounts.revoke_key(alice, accounts.keys(alice)[0].id, "cli")
    clock[0] += 1
    statuses = [caller.post("/events", ORDER).status_code for _ in range(4)]
    assert statuses == [401, 401, 429, 429]


def test_whose_a_key_is_is_found_once_it_was_looked_at(app: Flask, alice: Merchant) -> None:
    class Work:
        whose: str | None = None

    text = accounts.create_key(alice, "write", "", "cli")
    found = []
    for header in (f"Bearer {text}", "Bearer whp_unknown", ""):
        courtesy.do(work := Work())  # type: ignore[arg-type]
        access.key_of(header)
        found.append(work.whose)
    courtesy.do(None)
    assert found == [f"merchant {alice.id}", courtesy.NOBODYS, None]


def test_an_ipv6_host_cannot_hide_among_its_addresses(app: Flask, clock: list[float]) -> None:
    def status(address: str) -> int:
        return (
            app.test_client()
            .get(
                "/api/v1/webhooks",
                headers={"Authorization": "Bearer whp_1"},
                environ_base={"REMOTE_ADDR": address},
            )
            .status_code
        )

    statuses = [status(f"2001:db8:0:1::{number}") for number in range(3)]
    assert statuses == [401, 401, 429]
    assert status("2001:db8:0:2::1") == 401


def test_an_ipv6_site_cannot_hide_among_its_networks(app: Flask, clock: list[float]) -> None:
    def status(address: str) -> int:
        return (
            app.test_client()
            .get(
                "/api/v1/webhooks",
                headers={"Authorization": "Bearer whp_1"},
                environ_base={"REMOTE_ADDR": address},
            )
            .status_code
        )

    statuses = [status(f"2001:db8:1:{number}::1") for number in range(10)]
    assert statuses == [401] * 2 * SITE_TIMES + [429] * 2
    assert status("2001:db8:2::1") == 401
    clock[0] += 60
    assert status("2001:db8:1::1") == 401


def test_pages_do_not_count_and_are_not_refused(app: Flask, clock: list[float]) -> None:
    for _ in range(3):
        app.test_client().get("/api/v1/webhooks")
    assert app.test_client().get("/sign-in").status_code == 200
    assert app.test_client().get("/api/docs").status_code == 200


@pytest.mark.parametrize("settings", [{"API_REQUESTS": "0", "API_WRONG_KEYS": "0"}])
def test_a_limit_of_0_is_none(
    settings: dict[str, str], api: Caller, stranger: Caller, clock: list[float]
) -> None:
    for _ in range(40):
        problem(stranger.get("/webhooks"), 401)
        answer = api.get("/webhooks")
    assert answer.status_code == 200
    assert "RateLimit" not in answer.headers


def test_memory_is_bounded_however_many_addresses_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MOST_NAMES", 100)
    window = Window(60)
    for number in range(1_000):
        window.add(str(number), 5.0)
    assert len(window._counts) <= 101


def test_a_window_says_when_it_ends() -> None:
    window = Window(60)
    assert [window.left(clock) for clock in (0.0, 0.5, 59.5, 60.0)] == [60, 60, 1, 60]


@pytest.mark.usefixtures("clock")
class TestEvents:
    """How many events and deliveries a merchant may bring about."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"API_EVENTS": "10", "API_DELIVERIES": "20"}

    def test_a_batch_of_any_size_is_taken_and_the_next_waits_until_it_is_paid_off(
        self, api: Caller, clock: list[float]
    ) -> None:
        assert api.post("/events", {"events": [ORDER] * 45}).status_code == 202
        refused = api.post("/events", ORDER)
        problem(refused, 429)
        assert refused.headers["Retry-After"] == "4"
        assert "more than 10 events a second" in refused.json["detail"]
        assert api.get("/events").status_code == 200, "it is events that are too many"
        clock[0] += 3.6
        assert api.post("/events", ORDER).status_code == 202

    def test_what_is_refused_as_no_batch_counts_as_a_batch_at_most(
        self, api: Caller, clock: list[float]
    ) -> None:
        problem(api.post("/events", {"events": [{}] * 100_000}), 422)
        clock[0] += 100.0
        assert api.post("/events", ORDER).status_code == 202

    def test_many_small_requests_are_counted_together(
        self, api: Caller, clock: list[float]
    ) -> None:
        answers = [api.post("/events", ORDER).status_code for _ in range(12)]
        assert answers == [202] * 11 + [429]
        clock[0] += 10.0
        answers = [api.post("/events", ORDER).status_code for _ in range(12)]
        assert answers == [202] * 11 + [429], "no more is saved up than a second's"

    def test_long_records_count_as_many_and_are_refused_unread(self, api: Caller) -> None:
        long = ORDER | {"data": {"text": "x" * 409_600}}
        assert api.post("/events", long).status_code == 202
        refused = api.post("/events", ORDER)
        problem(refused, 429)
        assert refused.headers["Retry-After"] == "10"

    def test_the_deliveries_that_events_owe_are_counted(self, api: Caller, alice: Merchant) -> None:
        for _ in range(8):
            make_webhook(alice)
        assert api.post("/events", {"events": [ORDER] * 9}).status_code == 202
        refused = api.post("/events", ORDER)
        problem(refused, 429)
        assert "have owed more than 20 deliveries a second" in refused.json["detail"]
        assert refused.headers["Retry-After"] == "3"

    def test_deliveries_are_counted_before_they_are_stored_and_what_is_refused_owes_none(
        self, api: Caller, alice: Merchant, clock: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(8):
            make_webhook(alice)
        assert api.post("/events", ORDER).status_code == 202
        clock[0] += 1.0
        owed: list[float] = []

        def away(merchant_id: int, *_: object, **__: object) -> None:
            owed.append(runtime.part(Limits).deliveries.seconds(merchant_id, 20, clock[0]))
            raise Unavailable("The database is away.")

        monkeypatch.setattr(events, "ingest_events", away)
        for _ in range(2):
            assert api.post("/events", {"events": [ORDER] * 9}).status_code == 503
        assert owed == [(9 * 8 - 20) / 20] * 2

    def test_what_comes_again_owes_nothing_new_and_does_not_count_again(
        self, api: Caller, alice: Merchant, clock: list[float]
    ) -> None:
        for _ in range(8):
            make_webhook(alice)
        batch = {"events": [ORDER | {"id": f"mine-{number}"} for number in (1, 2, 2)]}
        first = api.post("/events", batch)
        assert first.status_code == 202
        for _ in range(5):
            clock[0] += 1.0
            again = api.post("/events", batch)
            assert (again.status_code, again.json) == (202, first.json)
        assert api.post("/events", ORDER).status_code == 202
        keyed = {"Idempotency-Key": "once"}
        for _ in range(5):
            clock[0] += 1.0
            assert api.call("POST", "/events", json=ORDER, headers=keyed).status_code == 202
        clock[0] += 1.0
        assert api.post("/events", {"events": [ORDER] * 5}).status_code == 202
        assert api.post("/events", ORDER).status_code == 429

    def test_another_merchant_is_not_meant(self, api: Caller, app: Flask) -> None:
        bob = make_merchant("bob")
        key = accounts.create_key(bob, "write", "bob", "test")
        assert api.post("/events", {"events": [ORDER] * 100}).status_code == 202
        assert api.post("/events", ORDER).status_code == 429
        header = {"Authorization": f"Bearer {key}"}
        answer = app.test_client().post("/api/v1/events", json=ORDER, headers=header)
        assert answer.status_code == 202


def test_no_number_is_no_limit(api: Caller, app: Flask) -> None:
    config = app.config["PORTAL"]
    app.config["PORTAL"] = replace(config, api_requests=0, api_events=0, api_deliveries=0)
    for _ in range(3):
        assert api.post("/events", {"events": [ORDER] * 1_000}).status_code == 202
