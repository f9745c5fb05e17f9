"""Setting up webhooks: what is taken, what is refused, what is stored and noted."""

from __future__ import annotations

import base64
import ipaddress
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from portal import queues, signing, vault
from portal.clock import DAY, HOUR, now
from portal.composing.compose import Composer, Payload, Target
from portal.db.session import db
from portal.delivery.line import Line
from portal.errors import Conflict, Invalid, NotFound
from portal.models import AuditEntry, Merchant, Webhook
from portal.models.webhook import MASK
from portal.signing import EVOX_HEADERS, MAX_OLD_SECRETS
from portal.webhooks import checking, previews, setup
from tests import factories
from tests.conftest import on_both_databases

ACTOR = "user:ann@example.com"
BASIC = {"url": "https://erp.example.com/hooks", "events": ["order.created"]}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What names resolve to; all others do not."""
    known: dict[str, str] = {}
    monkeypatch.setattr(
        checking,
        "addresses_of",
        lambda host, _whose: [ipaddress.ip_address(known[host])] if host in known else [],
    )
    return known


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lanes that were woken."""
    lanes: list[int] = []
    monkeypatch.setattr(queues, "wake", lanes.extend)
    return lanes


def create(merchant: Merchant, **fields: Any) -> Webhook:
    return setup.create_webhook(merchant.id, BASIC | fields, ACTOR)


def wrong(merchant: Merchant, existing: Webhook | None = None, **fields: Any) -> dict[str, str]:
    """Pointer → message of what is wrong with a webhook."""
    given = fields if existing else BASIC | fields
    with pytest.raises(Invalid) as caught:
        checking.validate(merchant.id, given, existing)
    return {error.pointer: error.message for error in caught.value.errors}


def audited(action: str) -> list[AuditEntry]:
    return list(
        db.session.scalars(
            sa.select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)
        )
    )


@on_both_databases
def test_a_webhook_needs_a_url_and_events_only(merchant: Merchant) -> None:
    webhook = create(merchant)
    assert (webhook.method, webhook.include_object_record, webhook.enabled) == ("POST", True, True)
    assert webhook.query_params == []
    assert webhook.headers == []
    assert webhook.retry_schedule is None
    assert webhook.timeout_seconds is None
    assert len(base64.b64decode(webhook.secret.removeprefix("whsec_"))) == 32
    assert setup.get_webhook(merchant.id, webhook.id) is webhook
    assert setup.list_webhooks(merchant.id) == [webhook]


def test_every_wrong_field_is_reported_at_once(merchant: Merchant) -> None:
    errors = wrong(
        merchant,
        url="ftp://x",
        events=[],
        method="DELETE",
        description=7,
        enabled="yes",
        timeout_seconds=0,
        retry_schedule=[-1],
        headers={"Host": "x", "X-Ok": "y"},
        query_params=[],
        colour="red",
    )
    assert set(errors) == {
        "/url",
        "/events",
        "/method",
        "/description",
        "/enabled",
        "/timeout_seconds",
        "/retry_schedule",
        "/headers/Host",
        "/query_params",
        "/colour",
    }
    assert setup.list_webhooks(merchant.id) == []


def test_a_new_webhook_without_anything_names_what_is_needed(merchant: Merchant) -> None:
    with pytest.raises(Invalid) as caught:
        setup.create_webhook(merchant.id, {}, ACTOR)
    assert [error.pointer for error in caught.value.errors] == ["/url", "/events"]


def test_events_may_be_exact_a_group_or_all(merchant: Merchant) -> None:
    webhook = create(merchant, events=["order.created", "customer.*", "order.created"])
    assert webhook.events == ["order.created", "customer.*"]
    names = setup.types_of(webhook)
    assert "order.created" in names
    assert "customer.created" in names
    assert "order.paid" not in names
    assert len(setup.types_of(create(merchant, events=["*"]))) > len(names)


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in (1..100000000) %}x{% endfor %}",
        "{% for a in (1..3000) %}{% for b in (1..3000) %}x{% endfor %}{% endfor %}",
        "{% assign s = 'xxxxxxxxxx' %}" + "{% assign s = s | append: s %}" * 20 + "{{ s }}",
    ],
)
def test_a_template_that_does_too_much_is_refused(merchant: Merchant, template: str) -> None:
    assert "The Liquid cannot be used" in wrong(merchant, body_template=template)["/body_template"]
    assert "/headers/X-A" in wrong(merchant, headers={"X-A": template})
    assert "/query_params/a" in wrong(
        merchant, query_params={"a": {"value": template, "secret": True}}
    )


