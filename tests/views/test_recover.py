"""The pages of Recover: count first, then send or discard, watch, pause, resume, cancel."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
import time_machine
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal import jobs
from portal.clock import HOUR, now
from portal.db.session import db
from portal.models import AuditEntry, Delivery, Merchant, Recovery, Webhook
from portal.recovery import batches, recovery
from portal.recovery.selection import Selection
from tests.factories import make_deliveries, make_delivery, make_event, make_merchant, make_webhook

SignIn = Callable[[str], FlaskClient]
PART = {"HX-Request": "true", "HX-Request-Type": "partial"}
HERE = "/m/alice/recover"


@pytest.fixture
def webhook(merchant: Merchant) -> Webhook:
    return make_webhook(merchant, description="Orders to the ERP")


@pytest.fixture
def editor(signed_in: SignIn) -> FlaskClient:
    client = signed_in("editor")
    # The sign-in has written; what this session has read before is old.
    db.session.rollback()
    return client


def failed(merchant: Merchant, webhook: Webhook, number: int = 1, hours: float = 1) -> None:
    db.session.rollback()
    for _ in range(number):
        moment = now() - round(hours * HOUR)
        make_delivery(
            make_event(merchant, received_at=moment), webhook, "failed", finished_at=moment
        )


def hold(webhook: Webhook) -> None:
    webhook.held_at = webhook.failing_since = now()
    webhook.failures = 10
    db.session.commit()


def states() -> dict[str, int]:
    db.session.rollback()
    return dict(
        db.session.execute(
            sa.select(Delivery.state, sa.func.count()).group_by(Delivery.state)
        ).all()
    )  # type: ignore[arg-type]


def forms(page: TestResponse) -> dict[str, dict[str, str]]:
    """What each button of the page that starts something sends, by its action."""
    found = {}
    for form in re.findall(r"<form[^>]*>(.*?)</form>", page.text, re.S):
        fields = {
            name: html.unescape(value)
            for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
        }
        if fields.get("action"):
            found[fields["action"]] = fields
    return found


def begin(client: FlaskClient, **fields: str) -> str:
    """Start one; where its page is."""
    answer = client.post(HERE, data={"action": "send", "state": "failed"} | fields)
    assert answer.status_code == 303, answer.text
    return answer.location


def test_what_failed_is_counted_before_anything_is_sent(
    editor: FlaskClient, merchant: Merchant, webhook: Webhook
) -> None:
    failed(merchant, webhook, 3)
    failed(merchant, webhook, 2, hours=30)
    page = editor.get(HERE)
    assert "3 failed deliveries" in page.text, "the last 24 hours, unasked"
    assert "5 failed deliveries" in editor.get(f"{HERE}?state=failed&since=7d").text
    assert states() == {"failed": 5}
    assert db.session.scalars(sa.select(Recovery)).all() == []

    shown = editor.post(HERE, data=forms(page)["send"], follow_redirects=True)
    assert "Sending again" in shown.text
    assert "3 of 3 on their way" in shown.text
    assert states() == {"failed": 2, "pending": 3}


def test_the_period_that_was_counted_is_the_one_that_is_sent(
    editor: FlaskClient, merchant: Merchant, webhook: Webhook
) -> None:
    failed(merchant, webhook)
    sent = forms(editor.get(HERE))["send"]
    assert re.fullmatch(r"\d+\.\d{6}", sent["since"]), "a moment, for 24 hours move on"


def test_a_count_by_htmx_is_a_part_whose_address_can_be_shared(
    editor: FlaskClient, merchant: Merchant, webhook: Webhook
) -> None:
    failed(merchant, webhook)
    part = editor.get(f"{HERE}?state=failed&since=2d&status=", headers=PART)
    assert "<html" not in part.text
    assert "1 failed delivery" in part.text
    assert part.headers["HX-Push-Url"] == f"{HERE}?state=failed&since=2d"


def test_where_nothing_failed_nothing_can_be_sent(editor: FlaskClient, webhook: Webhook) -> None:
    page = editor.get(HERE)
    assert "Nothing failed like that" in page.text
    assert forms(page) == {}


@pytest.mark.parametrize(
    "asked", ["since=nonsense", "webhook_id=wh_none", "status=abc", "state=odd", "zone=Atlantis"]
)
def test_a_wrong_filter_is_said_and_counts_nothing(
    editor: FlaskClient, merchant: Merchant, webhook: Webhook, asked: str
) -> None:
    failed(merchant, webhook)
    page = editor.get(f"{HERE}?{asked}")
    assert page.status_code == 422
    assert "alert bad" in page.text
    assert forms(page) == {}


def test_discarding_what_is_held_asks_first(
    editor: FlaskClient, merchant: Merchant, webhook: Webhook
) -> None:
    hold(webhook)
    make_deliveries(merchant, webhook, 4, "pending")
    page = editor.get(f"{HERE}?state=held")
    assert "4 held deliveries" in page.text
    assert "Discard what is held? It is never sent" in page.text
    assert {"send", "discard"} == set(forms(page))
    shown = editor.post(HERE, data=forms(page)["discard"], follow_redirects=True)
    assert "4 of 4 discarded" in shown.text
    assert states() == {"discarded": 4}


def test_neither_sent_nor_discarded_is_refused(editor: FlaskClient, webhook: Webhook) -> None:
    for action in ("", "delete"):
        answer = editor.post(HERE, data={"action": action, "state": "failed"})
        assert answer.status_code == 422
        assert "Choose whether to send or to discard" in answer.text


def test_many_go_on_in_the_background_and_can_be_paused_resumed_and_cancelled(
    editor: FlaskClient, merchant: Merchant, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "RUN_SECONDS", 0.0)
    make_deliveries(merchant, webhook, 2_200)
    page = editor.get(HERE)
    assert "1,000+ failed deliveries" in page.text
    address = begin(editor)
    shown = editor.get(address)
    assert "Counting …" in shown.text
    assert 'hx-trigger="every 2s"' in shown.text

    def work() -> None:
        db.session.rollback()
        row = db.session.scalars(sa.select(Recovery)).one()
        jobs.recover(row.id, row.token)

    work()
    shown = editor.get(address, headers=PART)
    assert "<html" not in shown.text
    assert f"{batches.BATCH} of 2,200 on their way" in shown.text
    assert 'value="500" max="2200"' in shown.text
    assert "HX-Reswap" not in shown.headers

    paused = editor.post(f"{address}/pause", follow_redirects=True)
    assert "It waits until someone resumes it" in paused.text
    work()
    assert states()["pending"] == batches.BATCH
    assert "It goes on" in editor.post(f"{address}/resume", follow_redirects=True).text
    work()
    cancelled = editor.post(f"{address}/cancel", follow_redirects=True)
    assert "The rest was left as it is" in cancelled.text
    assert 'hx-trigger="every 2s"' not in cancelled.text
    assert states() == {"failed": 2_200 - 2 * batches.BATCH, "pending": 2 * batches.BATCH}
    # The part that asks again and again gives way to one that does not.
    assert editor.get(address, headers=PART).headers["HX-Reswap"] == "outerHTML"
    for change in ("pause", "resume", "cancel"):
        late = editor.post(f"{address}/{change}")
        assert late.status_code == 409
        assert "This recovery is cancelled" in late.text
    assert "1,000 of 2,200" in editor.get(HERE).text, "it is listed with how far it came"


def test_sent_twice_it_is_one(editor: FlaskClient, merchant: Merchant, webhook: Webhook) -> None:
    make_deliveries(merchant, webhook, 1_200)
    fields = {"webhook_id": webhook.id, "since": "24h"}
    assert begin(editor, **fields) == begin(editor, **fields)
    db.session.rollback()
    assert len(db.session.scalars(sa.select(Recovery)).all()) == 1


def test_one_of_a_disabled_webhook_is_told_what_to_do(
    editor: FlaskClient, merchant: Merchant, webhook: Webhook
) -> None:
    failed(merchant, webhook)
    webhook.disable("Too loud.")
    db.session.commit()
    page = editor.get(f"{HERE}?webhook_id={webhook.id}&state=failed")
    assert "Enable first what should get it." in page.text
    assert forms(page) == {}
    answer = editor.post(HERE, data={"action": "send", "state": "failed", "webhook_id": webhook.id})
    assert answer.status_code == 409
    assert "enable it first" in answer.text


def test_another_merchants_recovery_is_as_one_that_does_not_exist(
    editor: FlaskClient, merchant: Merchant
) -> None:
    bob = make_merchant("bob")
    theirs = make_webhook(bob, description="Bob's own")
    failed(bob, theirs, 2)
    started, _count = recovery.start(
        bob.id, Selection("send", ("failed",), theirs.id), "user:bob@example.com"
    )
    for way in ("", "/pause", "/resume", "/cancel"):
        answers = []
        # A page's form token holds the second in which it was made.
        with time_machine.travel(time.time(), tick=False):
            for recovery_id in (started.id, "rcv_none"):
                call = editor.post if way else editor.get
                answer = call(f"{HERE}/{recovery_id}{way}")
                answers.append((answer.status_code, answer.text.replace(recovery_id, "")))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
        assert "Bob" not in answers[0][1]
    for webhook_id in (theirs.id, "wh_none"):
        refused = editor.post(
            HERE, data={"action": "send", "state": "failed", "webhook_id": webhook_id}
        )
        assert refused.status_code == 404
    assert "Nothing failed like that" in editor.get(HERE).text
    assert editor.get("/m/bob/recover").status_code == 404


def test_a_viewer_sees_and_starts_nothing(
    signed_in: SignIn, editor: FlaskClient, merchant: Merchant, webhook: Webhook
) -> None:
    make_deliveries(merchant, webhook, 1_200)
    viewer = signed_in("viewer")
    db.session.rollback()
    page = viewer.get(HERE)
    assert "1,000+ failed deliveries" in page.text
    assert forms(page) == {}
    assert viewer.post(HERE, data={"action": "send", "state": "failed"}).status_code == 403
    address = begin(editor)
    assert "Pause</button>" not in viewer.get(address).text
    for change in ("pause", "resume", "cancel"):
        assert viewer.post(f"{address}/{change}").status_code == 403
    db.session.rollback()
    assert db.session.scalars(sa.select(Recovery.state)).one() == "running"
    assert db.session.scalars(
        sa.select(AuditEntry.action).where(AuditEntry.action.like("recovery.%"))
    ).all() == ["recovery.started"]
