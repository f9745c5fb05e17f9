"""Who signs in is told by mail of each change to what they sign in with."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from portal.audit import log
from portal.clock import SECOND, now
from portal.db.session import db, writing
from portal.errors import Invalid
from portal.models import Mail, Passkey, User
from portal.notices import account_notices, mail
from portal.notices.account_notices import CHANGES
from portal.people import accounts, passkeys, resets, second_factor
from tests.authenticator import Authenticator
from tests.conftest import PASSWORD, on_both_databases
from tests.factories import make_user
from tests.mailbox import Mailbox

NEW = "a new password"
KEY = b"12345678901234567890"
HERE = {"REMOTE_ADDR": "203.0.113.5"}


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    yield mailbox
    mailbox.close()


@pytest.fixture
def settings(mailbox: Mailbox) -> dict[str, str]:
    return {
        "SMTP_URL": f"smtp://127.0.0.1:{mailbox.port}",
        "MAIL_FROM": "hooks@example.com",
        "PUBLIC_URL": "http://localhost:8000",
    }


@pytest.fixture
def ann(app: object) -> User:
    return make_user("viewer", email="ann@example.com", password=PASSWORD)


def turn_on(user: User) -> None:
    code = second_factor.code_at(KEY, now() // (30 * SECOND))
    second_factor.turn_on(user, base64.b32encode(KEY).decode(), code, PASSWORD)


def add_passkey(user: User) -> Authenticator:
    device = Authenticator("http://localhost:8000")
    challenge = passkeys.Challenge.make()
    answer = device.create({"rp": {"id": "localhost"}, "challenge": challenge.keep()[0]})
    passkeys.add(user, "blue key", answer, PASSWORD, challenge)
    return device


def sign_in_with(user: User, device: Authenticator) -> bool:
    challenge = passkeys.Challenge.make()
    answer = device.get({"rpId": "localhost", "challenge": challenge.keep()[0]})
    return passkeys.check(user, answer, challenge)


def has_passkey(user: User) -> None:
    with writing():
        user.passkeys.append(Passkey.make("blue key", b"credential", b"key", 0))


def remove_passkey(user: User) -> None:
    passkeys.remove(user, passkeys.passkeys(user)[0].id, PASSWORD)


def use_link(user: User) -> None:
    resets.choose(resets.make_link(user, "cli").rpartition("/")[2], NEW, NEW)


def nothing(user: User) -> None:
    pass


STEPS: dict[str, tuple[Callable[[User], object], Callable[[User], object], str]] = {
    "user.second_factor_on": (nothing, turn_on, "Codes of an app were made the second factor"),
    "user.second_factor_off": (
        has_passkey,
        lambda user: second_factor.turn_off(user, PASSWORD),
        "was turned off",
    ),
    "user.recovery_codes_renewed": (
        has_passkey,
        lambda user: second_factor.renew_codes(user, PASSWORD),
        "were made anew",
    ),
    "user.passkey_added": (nothing, add_passkey, "“blue key” was added"),
    "user.passkey_removed": (has_passkey, remove_passkey, "“blue key” was removed"),
    "user.password_changed": (
        nothing,
        lambda user: accounts.change_own_password(user, PASSWORD, NEW, NEW),
        "password of your account was changed",
    ),
    "user.password_reset": (nothing, use_link, "was changed by a link"),
}


@pytest.mark.parametrize("action", STEPS)
def test_each_change_is_told_with_its_time_and_address_and_what_to_do(
    app: Flask, ann: User, mailbox: Mailbox, action: str
) -> None:
    before, change, words = STEPS[action]
    before(ann)
    with time_machine.travel(1_800_000_000, tick=False):
        with app.test_request_context(environ_base=HERE):
            change(ann)
        assert mail.send_due() == 1
    (message,) = mailbox.messages
    assert message["To"] == "ann@example.com"
    assert message["Subject"] == "Check how you sign in to Webhook Portal"
    text = " ".join(message.get_content().split())
    assert words in text
    assert "on 2027-01-15 at 08:00:00 UTC from the address 203.0.113.5." in text
    assert "http://localhost:8000/forgot-password" in text
    assert "http://localhost:8000/account/second-factor" in text
    assert PASSWORD not in text
    assert NEW not in text


def test_there_is_a_test_of_each_change() -> None:
    assert CHANGES.keys() == STEPS.keys() | {"user.passkey_cloned"}


@on_both_databases
def test_a_copy_of_a_passkey_is_refused_and_told(app: Flask, ann: User, mailbox: Mailbox) -> None:
    device = add_passkey(ann)
    copy = deepcopy(device)
    for _ in range(2):
        assert sign_in_with(ann, device)
    assert mail.send_due() == 1
    mailbox.messages.clear()
    with app.test_request_context(environ_base=HERE):
        assert not sign_in_with(ann, copy)
    assert mail.send_due() == 1
    (message,) = mailbox.messages
    text = " ".join(message.get_content().split())
    assert "The passkey “blue key” seems to have a copy" in text
    assert "from the address 203.0.113.5." in text
    assert "remove every passkey that is not yours alone" in text
    entry = log.entries(action="user.passkey_cloned").rows[0][0]
    assert (entry.actor, entry.target, entry.detail, entry.address) == (
        "portal",
        "ann@example.com",
        {"name": "blue key"},
        "203.0.113.5",
    )
    assert sign_in_with(ann, device), "the other one still works"


def test_what_a_copy_has_not_signed_raises_no_alarm(ann: User, mailbox: Mailbox) -> None:
    device = add_passkey(ann)
    assert sign_in_with(ann, device)
    stranger = Authenticator(device.origin)
    stranger.credential = device.credential
    assert not sign_in_with(ann, stranger)
    assert not log.entries(action="user.passkey_cloned").rows


def test_a_device_that_does_not_count_is_no_copy(ann: User) -> None:
    device = add_passkey(ann)
    for _ in range(3):
        device.count = -1
        assert sign_in_with(ann, device)


@on_both_databases
def test_the_mail_stands_exactly_when_the_change_does(
    ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Invalid):
        accounts.change_own_password(ann, "wrong", NEW, NEW)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    has_passkey(ann)
    with monkeypatch.context() as patch:
        patch.setattr(passkeys, "end_if_last", fail)
        with pytest.raises(ZeroDivisionError):
            remove_passkey(ann)
    assert db.session.scalars(sa.select(Mail)).all() == []
    remove_passkey(ann)
    assert db.session.scalars(sa.select(Mail.to_email)).all() == ["ann@example.com"]


def test_who_did_it_for_them_is_named(app: Flask, ann: User, mailbox: Mailbox) -> None:
    with app.test_request_context(environ_base=HERE):
        accounts.reset_password(ann, "user:otto@example.com")
    accounts.change_password(ann, NEW, "cli")
    assert mail.send_due() == 2
    by_operator, by_command = (
        " ".join(message.get_content().split()) for message in mailbox.messages
    )
    assert "UTC by otto@example.com from the address 203.0.113.5." in by_operator
    assert "UTC by a command on the portal's own machine." in by_command


def test_taking_away_what_is_not_there_is_no_change(ann: User) -> None:
    second_factor.remove(ann, "cli")
    assert db.session.scalars(sa.select(Mail)).all() == []


class TestWithoutMail:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {}

    def test_nothing_waits_to_be_sent(self, ann: User) -> None:
        accounts.change_password(ann, NEW, "cli")
        assert db.session.scalars(sa.select(Mail)).all() == []


def test_who_changes_an_account_again_and_again_floods_nobody(
    app: Flask, ann: User, mailbox: Mailbox
) -> None:
    for number in range(30):
        accounts.change_password(ann, f"another password {number}", "cli")
    assert mail.send_due() == account_notices.AT_ONCE
    db.session.rollback()
    waiting = db.session.scalars(sa.select(Mail)).all()
    # All the same moment, or two where a period ended just now.
    assert 1 <= len({one.next_attempt_at for one in waiting}) <= 2
    assert len(waiting) == 30 - account_notices.AT_ONCE