def test_liquid_that_makes_a_line_break_in_a_header_is_taken_and_a_space_is_sent(
    merchant: Merchant,
) -> None:
    assert create(merchant, headers={"X-A": '{{ "%0Aa%0D%0Ab%00" | url_decode }}'})
    shown = checking.preview(
        merchant.id, BASIC | {"headers": {"X-A": '{{ "%0Aa%0Ab" | url_decode }}'}}
    )
    assert dict(shown.headers)["X-A"] == "a b"


@pytest.mark.parametrize("break_", ["\n", "\x85", "\u2028", "\u2029", "\x08", "\x7f", "\x9f"])
def test_a_header_with_a_control_in_it_is_refused(merchant: Merchant, break_: str) -> None:
    message = wrong(merchant, headers={"X-A": f"a{break_}b"})["/headers/X-A"]
    assert "line break or control character" in message


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'abc' | split: ',' | uniq: 5 }}",
        "{{ 'a,b' | split: ',' | sum }}",
        "{{ 5 | divided_by: 0 }}",
        "{{ 5 | modulo: 0 }}",
        "{{ '/w==' | base64_decode }}",
        "{{ 'nan' | plus: 1 }}",
        "{{ '%ED%A0%80' | url_decode | concat: 5 }}",
    ],
)
def test_a_template_that_no_record_fills_is_refused_with_a_sentence(
    merchant: Merchant, template: str
) -> None:
    for field, name in (("headers", "X-A"), ("query_params", "a")):
        message = wrong(merchant, **{field: {name: template}})[f"/{field}/{name}"]
        assert message.startswith("The Liquid cannot be used: ")
    assert "The Liquid cannot be used" in wrong(merchant, body_template=template)["/body_template"]


