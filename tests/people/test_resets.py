"""Links for another password, without pages around them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
import time_machine

from portal.clock import SECOND, now
from portal.db.session import db
from portal.errors import Invalid, NotFound
from portal.models import AuditEntry, Mail, PasswordReset, User
from portal.notices import mail
from portal.people import accounts, resets, sessions
from tests.conftest import on_both_databases
from tests.factories import make_user
from tests.mailbox import Mailbox

NEW = "a new password"


@pytest.fixture(autouse=True)
def ann(app: object) -> User:
    return make_user("viewer", email="ann@example.com")


def link_of(user: User) -> str:
    """An operator's link; its token."""
    return resets.make_link(user, "cli").rpartition("/")[2]


@on_both_databases
def test_a_link_changes_the_password_once_and_ends_every_sign_in(ann: User) -> None:
    signed_in, other, token = sessions.begin(ann), link_of(ann), link_of(ann)
    resets.choose(token, NEW, NEW)
    assert accounts.user_with_password("ann@example.com", NEW)
    assert sessions.find(signed_in) is None
    for used in (token, other):
        with pytest.raises(NotFound):
            resets.choose(used, "yet another one", "yet another one")
    entry = db.session.scalars(sa.select(AuditEntry).order_by(AuditEntry.id.desc())).first()
    assert entry is not None
    assert entry.action == "user.password_reset"


def test_a_link_is_kept_as_a_hash_and_ends_after_an_hour(ann: User) -> None:
    token = link_of(ann)
    stored = db.session.scalars(sa.select(PasswordReset)).one()
    assert token not in repr(vars(stored))
    start = now() / SECOND
    with time_machine.travel(start + 3_590, tick=False):
        assert resets.find(token) == ann
    with time_machine.travel(start + 3_601, tick=False), pytest.raises(NotFound):
        resets.choose(token, NEW, NEW)


def test_a_wrong_password_leaves_the_link_as_it_is(ann: User) -> None:
    token = link_of(ann)
    with pytest.raises(Invalid) as error:
        resets.choose(token, "short", "differs")
    assert set(error.value.by_field()) == {"password", "repeated"}
    resets.choose(token, NEW, NEW)


def test_a_disabled_account_is_not_opened_by_a_link(ann: User) -> None:
    token = link_of(ann)
    accounts.disable_user(ann, "cli")
    with pytest.raises(NotFound):
        resets.choose(token, NEW, NEW)


@on_both_databases
def test_a_link_ends_with_the_password_it_was_made_for(ann: User) -> None:
    ways = (
        lambda: accounts.change_password(ann, NEW, "cli"),
        lambda: (accounts.disable_user(ann, "cli"), accounts.enable_user(ann, "cli")),
    )
    for change in ways:
        token = link_of(ann)
        change()
        assert db.session.scalars(sa.select(PasswordReset)).all() == []
        with pytest.raises(NotFound):
            resets.choose(token, "yet another one", "yet another one")


@pytest.mark.parametrize("token", ["", "x", "\x00", "\ud800"])
def test_a_forged_link_is_nobodys(ann: User, token: str) -> None:
    link_of(ann)
    with pytest.raises(NotFound):
        resets.find(token)


class TestMail:
    @pytest.fixture
    def mailbox(self) -> Iterator[Mailbox]:
        mailbox = Mailbox()
        yield mailbox
        mailbox.close()

    @pytest.fixture
    def settings(self, mailbox: Mailbox) -> dict[str, str]:
        return {"SMTP_URL": f"smtp://127.0.0.1:{mailbox.port}", "MAIL_FROM": "hooks@example.com"}

    def test_only_an_account_that_is_open_gets_a_mail_and_only_accounts_are_noted(
        self, mailbox: Mailbox
    ) -> None:
        accounts.disable_user(make_user("viewer", email="dan@example.com"), "cli")
        for email in ("bob@example.com", "dan@example.com", " ANN@example.com"):
            resets.send_link(email)
        waiting = db.session.scalars(sa.select(Mail)).one()
        assert "reset-password" not in repr(vars(waiting))
        assert mail.send_due() == 1
        (message,) = mailbox.messages
        assert message["To"] == "ann@example.com"
        text = message.get_content()
        assert "/reset-password/" in text
        noted = db.session.scalars(
            sa.select(AuditEntry.target).where(AuditEntry.action == "user.password_forgotten")
        ).all()
        assert noted == ["dan@example.com", "ann@example.com"]
        token = text.split("/reset-password/")[1].split()[0]
        resets.choose(token, NEW, NEW)
        assert accounts.user_with_password("ann@example.com", NEW)

    @on_both_databases
    def test_wishes_for_one_account_are_noted_once_in_a_quarter_of_an_hour(self) -> None:
        start = now() / SECOND
        for seconds in (0, 1, 800, 901):
            with time_machine.travel(start + seconds, tick=False):
                resets.send_link("ann@example.com")
        assert len(db.session.scalars(sa.select(Mail)).all()) == 4
        noted = sa.select(AuditEntry.id).where(AuditEntry.action == resets.FORGOTTEN)
        assert len(db.session.scalars(noted).all()) == 2

    @on_both_databases
    def test_a_wish_for_nobodys_account_is_written_as_one_for_somebodys_and_leaves_nothing(
        self,
    ) -> None:
        written: list[str] = []

        def see(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
            if statement.startswith("INSERT INTO mail"):
                written.append(statement)

        entries = sa.select(sa.func.count()).select_from(AuditEntry)
        before = db.session.scalar(entries)
        sa.event.listen(db.engine, "before_cursor_execute", see)
        try:
            resets.send_link("bob@example.com")
        finally:
            sa.event.remove(db.engine, "before_cursor_execute", see)
        assert len(written) == 1
        assert db.session.scalars(sa.select(Mail)).all() == []
        assert db.session.scalar(entries) == before
