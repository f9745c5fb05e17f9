"""People are told: in the portal at once, and by mail over a real server on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask, current_app
from flask.testing import FlaskClient
from werkzeug.datastructures import MultiDict

from portal.clock import DAY, HOUR, MINUTE, SECOND, now
from portal.counts import overview
from portal.db.session import db, writing
from portal.delivery.health import Changed, Health, store
from portal.errors import Invalid
from portal.events import ingest
from portal.models import Mail, Merchant, Notice, OperationsEntry, User, Webhook
from portal.notices import choices, gathering, mail, notices
from portal.people import accounts, members
from portal.webhooks import setup
from tests.conftest import on_both_databases
from tests.factories import make_merchant, make_user, make_webhook
from tests.mailbox import Mailbox
from tests.receiver import Receiver

HELD = Health(failures=20, failing_since=1, held_at=2, next_probe_at=3)


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    # A run ends after five seconds, in which a busy machine sends a few.
    monkeypatch.setattr(mail, "RUN_SECONDS", 60)
    mailbox = Mailbox()
    yield mailbox
    mailbox.close()


@pytest.fixture
def settings(mailbox: Mailbox) -> dict[str, str]:
    return {
        "SMTP_URL": f"smtp://127.0.0.1:{mailbox.port}",
        "MAIL_FROM": "Webhooks <hooks@example.com>",
        "PUBLIC_URL": "https://hooks.example.com",
    }


def change(webhook: Webhook, before: Health, after: Health) -> None:
    """What the engine does when attempts have changed a webhook's health."""
    changed = Changed(
        webhook.id, webhook.merchant_id, webhook.lane, before, after, webhook.updated_at, now()
    )
    with writing() as session:
        store(session, changed, current_app.config["PORTAL"])


def make_all_due() -> None:
    with writing() as session:
        session.execute(sa.update(Mail).values(next_attempt_at=now()))


def send() -> int:
    make_all_due()
    return mail.send_due()


def waiting() -> list[Mail]:
    db.session.rollback()
    return list(db.session.scalars(sa.select(Mail).order_by(Mail.id)))


@on_both_databases
def test_owners_and_editors_are_told_that_a_webhook_is_held_and_until_when(
    merchant: Merchant, mailbox: Mailbox
):
    for role in ("owner", "editor", "viewer"):
        make_user(role, merchant, email=f"{role}@example.com")
    make_user("owner", make_merchant("bob"), email="bob@example.com")
    webhook = make_webhook(merchant, "https://erp.example.com/hook/canary-9f3c7d", description="")
    change(webhook, Health(), HELD)
    assert send() == 2
    assert sorted(mailbox.recipients) == ["editor@example.com", "owner@example.com"]
    message = mailbox.messages[0]
    assert message["Subject"] == "[alice's store] erp.example.com: deliveries are held"
    assert message["From"] == "Webhooks <hooks@example.com>"
    text = message.get_content()
    assert "will be disabled on 1970-01-06 00:00:00 UTC" in text
    assert f"https://hooks.example.com/m/alice/webhooks/{webhook.id}" in text
    assert "https://hooks.example.com/account" in text
    assert "canary" not in message.as_string()
    assert waiting() == []
    assert mail.send_due() == 0


def _enabled(webhook: Webhook) -> None:
    setup.enable(webhook.merchant_id, webhook.id, "user:owner@example.com")


def _disabled_and_enabled_by_an_edit(webhook: Webhook) -> None:
    for enabled in (False, True):
        setup.update_webhook(
            webhook.merchant_id, webhook.id, {"enabled": enabled}, "user:owner@example.com"
        )


def _deleted(webhook: Webhook) -> None:
    setup.delete(webhook.merchant_id, webhook.id, "user:owner@example.com")


@on_both_databases
@pytest.mark.parametrize("by", [_enabled, _disabled_and_enabled_by_an_edit, _deleted])
def test_what_was_told_of_failures_is_over_once_a_person_enables_or_deletes_the_webhook(
    merchant: Merchant, by: Callable[[Webhook], None]
):
    webhook, other = (make_webhook(merchant, "https://receiver.example.com/") for _ in range(2))
    for failing in (webhook, other):
        change(failing, Health(), HELD)
    assert len(overview.open_notices(merchant.id)) == 2
    by(webhook)
    (left,) = overview.open_notices(merchant.id)
    assert left.webhook_id == other.id


