"""An attempt explained: what it means, where its time went, whether its signature holds."""

from __future__ import annotations

import pytest

from portal.audit.log import record
from portal.db.session import db, writing
from portal.diagnosis import diagnoses, explain, reports, signatures, waterfall
from portal.diagnosis.signatures import Secret
from portal.logs import stories
from portal.models import Attempt, Merchant
from portal.outbound.failures import ERRORS, X509_ERRORS
from portal.outbound.outcome import OWN_ERRORS
from portal.signing import MAX_OLD_SECRETS, Signer, new_secret
from portal.strict_json import dump
from tests import factories

BODY = b'{"id":"evt_1"}'


def attempt_of(merchant: Merchant, secret: str | None = None, **fields: object) -> Attempt:
    webhook = factories.make_webhook(merchant)
    if secret:
        webhook.set_secret(secret)
        db.session.commit()
    event = factories.make_event(merchant)
    return factories.make_attempt(factories.make_delivery(event, webhook, "failed"), **fields)


def report_of(merchant: Merchant, attempt: Attempt, *, shared: bool = False):
    return reports.report(stories.attempt_detail(merchant.id, attempt.id), shared=shared)


# ── What it means ─────────────────────────────────────────────────────────────────────────


def test_every_error_of_the_transport_is_explained_with_a_remedy():
    codes = set(ERRORS.values()) | set(X509_ERRORS.values()) | OWN_ERRORS
    for code in codes:
        diagnosis = diagnoses.ERRORS[code]
        assert diagnosis.remedy, code
        assert diagnoses.WHOM[diagnosis.whom], code


@pytest.mark.parametrize("status", [400, 401, 404, 418, 429, 500, 503, 999, 301])
def test_every_failed_status_says_what_to_do_and_who_can(status: int):
    diagnosis = explain.diagnose(False, status, None)
    assert diagnosis.kind == "bad"
    assert diagnosis.remedy
    assert diagnoses.WHOM[diagnosis.whom]


def test_a_web_page_in_place_of_an_api_is_a_warning_though_it_is_a_success():
    page = b"<!doctype html><html>Sign in</html>"
    assert explain.diagnose(True, 200, None, [], page).kind == "warn"
    assert explain.diagnose(True, 200, None, [], b"ok").kind == "good"
    # A page that comes with an error is explained by its status.
    assert "500" not in explain.diagnose(False, 401, None, [], page).title


def test_a_redirect_to_a_page_to_sign_in_is_told_from_other_redirects():
    assert explain.diagnose(False, 302, None, target="https://a.example/login").title == (
        "Redirected to a page to sign in"
    )
    assert explain.diagnose(False, 301, None, target="https://a.example/hook/").title == (
        "Redirected"
    )


# ── Where the time went ───────────────────────────────────────────────────────────────────


def test_the_part_in_which_an_attempt_ended_is_marked(merchant: Merchant):
    timed_out = attempt_of(
        merchant,
        status=None,
        error="timeout",
        duration_us=3_000_000,
        wait_us=None,
        download_us=None,
    )
    *before, last = waterfall.parts(timed_out)
    assert [part.label for part in before] == ["DNS", "Connect", "Send"]
    assert (last.label, last.failed, last.took) == ("Wait", True, 2_993_000)
    never_connected = attempt_of(
        merchant,
        status=None,
        error="connect_timeout",
        duration_us=3_000_000,
        connect_us=None,
        send_us=None,
        wait_us=0,
        download_us=0,
    )
    last = waterfall.parts(never_connected)[-1]
    assert (last.label, last.failed, last.took) == ("Connect", True, 2_999_000)


def test_time_that_no_part_explains_is_shown_as_blocked(merchant: Merchant):
    attempt = attempt_of(merchant, dns_us=None, connect_us=None, duration_us=100_000)
    parts = waterfall.parts(attempt)
    assert [part.label for part in parts] == ["Blocked", "Send", "Wait", "Download"]
    assert sum(part.took for part in parts) == 100_000


def test_an_attempt_from_before_sending_was_measured_shows_it_with_the_waiting(merchant: Merchant):
    parts = waterfall.parts(attempt_of(merchant, send_us=None, wait_us=34_000))
    assert [part.label for part in parts] == ["DNS", "Connect", "Send and wait", "Download"]
    assert sum(part.took for part in parts) == 41_000


