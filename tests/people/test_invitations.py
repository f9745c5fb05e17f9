"""The rules of invitations, without pages around them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from portal.clock import SECOND, now
from portal.db.session import db, writing
from portal.errors import Conflict, Forbidden, Invalid, NotFound, PortalError
from portal.models import AuditEntry, Invitation, Mail, Membership, Merchant, User
from portal.notices import mail
from portal.people import accounts, invitations, members
from tests.conftest import PASSWORD, on_both_databases
from tests.factories import make_merchant, make_user
from tests.mailbox import Mailbox


@pytest.fixture
def ann(merchant: Merchant) -> User:
    return make_user("owner", merchant, email="ann@example.com")


@pytest.fixture(autouse=True)
def _inviter(ann: User) -> None:
    """Who invites is an owner."""


def invite(merchant: Merchant, email: str = "bob@example.com", role: str = "editor") -> str:
    """Ann's invitation; its token."""
    link = invitations.invite(merchant, email, role, "user:ann@example.com")
    return link.rpartition("/")[2]


def accept(token: str) -> User:
    return invitations.join_anew(token, "Bob", PASSWORD, PASSWORD)


@on_both_databases
def test_who_has_the_link_gets_an_account_and_is_in(merchant: Merchant, ann: User) -> None:
    bob = accept(invite(merchant, " Bob@Example.com "))
    assert (bob.email, bob.name, bob.role_at(merchant.id)) == ("bob@example.com", "Bob", "editor")
    assert accounts.user_with_password("bob@example.com", PASSWORD)
    assert invitations.invitations(merchant) == []
    noted = list(
        db.session.execute(sa.select(AuditEntry.actor, AuditEntry.action).order_by(AuditEntry.id))
    )
    assert noted[:3] == [
        ("user:ann@example.com", "member.invited"),
        ("user:bob@example.com", "user.created"),
        ("user:bob@example.com", "member.added"),
    ]


def test_the_token_is_kept_nowhere(merchant: Merchant, ann: User) -> None:
    token = invite(merchant)
    stored = db.session.scalars(sa.select(Invitation)).one()
    assert token not in repr(vars(stored))
    entry = db.session.scalars(sa.select(AuditEntry)).one()
    assert token not in repr(vars(entry))


@on_both_databases
def test_an_account_joins_with_the_password_it_has(merchant: Merchant, ann: User) -> None:
    bob = make_user("viewer", make_merchant("other"), email="bob@example.com", password=PASSWORD)
    token = invite(merchant)
    with pytest.raises(Conflict, match="sign in"):
        accept(token)
    assert invitations.join(token, bob).slug == "alice"
    db.session.refresh(bob)
    assert bob.role_at(merchant.id) == "editor"
    assert bob.check_password(PASSWORD)


def test_nobody_joins_with_somebody_elses_invitation(merchant: Merchant, ann: User) -> None:
    eve = make_user("viewer", make_merchant("other"), email="eve@example.com")
    token = invite(merchant)
    with pytest.raises(Forbidden, match="This invitation is for"):
        invitations.join(token, eve)
    assert eve.role_at(merchant.id) is None
    assert accept(token)


@on_both_databases
def test_a_link_works_once_also_when_it_is_opened_twice_at_once(
    app: Flask, merchant: Merchant, ann: User
) -> None:
    token = invite(merchant)
    outcomes = at_once(app, [lambda: accept(token), lambda: accept(token)])
    assert sorted(outcomes) in (["Conflict", "done"], ["NotFound", "done"])
    assert db.session.scalar(sa.select(sa.func.count()).select_from(User)) == 2


def at_once(app: Flask, acts: list[Callable[[], object]]) -> list[str]:
    """What came of acts that start at the same moment: `done`, or the name of the error."""
    outcomes: list[str] = []
    gate = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        with app.app_context():
            gate.wait()
            try:
                act()
                outcomes.append("done")
            except PortalError as error:
                outcomes.append(type(error).__name__)

    db.session.rollback()
    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return outcomes


def ended(token: str, merchant: Merchant) -> Iterator[Callable[[], None]]:
    yield lambda: invitations.revoke(
        merchant, invitations.invitations(merchant)[0].id, "user:ann@example.com"
    )
    yield lambda: invite(merchant) and None
    yield lambda: accept(token) and None


@on_both_databases
@pytest.mark.parametrize("how", range(3), ids=["revoked", "replaced", "used"])
def test_a_link_that_ended_lets_nobody_in(merchant: Merchant, ann: User, how: int) -> None:
    token = invite(merchant)
    list(ended(token, merchant))[how]()
    with pytest.raises(NotFound, match="Ask an owner"):
        accept(token)


def test_a_link_ends_after_seven_days(merchant: Merchant, ann: User) -> None:
    token = invite(merchant)
    start = now() // SECOND
    with time_machine.travel(start + 7 * 86_400 - 60, tick=False):
        assert invitations.find(token)
    with time_machine.travel(start + 7 * 86_400 + 60, tick=False):
        with pytest.raises(NotFound):
            accept(token)
        (listed,) = invitations.invitations(merchant)
        assert not invitations.is_open(listed)


@pytest.mark.parametrize("token", ["", "x", "\x00", "\ud800", "é" * 3_000])
def test_a_forged_link_is_nobodys(merchant: Merchant, ann: User, token: str) -> None:
    invite(merchant)
    with pytest.raises(NotFound):
        invitations.find(token)