@on_both_databases
def test_what_happens_together_is_told_in_one_mail(merchant: Merchant, mailbox: Mailbox):
    make_user("owner", merchant, email="ann@example.com")
    for number in range(gathering.SHOWN + 3):
        change(make_webhook(merchant, description=f"ERP {number}"), Health(), HELD)
    assert mail.send_due() == 0, "a notice waits a moment for others"
    assert send() == 1
    (message,) = mailbox.messages
    assert message["Subject"] == "[alice's store] 23 notices about webhooks"
    assert "ERP 19: The last 20 attempts failed." in message.get_content()
    assert "And 3 more: https://hooks.example.com/m/alice/" in message.get_content()


def test_everyone_chooses_what_they_are_told(
    merchant: Merchant, mailbox: Mailbox, signed_in: Callable[[str], FlaskClient]
):
    client = signed_in("viewer")
    db.session.rollback()
    user = db.session.scalars(sa.select(User)).one()
    assert choices.chosen(user) == {merchant.id: ()}
    form = MultiDict([("kinds", "disabled"), ("kinds", "recovered")])
    assert client.post("/account/notices/alice", data=form).status_code == 303
    page = client.get("/account").text
    assert page.count(" checked") == 2
    assert user.email in page
    db.session.rollback()
    webhook = make_webhook(merchant)
    change(webhook, Health(), HELD)
    change(webhook, HELD, Health())
    assert send() == 1
    assert "works again" in mailbox.messages[0]["Subject"]
    assert client.post("/account/notices/alice", data={}).status_code == 303
    change(webhook, HELD, Health())
    assert send() == 0
    assert waiting() == []


def test_a_kind_that_does_not_exist_is_refused(merchant: Merchant):
    user = make_user("owner", merchant)
    with pytest.raises(Invalid):
        choices.choose(user, merchant, ["held", "everything"])
    assert set(choices.chosen(user)[merchant.id]) == set(choices.KINDS)


def test_who_left_or_is_disabled_is_told_nothing(merchant: Merchant):
    gone = make_user("owner", merchant)
    gone.disable()
    db.session.commit()
    change(make_webhook(merchant), Health(), HELD)
    assert send() == 0
    assert waiting() == []


def test_who_leaves_before_a_notice_is_handed_out_is_told_nothing(
    merchant: Merchant, mailbox: Mailbox
):
    make_user("owner", merchant, email="ann@example.com")
    gone = make_user("owner", merchant, email="bob@example.com")
    ended = make_user("owner", merchant, email="carl@example.com")
    change(make_webhook(merchant), Health(), HELD)
    gone.memberships = []
    ended.disable()
    db.session.commit()
    assert send() == 1
    assert mailbox.recipients == ["ann@example.com"]


@on_both_databases
def test_what_waits_for_a_server_that_is_away_is_not_sent_to_who_left_meanwhile(
    merchant: Merchant, mailbox: Mailbox
):
    webhook = make_webhook(merchant, description="ERP")
    bob, carol, _ = (
        make_user("editor", merchant, email=f"{name}@example.com")
        for name in ("bob", "carol", "dora")
    )
    mailbox.answers["EHLO"] = mailbox.answers["HELO"] = "451 later"
    change(webhook, Health(), HELD)
    assert send() == 0
    assert {mail.to_email for mail in waiting()} == {
        f"{name}@example.com" for name in ("bob", "carol", "dora")
    }
    members.remove_member(merchant, bob.id, "cli")
    accounts.disable_user(db.session.get_one(User, carol.id), "cli")
    mailbox.answers.clear()
    assert send() == 1
    assert mailbox.recipients == ["dora@example.com"]
    assert waiting() == []


@on_both_databases
def test_a_webhook_that_will_be_disabled_within_a_day_is_told_of_once(
    merchant: Merchant, mailbox: Mailbox
):
    make_user("owner", merchant, email="ann@example.com")
    moment, config = now(), current_app.config["PORTAL"]
    late = moment - (config.disable_after_days - 1) * DAY - HOUR
    make_webhook(merchant, held_at=late, failing_since=late, failures=90)
    soon = moment - (config.disable_after_days - 1) * DAY + HOUR
    make_webhook(merchant, held_at=soon, failing_since=soon, failures=90)
    make_webhook(merchant, held_at=late, failing_since=late, enabled=False)
    assert notices.warn_of_ends() == 1
    assert notices.warn_of_ends() == 0
    notice = db.session.scalars(sa.select(Notice)).one()
    assert notice.kind == "ending"
    assert "events that come from then on are not sent to it" in notice.message
    assert send() == 1
    assert "will be disabled on" in mailbox.messages[0].get_content()
    assert notices.warn_of_ends(moment + 3 * HOUR) == 1