def test_a_url_to_a_private_address_is_refused(merchant: Merchant, names: dict[str, str]) -> None:
    assert "only public addresses" in wrong(merchant, url="http://10.0.0.1/")["/url"]
    names["intranet.example.com"] = "10.0.0.1"
    assert (
        "intranet.example.com, which is 10.0.0.1"
        in wrong(merchant, url="http://intranet.example.com/")["/url"]
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1"])
def test_the_portals_own_url_is_refused(app: Flask, merchant: Merchant, host: str) -> None:
    port = app.config["PORTAL"].port
    assert "the portal's own" in wrong(merchant, url=f"http://{host}:{port}/x")["/url"]


def test_the_senders_own_secret_is_taken(merchant: Merchant) -> None:
    secret = "whsec_" + base64.b64encode(b"x" * 24).decode()
    assert create(merchant, secret=secret).secret == secret


def test_a_merchant_has_at_most_a_hundred_webhooks(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "MAX_WEBHOOKS", 2)
    create(merchant)
    gone = create(merchant)
    with pytest.raises(Conflict, match="at most 2"):
        create(merchant)
    setup.delete(gone.merchant_id, gone.id, ACTOR)
    assert create(merchant)


def test_a_webhook_of_another_merchant_does_not_exist(merchant: Merchant) -> None:
    webhook = create(merchant)
    bob = factories.make_merchant("bob")
    with pytest.raises(NotFound):
        setup.get_webhook(bob.id, webhook.id)
    assert setup.list_webhooks(bob.id) == []
    theirs = setup.create_webhook(bob.id, BASIC, ACTOR)
    assert setup.list_webhooks(bob.id) == [theirs]


@on_both_databases
def test_the_same_form_sent_many_times_at_once_makes_one_webhook(
    app: Flask, merchant: Merchant
) -> None:
    merchant_id = merchant.id
    made: list[str] = []

    def send() -> None:
        with app.app_context():
            found = db.session.get_one(Merchant, merchant_id)
            made.append(setup.create_webhook(found.id, BASIC, ACTOR, webhook_id="wh_form").id)
            db.session.remove()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["wh_form"] * 8
    db.session.rollback()
    assert len(setup.list_webhooks(merchant_id)) == 1
    assert len(audited("webhook.created")) == 1


class TestSecretValues:
    HEADERS = {"X-Auth": {"value": "canary", "secret": True}, "X-Open": "open"}

    def test_they_are_stored_encrypted_and_shown_masked(self, merchant: Merchant) -> None:
        webhook = create(merchant, headers=self.HEADERS)
        stored = db.session.execute(sa.text("SELECT headers FROM webhook")).scalar_one()
        assert "canary" not in str(stored)
        assert vault.decrypt(webhook.headers[0]["value"]) == "canary"
        assert Webhook.shown(webhook.headers) == {
            "X-Auth": {"value": MASK, "secret": True},
            "X-Open": "open",
        }

    def test_they_are_masked_in_the_audit_log(self, merchant: Merchant) -> None:
        webhook = create(merchant, headers=self.HEADERS)
        changed = {"headers": {"X-Auth": {"value": "canary-2", "secret": True}}}
        setup.update_webhook(webhook.merchant_id, webhook.id, changed, ACTOR)
        entries = audited("webhook.created") + audited("webhook.updated")
        assert len(entries) == 2
        assert "canary" not in str([entry.detail for entry in entries])
        assert "whsec_" not in str([entry.detail for entry in entries])

    def test_the_mask_keeps_the_stored_value(self, merchant: Merchant) -> None:
        webhook = create(merchant, headers=self.HEADERS)
        headers = {"x-auth": {"value": MASK, "secret": True}, "X-Open": "other"}
        setup.update_webhook(webhook.merchant_id, webhook.id, {"headers": headers}, ACTOR)
        assert vault.decrypt(webhook.headers[0]["value"]) == "canary"
        assert webhook.headers[1]["value"] == "other"

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.example.net/hooks",
            "http://erp.example.com/hooks",
            "https://erp.example.com:444/hooks",
        ],
    )
    def test_another_server_does_not_get_them(self, merchant: Merchant, url: str) -> None:
        webhook = create(
            merchant, headers=self.HEADERS, query_params={"key": {"value": "k", "secret": True}}
        )
        assert set(wrong(merchant, webhook, url=url)) == {"/headers/X-Auth", "/query_params/key"}
        masked = {"X-Auth": {"value": MASK, "secret": True}}
        assert "/headers/X-Auth" in wrong(merchant, webhook, url=url, headers=masked)
        anew = {"X-Auth": {"value": "new", "secret": True}}
        moved = setup.update_webhook(
            webhook.merchant_id,
            webhook.id,
            {"url": url, "headers": anew, "query_params": {}},
            ACTOR,
        )
        assert moved.url == url

    def test_another_path_of_the_server_keeps_them(self, merchant: Merchant) -> None:
        webhook = create(merchant, headers=self.HEADERS)
        setup.update_webhook(
            webhook.merchant_id, webhook.id, {"url": "https://erp.example.com/v2"}, ACTOR
        )
        assert vault.decrypt(webhook.headers[0]["value"]) == "canary"

    def test_a_preview_shows_none(self, merchant: Merchant) -> None:
        webhook = create(
            merchant,
            headers=self.HEADERS,
            query_params={"key": {"value": "canary", "secret": True}},
        )
        shown = checking.preview(merchant.id, {"description": "x"}, webhook)
        assert shown.errors == ()
        assert "canary" not in str(shown)
        assert f"key={MASK}" in shown.url
        assert ("X-Auth", MASK) in shown.headers


