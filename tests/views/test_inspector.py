"""The inspector: who has no target sends to it and sees what came; nobody else does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.serving import make_server

from portal import signing
from portal.clock import DAY, now
from portal.db.session import db
from portal.delivery import actions
from portal.diagnosis import inspector
from portal.errors import Invalid, NotFound
from portal.models import InspectedRequest, Inspector, Merchant, Webhook
from portal.signing import Signer
from portal.upkeep import retention
from portal.views import inspected
from portal.webhooks import setup
from tests import factories
from tests.conftest import on_both_databases
from tests.ports import free_port

SignIn = Callable[[str], FlaskClient]
PAGE = "/m/alice/inspector"


@pytest.fixture
def own(merchant: Merchant) -> Inspector:
    return inspector.prepare(merchant.id, "test")


def path_of(own: Inspector) -> str:
    path = f"/inspect/{own.token}"
    # The test's own look at the database is over before others write to it.
    db.session.rollback()
    return path


def kept(own: Inspector) -> list[InspectedRequest]:
    db.session.rollback()
    return inspector.newest(own)


def webhook_to(merchant: Merchant, own: Inspector, **fields: object) -> Webhook:
    return setup.create_webhook(
        merchant.id, {"url": inspector.url_of(own), "events": ["*"], **fields}, "test"
    )


def signed(secret: str, body: bytes) -> dict[str, str]:
    return dict(Signer([secret]).headers("evt_1", now() // 1_000_000, body))


# ── What comes in ─────────────────────────────────────────────────────────────────────────


@on_both_databases
@pytest.mark.parametrize("method", inspected.METHODS)
def test_any_request_is_recorded_and_answered(client: FlaskClient, own: Inspector, method: str):
    answer = client.open(
        f"{path_of(own)}?source=erp&a=%00",
        method=method,
        data=b"\x00\xff",
        headers={"X-Trace": "7"},
    )
    assert answer.status_code == 200
    assert answer.json == {"inspector": "200: everything arrives"}
    assert "Set-Cookie" not in answer.headers
    (one,) = kept(own)
    assert (one.method, one.body, one.size, one.status) == (method, b"\x00\xff", 2, 200)
    assert one.uri == f"{path_of(own)}?source=erp&a=%00"
    assert ["X-Trace", "7"] in json.loads(one.headers)
    assert one.webhook_id is None


@on_both_databases
def test_a_request_of_a_webhook_is_verified_with_its_secret(
    client: FlaskClient, merchant: Merchant, own: Inspector
):
    webhook = webhook_to(merchant, own)
    webhook_to(merchant, own)
    for secret, verified_by in ((webhook.secret, webhook.id), ("whsec_" + "QUJD" * 11, None)):
        client.post(path_of(own), data=b'{"a":1}', headers=signed(secret, b'{"a":1}'))
        one = kept(own)[0]
        assert one.webhook_id == verified_by
        shown = inspector.inspect(own, one)
        assert len(shown.checks) == 2
        assert all(check.verified for check in shown.checks) == (verified_by is not None)
        assert shown.event_id == (verified_by and "evt_1")
    # Changed on its way by a byte.
    client.post(path_of(own), data=b'{"a":2}', headers=signed(webhook.secret, b'{"a":1}'))
    assert kept(own)[0].webhook_id is None


@pytest.mark.parametrize("stamp", ["9" * 4_301, "9" * 20, "\u0661", "-1", "1.5", ""])
@pytest.mark.parametrize("header", ["webhook-timestamp", "Evox-Time"])
def test_a_time_that_is_none_is_recorded_like_any_other(
    client: FlaskClient, own: Inspector, merchant: Merchant, header: str, stamp: str
):
    webhook_to(merchant, own)
    headers = [("webhook-id", "evt_1"), ("webhook-signature", "v1,\u00e9"), (header, stamp)]
    assert client.post(path_of(own), data=b"{}", headers=headers).status_code == 200
    assert len(kept(own)) == 1


def test_nobody_gets_a_signature_for_what_they_send_there(
    client: FlaskClient, signed_in: SignIn, own: Inspector, merchant: Merchant
):
    """Whoever may look could have an order paid that nobody paid, once the webhook has moved on."""
    webhook = webhook_to(merchant, own)
    headers = [
        ("webhook-id", "evt_forged"),
        ("webhook-timestamp", "1763930000"),
        ("webhook-signature", "v1,bm90IG1pbmU="),
    ]
    client.post(path_of(own), data=b"{}", headers=headers)
    page = signed_in("viewer").get("/m/alice/inspector").text
    forged = signing.sign(webhook.secret, "evt_forged", 1_763_930_000, b"{}")
    assert "not verified" in page
    assert forged.partition(",")[2] not in page
    assert "Shown for requests that verify" in page


def test_another_merchants_webhook_cannot_pass_for_ones_own(client: FlaskClient, own: Inspector):
    bob = factories.make_merchant("bob")
    theirs = webhook_to(bob, own)
    client.post(path_of(own), data=b"{}", headers=signed(theirs.secret, b"{}"))
    (one,) = kept(own)
    assert one.webhook_id is None
    assert inspector.webhooks_to(own) == []


@pytest.mark.parametrize("token", ["x", "A" * 43, "A" * 42, "A" * 5_000, "%00", "..", "ä"])
def test_an_unknown_address_answers_404_and_stores_nothing(
    client: FlaskClient, own: Inspector, token: str
):
    answer = client.post(f"/inspect/{token}", data=b"{}")
    assert answer.status_code == 404
    assert kept(own) == []


def test_a_body_of_64_kib_is_taken_and_one_byte_more_is_not(client: FlaskClient, own: Inspector):
    assert client.post(path_of(own), data=b"x" * inspector.MAX_BODY).status_code == 200
    answer = client.post(path_of(own), data=b"x" * (inspector.MAX_BODY + 1))
    assert answer.status_code == 413
    assert answer.json == {"error": "The inspector takes bodies up to 64 KiB."}
    assert len(kept(own)) == 1


def test_who_sends_too_much_is_told_to_wait(client: FlaskClient, own: Inspector):
    statuses = [client.post(path_of(own)).status_code for _ in range(121)]
    assert statuses == [200] * 120 + [429]
    answer = client.post(path_of(own))
    assert answer.headers["Retry-After"] == "10"
    # One merchant's flood is not another's.
    other = inspector.prepare(factories.make_merchant("bob").id, "test")
    assert client.post(path_of(other)).status_code == 200


@on_both_databases
def test_the_newest_fifty_are_kept_for_a_day(
    client: FlaskClient, own: Inspector, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inspector, "KEPT", 5)
    for number in range(8):
        client.post(f"{path_of(own)}?n={number}")
    other = inspector.prepare(factories.make_merchant("bob").id, "test")
    client.post(path_of(other))
    assert [one.uri[-1] for one in kept(own)] == list("76543")
    assert len(kept(other)) == 1
    count = sa.select(sa.func.count()).select_from(InspectedRequest)
    retention.purge_expired(moment=now() + DAY - 60_000_000)
    assert db.session.scalar(count) == 6
    retention.purge_expired(moment=now() + DAY + 60_000_000)
    assert db.session.scalar(count) == 0


def test_what_strangers_ask_for_is_not_kept_in_redis(
    app: Flask, client: FlaskClient, own: Inspector, valkey: str
):
    """Each address that was asked for is counted for a minute: of those that are no token it is
    not the text that is kept, of which there may be 60,000 letters a request."""
    asked = [f"/inspect/{letter * 20_000}" for letter in "abc"]
    assert [client.post(address).status_code for address in asked] == [404] * 3
    assert client.post(path_of(own)).status_code == 200
    names = Redis.from_url(valkey).keys()
    assert any(own.token.encode() in name for name in names)
    assert max(map(len, names)) < 300


def test_values_that_are_secret_are_not_kept(
    client: FlaskClient, merchant: Merchant, own: Inspector
):
    webhook_to(
        merchant,
        own,
        headers={"X-Store": {"value": "canary-1", "secret": True}},
        query_params={"my store": {"value": "canary-2", "secret": True}},
    )
    client.post(
        f"{path_of(own)}?my+store=canary-2&token=canary-3&n=1",
        headers={"X-Store": "canary-1", "Authorization": "Bearer canary-4", "X-Plain": "7"},
    )
    (one,) = kept(own)
    assert "canary" not in one.headers + one.uri
    assert "n=1" in one.uri
    assert '["X-Plain","7"]' in one.headers


# ── What it answers ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answer", "status", "retry_after"),
    [("500", 500, None), ("429", 429, "10"), ("410", 410, None), ("200", 200, None)],
)
def test_it_answers_as_the_merchant_chose(
    signed_in: SignIn,
    client: FlaskClient,
    own: Inspector,
    answer: str,
    status: int,
    retry_after: str | None,
):
    assert signed_in("editor").post(f"{PAGE}/answer", data={"answer": answer}).status_code == 303
    came = client.post(path_of(own))
    assert (came.status_code, came.headers.get("Retry-After")) == (status, retry_after)
    assert kept(own)[0].status == status


def test_another_answer_is_refused(merchant: Merchant, own: Inspector):
    for answer in ("", "201", "200 "):
        with pytest.raises(Invalid):
            inspector.choose_answer(merchant.id, answer, "test")


def test_slow_answers_hold_two_threads_at_most(
    client: FlaskClient, merchant: Merchant, own: Inspector, monkeypatch: pytest.MonkeyPatch
):
    inspector.choose_answer(merchant.id, "slow", "test")
    waiting, go_on = threading.Barrier(3), threading.Event()

    def sleep(seconds: float) -> None:
        assert seconds == 3
        waiting.wait(10)
        go_on.wait(10)

    monkeypatch.setattr(inspector.time, "sleep", sleep)
    statuses: list[int] = []
    path = path_of(own)
    threads = [
        threading.Thread(target=lambda: statuses.append(client.post(path).status_code))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    waiting.wait(10)
    answer = client.post(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    go_on.set()
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]
    assert sorted(one.status for one in kept(own)) == [200, 200, 503]


# ── Setting it up, and its page ───────────────────────────────────────────────────────────


def test_a_merchant_has_one_and_a_new_one_has_a_new_address(merchant: Merchant):
    first = inspector.prepare(merchant.id, "test").token
    assert inspector.prepare(merchant.id, "test").token == first
    assert len(first) == 43
    inspector.remove(merchant.id, "test")
    with pytest.raises(NotFound):
        inspector.remove(merchant.id, "test")
    assert inspector.prepare(merchant.id, "test").token != first


def test_a_removed_one_answers_404_and_what_it_got_is_gone(
    client: FlaskClient, signed_in: SignIn, own: Inspector
):
    path = path_of(own)
    client.post(path)
    assert signed_in("editor").post(f"{PAGE}/remove").status_code == 303
    assert client.post(path).status_code == 404
    db.session.rollback()
    assert db.session.scalar(sa.select(sa.func.count()).select_from(InspectedRequest)) == 0


def test_the_chooser_makes_it_and_fills_the_form(signed_in: SignIn, merchant: Merchant):
    browser = signed_in("editor")
    assert "No target yet?" in browser.get("/m/alice/webhooks/new").text
    answer = browser.post(PAGE)
    assert answer.status_code == 303
    form = browser.get(answer.location).text
    db.session.rollback()
    own = inspector.find(merchant.id)
    assert own is not None
    assert f'value="{inspector.url_of(own)}"' in form
    assert 'value="*" checked' in form


def test_the_form_takes_it_and_keeps_what_was_typed(signed_in: SignIn, merchant: Merchant):
    form = (
        signed_in("editor")
        .post(
            "/m/alice/webhooks",
            data={
                "description": "Orders to nobody yet",
                "url": "",
                "events": "order.*",
                "action": "inspector",
            },
        )
        .text
    )
    db.session.rollback()
    own = inspector.find(merchant.id)
    assert own is not None
    assert f'value="{inspector.url_of(own)}"' in form
    assert "Orders to nobody yet" in form
    assert setup.list_webhooks(merchant.id) == []


def test_the_form_for_it_leads_to_it_where_there_is_none(signed_in: SignIn):
    answer = signed_in("editor").get("/m/alice/webhooks/new?to=inspector")
    assert answer.location == PAGE


def test_the_page_shows_what_came_as_text(
    client: FlaskClient, signed_in: SignIn, merchant: Merchant, own: Inspector
):
    browser = signed_in("viewer")
    assert "Waiting for the first request" in browser.get(PAGE).text
    evil = "<script>alert(1)</script>"
    client.post(f"{path_of(own)}?{evil}", data=evil, headers={"X-Evil": evil})
    page = browser.get(PAGE).text
    assert evil not in page
    assert page.count("&lt;script&gt;") >= 3


def test_the_page_asks_again_and_hears_only_of_what_is_new(
    client: FlaskClient, signed_in: SignIn, own: Inspector
):
    browser = signed_in("viewer")
    part = {"HX-Request": "true", "HX-Request-Type": "partial"}
    client.post(path_of(own))
    newest = kept(own)[0].id
    assert browser.get(f"{PAGE}?after={newest}", headers=part).status_code == 204
    client.post(f"{path_of(own)}?second")
    answer = browser.get(f"{PAGE}?after={newest}", headers=part)
    assert answer.status_code == 200
    assert "second" in answer.text
    assert "<html" not in answer.text


def test_another_merchants_requests_are_never_shown(
    client: FlaskClient, signed_in: SignIn, own: Inspector
):
    bob = factories.make_merchant("bob")
    theirs = inspector.prepare(bob.id, "test")
    client.post(f"{path_of(theirs)}?bobs")
    request_id = kept(theirs)[0].id
    browser = signed_in("owner")
    # A page's form token holds the second in which it was made.
    with time_machine.travel(time.time(), tick=False):
        theirs_page, nobodys = (
            browser.get(f"{PAGE}?request={one}") for one in (request_id, "ins_" + "0" * 32)
        )
    assert theirs_page.status_code == nobodys.status_code == 404
    assert theirs_page.text.replace(request_id, "") == nobodys.text.replace("ins_" + "0" * 32, "")
    assert "bobs" not in browser.get(PAGE).text
    assert browser.get("/m/bob/inspector").status_code == 404


def test_a_viewer_sees_it_and_changes_nothing(signed_in: SignIn, own: Inspector):
    browser = signed_in("viewer")
    page = browser.get(PAGE)
    assert page.status_code == 200
    assert "Answer so" not in page.text
    for path in (PAGE, f"{PAGE}/answer", f"{PAGE}/remove"):
        assert browser.post(path, data={"answer": "500"}).status_code == 403


# ── From end to end ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def serving(app: Flask) -> Iterator[None]:
    """The portal at its own address."""
    server = make_server("127.0.0.1", app.config["PORTAL"].port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("serving")
class TestSending:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        """No private network is admitted, as it is for who has just begun."""
        return {"EGRESS_ALLOW": "", "PORT": str(free_port())}

    def test_a_test_event_arrives_at_it_verified(self, merchant: Merchant, own: Inspector):
        webhook = webhook_to(merchant, own)
        attempt = actions.send_test(webhook.merchant_id, webhook.id, "order.created", "test")
        assert (attempt.status, attempt.error) == (200, None)
        (one,) = kept(own)
        assert one.webhook_id == webhook.id

    def test_a_url_beside_it_is_neither_saved_nor_sent_to(
        self, app: Flask, merchant: Merchant, own: Inspector
    ):
        webhook = webhook_to(merchant, own)
        port = app.config["PORTAL"].port
        for url in (f"http://127.0.0.1:{port}/healthz", f"{inspector.url_of(own)}/../../healthz"):
            with pytest.raises(Invalid):
                setup.update_webhook(webhook.merchant_id, webhook.id, {"url": url}, "test")
            webhook.url = url
            db.session.commit()
            attempt = actions.send_test(webhook.merchant_id, webhook.id, "order.created", "test")
            assert attempt.error == "egress_refused"