@pytest.mark.parametrize("settings", [{}], ids=["no mail"])
def test_without_a_server_the_portal_tells_and_no_mail_piles_up(
    app: Flask, merchant: Merchant, signed_in: Callable[[str], FlaskClient]
):
    client = signed_in("owner")
    db.session.rollback()
    change(make_webhook(merchant), Health(), HELD)
    assert waiting() == []
    assert "The last 20 attempts failed." in client.get("/m/alice/").text
    assert "sends no mail yet" in client.get("/account").text


def test_names_cannot_write_headers(merchant: Merchant, mailbox: Mailbox):
    merchant.name = "Ann\r\nBcc: eve@example.com\r\n\r\n<b>Pay</b>"
    db.session.commit()
    make_user("owner", merchant, email="ann@example.com")
    for _ in range(2):
        change(make_webhook(merchant, description="x\nBcc: eve@example.com\u2028y"), Health(), HELD)
    change(make_webhook(make_merchant("bob")), Health(), HELD)
    assert send() == 1
    make_user("owner", merchant, email="zoe@example.com")
    change(make_webhook(merchant, description="x\r\nBcc: eve@example.com"), Health(), HELD)
    assert send() == 2
    for message in mailbox.messages:
        assert message["Bcc"] is None
        assert set(message.keys()) == {
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "Auto-Submitted",
            "Content-Type",
            "Content-Transfer-Encoding",
            "MIME-Version",
        }
    assert "eve@example.com" not in mailbox.recipients


def test_a_mail_in_the_database_cannot_be_read(merchant: Merchant):
    make_user("owner", merchant)
    change(make_webhook(merchant, description="Canary"), Health(), HELD)
    assert "Canary" not in waiting()[0].body_token


@on_both_databases
def test_a_server_that_is_busy_is_tried_again_later_with_the_same_message(
    merchant: Merchant, mailbox: Mailbox
):
    make_user("owner", merchant, email="ann@example.com")
    change(make_webhook(merchant), Health(), HELD)
    mailbox.answers = {"DATA": "451 try later"}
    assert send() == 0
    (kept,) = waiting()
    assert (kept.attempts, kept.last_error) == (1, "451 try later")
    assert now() < kept.next_attempt_at <= now() + mail.RETRIES[0]
    assert mail.send_due() == 0
    mailbox.answers = {}
    assert send() == 1
    assert waiting() == []


def test_a_server_that_closes_at_one_mail_costs_the_next_no_try(
    merchant: Merchant, mailbox: Mailbox
):
    """A 421, at which smtplib closes: the next mail was never offered, seven times."""
    with writing() as session:
        for number in range(3):
            session.add(Mail.make(f"u{number}@example.com", f"number {number}", "text"))
    mailbox.answers = {"MAIL": "421 too many"}
    assert mail.send_due() == 0
    assert [one.attempts for one in waiting()] == [1, 0, 0]
    mailbox.answers = {}
    assert mail.send_due() == 2


def test_who_was_tried_in_vain_comes_after_all_others(merchant: Merchant, mailbox: Mailbox):
    make_user("owner", merchant, email="ann@example.com")
    moment = now() - MINUTE
    with writing() as session:
        tried = Mail.make("tarpit@example.com", "tried before", "text")
        tried.attempts = 1
        notice = Mail.make("ann@example.com", "a notice", "text", merchant_id=merchant.id)
        reset = Mail.make("bob@example.com", "Choose another password", "A link.")
        for one in (tried, notice, reset):
            one.next_attempt_at = moment
            session.add(one)
            session.flush()
    assert mail.send_due() == 3
    assert mailbox.recipients == ["bob@example.com", "ann@example.com", "tarpit@example.com"]