class TestEditing:
    def test_what_is_not_given_stays(self, merchant: Merchant) -> None:
        webhook = create(merchant, headers={"X-A": "1"}, description="ERP")
        setup.update_webhook(webhook.merchant_id, webhook.id, {"method": "PUT"}, ACTOR)
        assert (webhook.method, webhook.description) == ("PUT", "ERP")
        assert webhook.headers == [{"name": "X-A", "value": "1", "secret": False}]
        assert webhook.version == 2

    def test_each_change_is_noted_with_before_and_after(self, merchant: Merchant) -> None:
        webhook = create(merchant, description="ERP")
        setup.update_webhook(webhook.merchant_id, webhook.id, {"description": "CRM"}, ACTOR)
        (entry,) = audited("webhook.updated")
        assert (entry.actor, entry.target, entry.merchant_id) == (ACTOR, webhook.id, merchant.id)
        assert entry.detail == {"description": ["ERP", "CRM"]}

    def test_saving_without_a_change_changes_nothing(self, merchant: Merchant) -> None:
        webhook = create(merchant)
        setup.update_webhook(webhook.merchant_id, webhook.id, dict(BASIC), ACTOR)
        assert webhook.version == 1
        assert audited("webhook.updated") == []

    def test_a_stale_edit_is_refused(self, merchant: Merchant) -> None:
        webhook = create(merchant)
        setup.update_webhook(
            webhook.merchant_id, webhook.id, {"description": "theirs"}, ACTOR, version=1
        )
        with pytest.raises(Conflict):
            setup.update_webhook(
                webhook.merchant_id, webhook.id, {"description": "mine"}, ACTOR, version=1
            )
        assert webhook.description == "theirs"

    def test_the_secret_is_not_changed_by_an_edit(self, merchant: Merchant) -> None:
        webhook = create(merchant)
        secret = "whsec_" + base64.b64encode(b"x" * 32).decode()
        assert "rotating" in wrong(merchant, webhook, secret=secret)["/secret"]

    def test_enabling_by_an_edit_wakes_the_lane(self, merchant: Merchant, woken: list[int]) -> None:
        webhook = create(merchant, enabled=False)
        assert webhook.state == "disabled"
        assert webhook.disabled_reason
        setup.update_webhook(webhook.merchant_id, webhook.id, {"description": "x"}, ACTOR)
        assert woken == []
        setup.update_webhook(webhook.merchant_id, webhook.id, {"enabled": True}, ACTOR)
        assert webhook.state == "enabled"
        assert woken == [webhook.lane]
        setup.update_webhook(webhook.merchant_id, webhook.id, {"enabled": False}, ACTOR)
        assert webhook.disabled_reason == "Disabled by ann@example.com."


@on_both_databases
def test_disabling_holds_what_is_owed_and_enabling_sends_it(
    merchant: Merchant, woken: list[int]
) -> None:
    webhook = create(merchant)
    delivery = factories.make_delivery(factories.make_event(merchant), webhook)
    setup.disable(webhook.merchant_id, webhook.id, "Maintenance", ACTOR)
    assert delivery.shown_state(webhook) == "held"
    assert webhook.disabled_reason == "Maintenance"
    setup.enable(webhook.merchant_id, webhook.id, ACTOR)
    assert delivery.shown_state(webhook) == "pending"
    assert woken == [webhook.lane]
    assert [entry.detail for entry in audited("webhook.disabled")] == [{"reason": "Maintenance"}]
    assert len(audited("webhook.enabled")) == 1


def test_enabling_clears_the_record_of_failures(merchant: Merchant, woken: list[int]) -> None:
    webhook = factories.make_webhook(merchant, failures=30, held_at=now(), failing_since=now())
    setup.enable(webhook.merchant_id, webhook.id, ACTOR)
    assert (webhook.failures, webhook.held_at, webhook.state) == (0, None, "enabled")
    assert woken == [webhook.lane]
    setup.enable(webhook.merchant_id, webhook.id, ACTOR)
    assert len(audited("webhook.enabled")) == 1


@on_both_databases
def test_deleting_discards_what_is_owed_and_keeps_the_row_for_the_log(merchant: Merchant) -> None:
    webhook = create(merchant)
    webhook_id = webhook.id
    delivery = factories.make_delivery(factories.make_event(merchant), webhook)
    done = factories.make_delivery(factories.make_event(merchant), webhook, "succeeded")
    setup.delete(webhook.merchant_id, webhook.id, ACTOR)
    assert (delivery.state, delivery.reason) == ("discarded", "The webhook was deleted.")
    assert done.state == "succeeded"
    assert db.session.get_one(Webhook, webhook_id).state == "deleted"
    with pytest.raises(NotFound):
        setup.get_webhook(merchant.id, webhook_id)
    with pytest.raises(NotFound):
        setup.enable(webhook.merchant_id, webhook.id, ACTOR)
    assert setup.list_webhooks(merchant.id) == []


def test_revealing_the_secret_is_noted(merchant: Merchant) -> None:
    webhook = create(merchant)
    assert setup.reveal_secret(webhook.merchant_id, webhook.id, ACTOR) == webhook.secret
    (entry,) = audited("webhook.secret_revealed")
    assert (entry.actor, entry.target, entry.detail) == (ACTOR, webhook.id, {})