def test_nothing_sent_took_no_time(merchant: Merchant):
    assert waterfall.parts(attempt_of(merchant, None, duration_us=0)) == []


# ── Whether the signature holds ───────────────────────────────────────────────────────────


def test_both_schemes_are_verified_with_the_bytes_that_were_signed():
    secret = new_secret()
    headers = Signer([secret]).headers("evt_1", 1_763_930_000, BODY)
    standard, evox = signatures.check(headers, BODY, [Secret("current", secret)])
    assert standard.prefix == "evt_1.1763930000."
    assert evox.prefix == "1763930000."
    for check in (standard, evox):
        assert check.verified
        assert check.entries[0].value == check.computed[0][1]
    for check in signatures.check(headers, BODY + b" ", [Secret("current", secret)]):
        assert not check.verified


def test_while_a_secret_rotates_each_signature_names_the_secret_it_was_made_with():
    new, old = new_secret(), new_secret()
    headers = Signer([new, old]).headers("evt_1", 1_763_930_000, BODY)
    standard, evox = signatures.check(
        headers, BODY, [Secret("current", new), Secret("previous", old)]
    )
    assert [entry.made_with for entry in standard.entries] == ["current", "previous"]
    assert [entry.header for entry in evox.entries] == ["Evox-Signature", "Evox-Signature-Old"]
    assert [entry.made_with for entry in evox.entries] == ["current", "previous"]


def test_every_header_that_signs_a_request_is_marked():
    signer = Signer([new_secret() for _ in range(1 + MAX_OLD_SECRETS)], ed25519=True)
    sent = {name.lower() for name, _ in signer.headers("evt_1", 1_700_000_000, b"{}")}
    assert sent == set(signatures.SIGNATURE_HEADERS)


def test_the_report_says_when_the_secret_was_replaced(merchant: Merchant):
    secret = new_secret()
    headers = Signer([secret]).headers("evt_1", 1_763_930_000, BODY)
    attempt = attempt_of(
        merchant, secret, request_headers=dump(headers), body_kind="own", request_body=BODY
    )
    report = report_of(merchant, attempt)
    assert all(check.made_with_current for check in report.checks)
    assert report.replaced_at is None
    webhook = stories.attempt_detail(merchant.id, attempt.id).webhook
    assert webhook is not None
    for overlap, made_with in ((24, "previous"), (24, "previous 2"), (0, None), (0, None)):
        with writing() as session:
            webhook.rotate_secret(new_secret(), overlap)
            record(session, "cli", "webhook.secret_rotated", webhook.id, merchant.id)
        report = report_of(merchant, attempt)
        assert report.replaced_at
        # Ended before its time, it is known no more.
        for check in report.checks:
            assert [entry.made_with for entry in check.entries] == [made_with]


# ── What goes to others ───────────────────────────────────────────────────────────────────


def test_the_text_for_the_developer_holds_what_they_need_and_no_header_of_the_merchant(
    merchant: Merchant,
):
    attempt = attempt_of(
        merchant,
        status=500,
        response_body=b"KeyError: total",
        request_headers='[["X-Api-Key","k-123"]]',
    )
    text = report_of(merchant, attempt).developer_text
    for wanted in (attempt.id, attempt.event_id, "500 after 41 ms", "KeyError: total", "POST"):
        assert wanted in text
    assert "k-123" not in text


def test_a_shared_report_masks_what_sounds_secret(merchant: Merchant):
    attempt = attempt_of(
        merchant,
        status=302,
        uri="https://a.example/hook?token=t-1&store=7&sig=s-1",
        request_headers='[["X-Api-Key","k-1"],["Authorization","a-1"],["webhook-id","evt_1"]]',
        response_headers='[["Set-Cookie","c-1"],["Location","/next?access_token=l-1"],["A","b"]]',
    )
    report = report_of(merchant, attempt, shared=True)
    shown = f"{report.uri}{report.request_headers}{report.response_headers}{report.curl}"
    shown += f"{report.redirect_target}{report.developer_text}"
    for secret in ("t-1", "s-1", "k-1", "a-1", "c-1", "l-1"):
        assert secret not in shown
    assert "store=7" in report.uri
    assert ("webhook-id", "evt_1") in report.request_headers