def test_a_new_mail_is_not_given_up_with_an_old_one(merchant: Merchant, mailbox: Mailbox):
    make_user("owner", merchant, email="ann@example.com")
    with writing() as session:
        for subject, attempts in (("old", len(mail.RETRIES)), ("new", 0)):
            one = Mail.make("ann@example.com", subject, "text", merchant_id=merchant.id)
            one.attempts = attempts
            session.add(one)
    mailbox.answers = {"DATA": "451 try later"}
    assert mail.send_due() == 0
    (kept,) = waiting()
    assert (kept.subject, kept.attempts) == ("new", 1)
    assert "“old”" in db.session.scalars(sa.select(OperationsEntry)).one().message


def test_a_server_that_is_away_is_given_up_in_the_end_and_the_operations_log_says_so(
    merchant: Merchant, mailbox: Mailbox
):
    make_user("owner", merchant, email="ann@example.com")
    change(make_webhook(merchant), Health(), HELD)
    mailbox.close()
    for _ in range(len(mail.RETRIES)):
        assert send() == 0
    assert len(waiting()) == 1
    send()
    assert waiting() == []
    entry = db.session.scalars(sa.select(OperationsEntry)).one()
    assert entry.message.startswith("Gave up telling ann@example.com “[alice's store] ERP:")
    assert "refused" in entry.message


def test_an_address_that_does_not_exist_keeps_nobody_else_waiting(
    merchant: Merchant, mailbox: Mailbox
):
    make_user("owner", merchant, email="ann@example.com")
    change(make_webhook(merchant), Health(), HELD)
    mailbox.answers = {"RCPT": "550 no such user"}
    assert send() == 0
    assert waiting() == []
    assert "550 no such user" in db.session.scalars(sa.select(OperationsEntry)).one().message


def test_a_server_that_hangs_holds_the_worker_for_seconds_only(
    merchant: Merchant, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
):
    for number in range(5):
        make_user("owner", merchant, email=f"ann{number}@example.com")
    change(make_webhook(merchant), Health(), HELD)
    monkeypatch.setattr(mail, "TIMEOUT_SECONDS", 0.3)
    mailbox.delay = 2
    make_all_due()
    started = now()
    assert mail.send_due() == 0
    assert now() - started < 1.5 * 1_000_000
    assert {row.attempts for row in waiting()} == {1}


class _Dripping(threading.Thread):
    """An SMTP server that answers until a step, and that byte by byte, for ever; with `is_tls` it
    drips what looks like the start of TLS."""

    def __init__(self, step: str, is_tls: bool = False) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._step = step
        # A record of TLS whose 16,000 bytes come one by one.
        self._start = bytes([22, 3, 3, 0x3E, 0x80]) if is_tls else b""

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with contextlib.suppress(OSError), connection:
            if self._step != "greeting":
                connection.sendall(b"220 hello\r\n")
                while self._step not in (said := connection.recv(1_000).decode()):
                    more = b"250-AUTH PLAIN\r\n" if "EHLO" in said else b""
                    connection.sendall(more + b"250 ok\r\n")
            connection.sendall(self._start)
            for _ in range(300):
                connection.sendall(b"2")
                time.sleep(0.1)