def test_both_secrets_sign_while_a_rotation_overlaps(merchant: Merchant) -> None:
    webhook = create(merchant)
    old = webhook.secret
    setup.rotate_secret(webhook.merchant_id, webhook.id, ACTOR)
    moment = now()
    assert webhook.secret != old
    assert webhook.signing_secrets(moment) == [webhook.secret, old]
    assert webhook.signing_secrets(moment + 25 * HOUR) == [webhook.secret]
    setup.rotate_secret(webhook.merchant_id, webhook.id, ACTOR, overlap_hours=0)
    assert webhook.signing_secrets(now()) == [webhook.secret]


@on_both_databases
def test_every_secret_signs_to_its_promised_end(app: Flask, merchant: Merchant) -> None:
    webhook = factories.make_webhook(merchant, sign_ed25519=True)
    secrets = [webhook.secret]
    for hours in (24, 2, 168):
        webhook = setup.rotate_secret(webhook.merchant_id, webhook.id, ACTOR, overlap_hours=hours)
        secrets.insert(0, webhook.secret)
    third, _second, first = secrets[1:]
    moment = now()
    at = webhook.signing_secrets
    assert at(moment) == secrets
    assert at(moment + 3 * HOUR) == [webhook.secret, third, first]
    assert at(moment + 25 * HOUR) == [webhook.secret, third]
    assert at(moment + 169 * HOUR) == [webhook.secret]

    line = Line()
    line.take_settings(webhook, moment)
    ends = []
    while line.secrets_until is not None:
        ends.append(round((line.secrets_until - moment) / HOUR))
        line.take_settings(webhook, line.secrets_until)
    assert ends == [2, 24, 168]

    payload = Payload('{"id":"evt_1"}', None, None)
    target = Target.of(webhook, webhook.signing_secrets(moment))
    sent = Composer(target).compose("evt_1", payload, moment)
    headers, body = dict(sent.headers), sent.body
    entries = headers["webhook-signature"].split()
    assert [entry.partition(",")[0] for entry in entries] == ["v1"] * 4 + ["v1a"] * 4
    for secret, name in zip(secrets, EVOX_HEADERS, strict=False):
        stamp = int(headers["webhook-timestamp"])
        assert signing.sign(secret, "evt_1", stamp, body) in entries
        assert headers[name] == signing.evox_sign(secret, stamp, body)


def test_more_secrets_than_sign_at_once_are_refused_with_the_remedy(merchant: Merchant) -> None:
    webhook = factories.make_webhook(merchant)
    for _ in range(MAX_OLD_SECRETS):
        webhook = setup.rotate_secret(webhook.merchant_id, webhook.id, ACTOR)
    before = webhook.signing_secrets(now())
    with pytest.raises(Invalid) as caught:
        setup.rotate_secret(webhook.merchant_id, webhook.id, ACTOR)
    (error,) = caught.value.errors
    assert error.pointer == "/overlap_hours"
    assert "5 replaced secrets still sign" in error.message
    assert "overlap of 0 hours" in error.message
    db.session.rollback()
    assert webhook.signing_secrets(now()) == before
    assert (
        len(
            setup.rotate_secret(
                webhook.merchant_id, webhook.id, ACTOR, overlap_hours=0
            ).signing_secrets(now())
        )
        == 1
    )


@pytest.mark.parametrize("hours", [-1, 169, 1.5, "24", None, True])
def test_an_overlap_is_a_week_at_most(merchant: Merchant, hours: Any) -> None:
    webhook = create(merchant)
    secret = webhook.secret
    with pytest.raises(Invalid) as caught:
        setup.rotate_secret(webhook.merchant_id, webhook.id, ACTOR, hours)
    assert caught.value.errors[0].pointer == "/overlap_hours"
    assert webhook.secret == secret