@on_both_databases
def test_an_owner_who_is_removed_leaves_no_way_back_in(merchant: Merchant, ann: User) -> None:
    make_user("owner", merchant, email="carl@example.com")
    token = invite(merchant, "ann.again@example.com", "owner")
    members.change_member(merchant, ann.id, "editor", "user:carl@example.com")
    with pytest.raises(NotFound):
        accept(token)
    members.change_member(merchant, ann.id, "owner", "user:carl@example.com")
    accounts.disable_user(ann, "cli")
    with pytest.raises(NotFound):
        accept(token)


def test_nobody_invites_themselves_or_who_is_in_or_disabled(merchant: Merchant, ann: User) -> None:
    make_user("operator", email="olga@example.com")
    with pytest.raises(Forbidden, match="Nobody"):
        invitations.invite(merchant, "Olga@example.com", "owner", "user:olga@example.com")
    with pytest.raises(Invalid, match="is a member already"):
        invitations.invite(merchant, "ann@example.com", "viewer", "cli")
    accounts.disable_user(make_user("viewer", email="dan@example.com"), "cli")
    with pytest.raises(Invalid, match="disabled"):
        invitations.invite(merchant, "dan@example.com", "viewer", "cli")
    for email, role in (("x", "viewer"), ("bob@example.com", "operator"), ("\x00", "")):
        with pytest.raises(Invalid):
            invitations.invite(merchant, email, role, "cli")
    assert invitations.invitations(merchant) == []


def test_what_is_wrong_with_a_new_account_is_said_at_its_fields(
    merchant: Merchant, ann: User
) -> None:
    token = invite(merchant)
    with pytest.raises(Invalid) as error:
        invitations.join_anew(token, "x" * 201, "short", "differs")
    assert set(error.value.by_field()) == {"name", "password", "repeated"}
    assert accept(token)


class TestMail:
    @pytest.fixture
    def mailbox(self) -> Iterator[Mailbox]:
        mailbox = Mailbox()
        yield mailbox
        mailbox.close()

    @pytest.fixture
    def settings(self, mailbox: Mailbox) -> dict[str, str]:
        return {
            "SMTP_URL": f"smtp://127.0.0.1:{mailbox.port}",
            "MAIL_FROM": "hooks@example.com",
            "PUBLIC_URL": "https://hooks.example.com",
        }

    def test_the_link_is_mailed_and_lies_nowhere_in_the_clear(
        self, merchant: Merchant, mailbox: Mailbox
    ) -> None:
        link = invitations.invite(merchant, "bob@example.com", "editor", "user:ann@example.com")
        waiting = db.session.scalars(sa.select(Mail)).one()
        assert link.rpartition("/")[2] not in repr(vars(waiting))
        assert mail.send_due() == 1
        (message,) = mailbox.messages
        text = message.get_content()
        assert message["To"] == "bob@example.com"
        assert message["Subject"] == "You are invited to alice's store"
        assert link.startswith("https://hooks.example.com/invitation/")
        assert link in text.replace("\n", "") or link in text
        assert "ann@example.com invites you" in text
        assert "an editor of alice's store" in text


# The last owner


@on_both_databases
def test_two_owners_who_demote_each_other_at_once_leave_one(
    app: Flask, merchant: Merchant, ann: User
) -> None:
    bob = make_user("owner", merchant, email="bob@example.com")
    numbers = {ann.email: ann.id, bob.email: bob.id}

    def demote(by: str, whom: str) -> Callable[[], None]:
        return lambda: members.change_member(
            accounts.get_merchant("alice"), numbers[whom], "viewer", f"user:{by}"
        )

    def remove(by: str, whom: str) -> Callable[[], None]:
        return lambda: members.remove_member(
            accounts.get_merchant("alice"), numbers[whom], f"user:{by}"
        )

    outcomes = at_once(
        app,
        [
            demote("ann@example.com", "bob@example.com"),
            remove("bob@example.com", "ann@example.com"),
        ],
    )
    assert sorted(outcomes) == ["Conflict", "done"]
    db.session.rollback()
    owners = sa.select(sa.func.count()).select_from(Membership).where(Membership.role == "owner")
    assert db.session.scalar(owners) == 1


@on_both_databases
def test_an_account_made_in_anothers_name_gets_nowhere_else(merchant: Merchant, ann: User) -> None:
    accept(invite(merchant, "boss@example.com"))
    other = make_merchant("other")
    with pytest.raises(Invalid, match="has an account already"):
        members.add_member(other, "boss@example.com", "owner", "cli")
    invitations.invite(other, "boss@example.com", "owner", "cli")
    assert accounts.get_user("boss@example.com").role_at(other.id) is None


@on_both_databases
def test_members_and_invitations_of_a_merchant_are_bounded(
    app: Flask, merchant: Merchant, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = db.session.scalar(sa.select(sa.func.count()).select_from(Membership)) or 0
    monkeypatch.setattr(invitations, "MAX_PEOPLE", members + 2)
    for name in ("one", "two", "two"):
        invitations.invite(merchant, f"{name}@example.com", "viewer", "cli")
    with pytest.raises(Invalid, match="at most"):
        invitations.invite(merchant, "three@example.com", "viewer", "cli")
    # One that has ended makes room.
    with writing() as session:
        session.execute(
            sa.update(Invitation).where(Invitation.email == "one@example.com").values(expires_at=1)
        )
    invitations.invite(merchant, "three@example.com", "viewer", "cli")
    assert {one.email for one in invitations.invitations(merchant)} == {
        "two@example.com",
        "three@example.com",
    }