@pytest.mark.parametrize(
    ("scheme", "step"),
    [
        ("smtp", "greeting"),
        ("smtp", "EHLO"),
        ("smtp", "AUTH"),
        ("smtp", "MAIL"),
        ("smtps", "greeting"),
    ],
)
def test_a_server_that_answers_byte_by_byte_is_left_in_time(
    merchant: Merchant,
    mailbox: Mailbox,
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    step: str,
):
    make_user("owner", merchant, email="ann@example.com")
    change(make_webhook(merchant), Health(), HELD)
    make_all_due()
    server = _Dripping(step, is_tls=scheme == "smtps")
    server.start()
    user = "ann:secret@" if step == "AUTH" else ""
    url = f"{scheme}://{user}127.0.0.1:{server.port}"
    monkeypatch.setitem(
        app.config, "PORTAL", dataclasses.replace(app.config["PORTAL"], smtp_url=url)
    )
    monkeypatch.setattr(mail, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(mail, "RUN_SECONDS", 0.5)
    started = time.monotonic()
    assert mail.send_due() == 0
    assert time.monotonic() - started < 3
    assert [row.attempts for row in waiting()] == [1]


class _Flooding(threading.Thread):
    """An SMTP server whose reply to EHLO has no end; `sent` is how many bytes of it went out."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.sent = 0

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with contextlib.suppress(OSError), connection:
            connection.sendall(b"220 hello\r\n")
            connection.recv(1_000)
            while True:
                self.sent += connection.send(b"250-x\r\n" * 1_000)


def test_a_server_whose_reply_has_no_end_is_left_before_it_fills_the_memory(
    merchant: Merchant, mailbox: Mailbox, app: Flask, monkeypatch: pytest.MonkeyPatch
):
    make_user("owner", merchant, email="ann@example.com")
    change(make_webhook(merchant), Health(), HELD)
    make_all_due()
    server = _Flooding()
    server.start()
    url = f"smtp://127.0.0.1:{server.port}"
    monkeypatch.setitem(
        app.config, "PORTAL", dataclasses.replace(app.config["PORTAL"], smtp_url=url)
    )
    monkeypatch.setattr(mail, "TIMEOUT_SECONDS", 2)
    monkeypatch.setattr(mail, "RUN_SECONDS", 0)
    assert mail.send_due() == 0
    server.join(5)
    # What lies in the buffers of both sockets is the kernel's.
    assert server.sent < 10_000_000
    (row,) = waiting()
    assert row.attempts == 1
    assert "more than 65,536 bytes" in (row.last_error or "")


def test_a_server_that_refuses_the_greeting_is_sent_nothing(merchant: Merchant, mailbox: Mailbox):
    make_user("owner", merchant, email="ann@example.com")
    change(make_webhook(merchant), Health(), HELD)
    mailbox.answers["EHLO"] = "421 not now"
    make_all_due()
    assert mail.send_due() == 0
    assert len(mailbox.commands) == 1
    assert [row.last_error for row in waiting()] == ["421 not now"]


def test_a_server_that_takes_long_to_greet_gets_one_message_a_run(
    merchant: Merchant, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
):
    for name in ("ann", "bob"):
        make_user("owner", merchant, email=f"{name}@example.com")
    change(make_webhook(merchant), Health(), HELD)
    monkeypatch.setattr(mail, "RUN_SECONDS", 0.1)
    mailbox.delay = 0.2
    assert [send(), send()] == [1, 1]
    assert waiting() == []


@on_both_databases
def test_a_notice_that_cannot_be_read_or_composed_takes_no_other_with_it(
    merchant: Merchant, mailbox: Mailbox
):
    make_user("owner", merchant, email="ann@example.com")
    for number in range(4):
        change(make_webhook(merchant, description=f"Hook {number}"), Health(), HELD)
    mails = waiting()
    mails[1].body_token = "under another key"
    mails[2].subject = "=?utf-7?q?+2AA-?="
    db.session.commit()
    assert send() == 1
    (message,) = mailbox.messages
    text = message.get_content()
    assert ["Hook 0" in text, "Hook 1" in text, "Hook 3" in text] == [True, False, True]
    assert waiting() == []
    told = [entry.message for entry in db.session.scalars(sa.select(OperationsEntry)).all()]
    assert sum("no secret key of the portal can read it" in message for message in told) == 1
    assert len(told) == 2 - ("Hook 2" in text), "one that a newer Python composes is sent"


@pytest.mark.parametrize(
    "description",
    [
        "=?utf-8?q?=0D=0AReply-To:_mallory=40evil.example?= and on",
        "=?utf-8?q?=0D=0ABcc:_mallory=40evil.example=0D=0A=0D=0APay_here?=",
        "=?utf-8?b?DQpCY2M6IG1hbGxvcnlAZXZpbC5leGFtcGxl?=",
        "=?utf-7?q?+2AA-?=",
        "=?",
        "\ud800?",
        "Größe " * 60,
        "plain " * 60,
    ],
)
def test_what_others_wrote_is_a_subject_letter_for_letter_and_no_header(
    merchant: Merchant, mailbox: Mailbox, description: str
):
    owner = make_user("owner", merchant, email="ann@example.com")
    with writing() as session:
        session.add(Mail.make(owner.email, description, "Hello", merchant.id))
    assert send() == 1
    (message,) = mailbox.messages
    written = description.encode(errors="replace").decode().replace("??", "?")
    assert str(message["Subject"]).strip() == written[:300].strip()
    assert sorted(message.keys()) == [
        "Auto-Submitted",
        "Content-Transfer-Encoding",
        "Content-Type",
        "Date",
        "From",
        "MIME-Version",
        "Message-ID",
        "Subject",
        "To",
    ]
    assert message.get_content().startswith("Hello")


def test_a_worker_killed_while_sending_delays_a_mail_and_loses_none(
    merchant: Merchant, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
):
    make_user("owner", merchant, email="ann@example.com")
    change(make_webhook(merchant), Health(), HELD)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(mail, "_send", die)
        with pytest.raises(KeyboardInterrupt):
            send()
    (kept,) = waiting()
    assert 0 < kept.next_attempt_at - now() <= 5 * MINUTE
    assert mail.send_due() == 0, "another worker leaves it alone meanwhile"
    assert send() == 1


def test_a_password_is_not_sent_without_tls_over_a_network(
    app: Flask, merchant: Merchant, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
):
    make_user("owner", merchant)
    change(make_webhook(merchant), Health(), HELD)
    url = f"smtp://ann:secret%20word@127.0.0.1:{mailbox.port}"
    config = dataclasses.replace(app.config["PORTAL"], smtp_url=url)
    monkeypatch.setitem(app.config, "PORTAL", config)
    with monkeypatch.context() as patched:
        patched.setattr(mail, "_is_this_machine", lambda _host: False)
        assert send() == 0
    assert not any(command.startswith("AUTH") for command in mailbox.commands)
    assert "offers no TLS" in (waiting()[0].last_error or "")
    assert send() == 1
    assert any(command.startswith("AUTH PLAIN") for command in mailbox.commands)


@pytest.mark.engine
def test_the_running_workers_hold_a_failing_webhook_and_mail_its_owner(
    merchant: Merchant,
    mailbox: Mailbox,
    receiver: Receiver,
    processes: Callable[..., subprocess.Popen[bytes]],
    wait_for: Callable[..., None],
):
    make_user("owner", merchant, email="ann@example.com")
    make_webhook(merchant, receiver.url(), description="Warehouse")
    receiver.always = 500
    for part in ("deliver", "maintenance"):
        processes("worker.py", "--part", part)
    event = {"type": "order.created", "object_id": "1000", "data": {}}
    ingest.ingest_events(merchant.id, [event] * 25, batch=True)
    wait_for(waiting)
    make_all_due()
    processes("worker.py", "--part", "cron")
    wait_for(lambda: mailbox.messages)
    assert "Warehouse: deliveries are held" in mailbox.messages[0]["Subject"]


@on_both_databases
def test_many_notices_of_one_merchant_delay_no_other_mail(
    merchant: Merchant, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mail, "BATCH", 6)
    other = make_merchant("bob")
    make_user("owner", other, email="owner@bob.example")
    for number in range(30):
        make_user("owner", merchant, email=f"{number}@alice.example")
    with writing() as session:
        for number in range(30):
            session.add(Mail.make(f"{number}@alice.example", "Held", "…", merchant.id))
        session.add(Mail.make("owner@bob.example", "Held", "…", other.id))
        session.add(Mail.make("ann@example.com", "Choose another password", "…"))
    assert mail.send_due() == 6
    assert mailbox.recipients[0] in ("ann@example.com", "0@alice.example")
    assert {"owner@bob.example", "ann@example.com"} < set(mailbox.recipients)
    for _ in range(5):
        mail.send_due()
    assert len(set(mailbox.recipients)) == 32


@on_both_databases
def test_webhooks_that_come_and_go_all_day_make_few_mails(merchant: Merchant, mailbox: Mailbox):
    make_user("owner", merchant, email="ann@example.com")
    webhook, config = make_webhook(merchant), current_app.config["PORTAL"]
    start = now() // HOUR * HOUR
    with time_machine.travel(start / SECOND, tick=False) as clock:
        for minute in range(150):
            clock.move_to((start + minute * MINUTE) / SECOND)
            with writing() as session:
                kind = ("held", "recovered")[minute % 2]
                notices.notify(session, merchant.id, webhook.id, kind, "It flaps.", now(), config)
            mail.send_due()
        # Each of the first, then all of ten minutes together, then all of an hour.
        assert 6 <= len(mailbox.messages) <= 14
        # What waits of one merchant for one address is bounded.
        for _ in range(2 * gathering.MOST_WAITING):
            with writing() as session:
                notices.notify(session, merchant.id, webhook.id, "held", "It flaps.", now(), config)
        assert len(waiting()) == gathering.MOST_WAITING


@on_both_databases
def test_a_notice_is_one_row_however_many_are_told_and_each_gets_one_mail(
    merchant: Merchant, mailbox: Mailbox
):
    people = [f"{number}@example.com" for number in range(30)]
    for email in people:
        make_user("owner", merchant, email=email)
    for number in range(20):
        change(make_webhook(merchant, description=f"ERP {number}"), Health(), HELD)
    assert len(waiting()) == 20
    assert mail.send_due() == 0
    assert send() == 30
    assert sorted(mailbox.recipients) == sorted(people)
    assert {str(one["Subject"]) for one in mailbox.messages} == {
        "[alice's store] 20 notices about webhooks"
    }
    assert waiting() == []


@on_both_databases
def test_webhooks_that_are_made_fail_and_are_deleted_all_day_make_few_mails(
    merchant: Merchant, mailbox: Mailbox
):
    """Their notices are replaced by none."""
    make_user("owner", merchant, email="ann@example.com")
    config = current_app.config["PORTAL"]
    start = now() // HOUR * HOUR
    with time_machine.travel(start / SECOND, tick=False) as clock:
        for turn in range(360):
            clock.move_to((start + turn * 10 * SECOND) / SECOND)
            webhook = make_webhook(merchant)
            with writing() as session:
                notices.notify(
                    session, merchant.id, webhook.id, "disabled", "It is gone.", now(), config
                )
            webhook.deleted_at = now()
            db.session.commit()
            if turn % 2:
                mail.send_due()
    assert 5 <= len(mailbox.messages) <= 12


@on_both_databases
def test_many_mails_to_one_address_delay_no_other_and_are_one(
    merchant: Merchant, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mail, "BATCH", 3)
    moment = now() - MINUTE
    with writing() as session:
        for number in range(30):
            flood = Mail.make("ann@example.com", "Check it", f"number {number}")
            flood.next_attempt_at = moment
            session.add(flood)
        for number in range(9):
            session.add(Mail.make("bob@example.com", "Of its own", f"number {number}"))
        session.add(Mail.make("carl@example.com", "Choose another password", "A link."))
    assert mail.send_due() == 3
    assert sorted(set(mailbox.recipients)) == [
        f"{name}@example.com" for name in ("ann", "bob", "carl")
    ]
    flood_message = next(one for one in mailbox.messages if one["To"] == "ann@example.com")
    assert "number 19" in flood_message.get_content()
    assert "And 10 more: https://hooks.example.com/account" in flood_message.get_content()
    while mail.send_due():
        pass
    assert len(mailbox.messages) == 11


@pytest.mark.parametrize("said", ["334 a", "334 aGFsbG8="])
def test_a_server_that_says_what_it_should_not_is_a_failure_that_is_tried_again(
    merchant: Merchant, mailbox: Mailbox, app: Flask, said: str
):
    """What smtplib makes of it, such as ValueError, came out of the job."""
    config = app.config["PORTAL"]
    app.config["PORTAL"] = dataclasses.replace(
        config, smtp_url=config.smtp_url.replace("smtp://", "smtp://ann:p%C3%A4ss@")
    )
    mailbox.answers["AUTH"] = said
    with writing() as session:
        session.add(Mail.make("ann@example.com", "Hello", "text"))
    assert mail.send_due() == 0
    (tried,) = waiting()
    assert tried.attempts == 1
    assert tried.last_error
    assert tried.next_attempt_at > now()


def test_notices_of_a_webhook_that_comes_and_goes_do_not_pile_up(merchant: Merchant):
    webhook, config = make_webhook(merchant), current_app.config["PORTAL"]
    start = now()
    for number in range(20):
        with writing() as session:
            notices.notify(
                session,
                merchant.id,
                webhook.id,
                ("held", "recovered")[number % 2],
                "It flaps.",
                start + number * HOUR * 12,
                config,
            )
    kept = db.session.scalars(sa.select(Notice).order_by(Notice.at)).all()
    assert len(kept) <= 2 * notices.KEPT_AFTER // (12 * HOUR)
    assert [one.kind for one in kept if one.dismissed_at is None] == ["recovered"]