class TestPreview:
    def test_it_shows_the_example_when_no_event_matches(self, merchant: Merchant) -> None:
        shown = checking.preview(
            merchant.id, BASIC | {"query_params": {"order": "{{ event.object_id }}"}}
        )
        assert (shown.event_id, shown.event_type, shown.method) == (None, "order.created", "POST")
        assert shown.url.startswith("https://erp.example.com/hooks?order=")
        assert shown.body is not None
        assert '"type":"order.created"' in shown.body
        signature = dict(shown.headers)["webhook-signature"]
        assert signature.startswith("v1,…")

    def test_it_shows_the_newest_event_that_matches(self, merchant: Merchant) -> None:
        moment = now()
        factories.make_event(merchant, id="evt_old", received_at=moment - 2)
        factories.make_event(merchant, id="evt_erp", received_at=moment - 1, source_user_type="erp")
        factories.make_event(merchant, id="evt_paid", type="order.paid", received_at=moment)
        factories.make_event(factories.make_merchant("bob"), id="evt_bob")
        assert checking.preview(merchant.id, BASIC).event_id == "evt_erp"
        assert checking.preview(merchant.id, BASIC | {"events": ["order.*"]}).event_id == "evt_paid"
        assert checking.preview(merchant.id, BASIC | {"events": ["*"]}).event_id == "evt_paid"
        shown = checking.preview(merchant.id, BASIC | {"except_sources": ["erp"]})
        assert shown.event_id == "evt_old"
        assert checking.preview(merchant.id, BASIC | {"only_sources": ["crm"]}).event_id is None

    def test_a_stored_webhook_signs_it(self, merchant: Merchant) -> None:
        webhook = create(merchant)
        headers = dict(checking.preview(merchant.id, {}, webhook).headers)
        assert len(headers["Evox-Signature"]) == 64
        assert headers["Evox-Time"].isdigit()

    def test_it_names_what_is_wrong_and_resolves_no_name(
        self, merchant: Merchant, names: dict[str, str]
    ) -> None:
        names["intranet.example.com"] = "10.0.0.1"
        url = {"url": "https://intranet.example.com/"}
        assert checking.preview(merchant.id, BASIC | url).errors == ()
        shown = checking.preview(merchant.id, {"url": "x", "events": []})
        assert [error.pointer for error in shown.errors] == ["/url", "/events"]

    def test_it_warns_of_a_body_that_is_not_json(self, merchant: Merchant) -> None:
        template = {"body_template": "order {{ event.object_id }}"}
        assert "not valid JSON" in checking.preview(merchant.id, BASIC | template).warning
        plain = template | {"headers": {"content-type": "text/plain"}}
        assert checking.preview(merchant.id, BASIC | plain).warning == ""

    def test_a_get_has_no_body(self, merchant: Merchant) -> None:
        shown = checking.preview(merchant.id, BASIC | {"method": "GET"})
        assert (shown.method, shown.body) == ("GET", None)


@on_both_databases
def test_the_events_of_the_last_week_that_match_are_counted(merchant: Merchant) -> None:
    moment = now()
    factories.make_event(merchant, source_user_type="erp", source_user_id="17")
    factories.make_event(merchant, source_user_type="erp", source_user_id="18")
    factories.make_event(merchant)
    factories.make_event(merchant, type="order.paid")
    factories.make_event(merchant, is_test=True)
    factories.make_event(merchant, received_at=moment - 8 * DAY)
    factories.make_event(factories.make_merchant("bob"))

    def matched(**fields: Any) -> int:
        return previews.matched_last_week(
            merchant.id, checking.validate(merchant.id, BASIC | fields)
        )

    assert matched() == 3
    assert matched(events=["order.*"]) == matched(events=["*"]) == 4
    assert matched(events=["customer.*"]) == 0
    assert matched(only_sources=["erp"]) == 2
    assert matched(only_sources=["erp:17"]) == 1
    assert matched(except_sources=["erp:17"]) == 2
    assert matched(except_sources=["erp"]) == 1


def test_the_count_ends_at_a_thousand(merchant: Merchant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.webhooks.previews.CAP", 2)
    for _ in range(3):
        factories.make_event(merchant)
    assert previews.matched_last_week(merchant.id, checking.validate(merchant.id, BASIC)) == 2


def test_the_list_knows_each_webhooks_newest_attempt(merchant: Merchant) -> None:
    webhook, other = factories.make_webhook(merchant), factories.make_webhook(merchant)
    delivery = factories.make_delivery(factories.make_event(merchant), webhook)
    factories.make_attempt(delivery, 500)
    newest = factories.make_attempt(delivery, 200)
    found = setup.last_attempts(merchant.id)
    assert found[webhook.id].id == newest.id
    assert other.id not in found
    assert [attempt.status for attempt in setup.recent_attempts(webhook)] == [200, 500]
