"""The rules of merchants, keys, users and members, without pages around them."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.audit import log
from portal.clock import HOUR, SECOND, now
from portal.db.listing import BadCursor
from portal.db.session import db, table, writing
from portal.errors import Conflict, Forbidden, Invalid, NotFound
from portal.models import ApiKey, AuditEntry, Membership, Merchant, User, UserSession
from portal.models import user as user_models
from portal.people import accounts, invitations, members, passkeys, second_factor, sessions
from tests.clocks import time_passes
from tests.conftest import on_both_databases
from tests.factories import make_user

SECRET = second_factor.new_secret()

ROOT = Path(__file__).resolve().parents[2]

PASSWORD = "a password of some length"


pytestmark = pytest.mark.usefixtures("app")


@pytest.fixture
def shop(app: Flask) -> Merchant:
    return accounts.create_merchant("green-garden", "Green Garden", "cli")


def user(email: str, **more: object) -> User:
    return accounts.create_user(email, PASSWORD, "cli", **more)  # type: ignore[arg-type]


def user_of(token: str) -> User | None:
    found = sessions.find(token)
    return found[1] if found else None


def actions() -> list[str]:
    return list(db.session.scalars(sa.select(AuditEntry.action).order_by(AuditEntry.id)))


def refused_fields(error: pytest.ExceptionInfo[Invalid]) -> set[str]:
    return set(error.value.by_field())


# Merchants


@pytest.mark.parametrize("slug", ["a", "7", "green-garden", "a--b", "x" * 63])
def test_a_slug_of_small_letters_digits_and_hyphens_is_taken(slug: str) -> None:
    assert accounts.create_merchant(slug, "", "cli").slug == slug


@pytest.mark.parametrize(
    "slug",
    ["", " ", "-a", "a-", "Green", "a b", "a_b", "ä", "a/b", "..", "x" * 64, "a\nb", "a\x00"],
)
def test_any_other_slug_is_refused_with_the_rule(slug: str) -> None:
    with pytest.raises(Invalid, match="lower-case letters") as error:
        accounts.create_merchant(slug, "Name", "cli")
    assert refused_fields(error) == {"slug"}
    assert db.session.scalar(sa.select(sa.func.count(Merchant.id))) == 0


@on_both_databases
@pytest.mark.usefixtures("shop")
def test_a_slug_names_one_merchant() -> None:
    with pytest.raises(Invalid, match="already a merchant with the slug green-garden"):
        accounts.create_merchant("green-garden", "Another", "cli")


def test_a_merchant_without_a_name_gets_its_slug() -> None:
    assert accounts.create_merchant("plain", "  ", "cli").name == "plain"


def test_a_name_with_invisible_characters_is_refused() -> None:
    for name in ("a\x00b", "a\u202eb", "x" * 201):
        with pytest.raises(Invalid, match="visible characters"):
            accounts.create_merchant("plain", name, "cli")


def test_activating_twice_is_noted_once(shop: Merchant) -> None:
    accounts.activate(shop, "user:olga@example.com")
    accounts.activate(shop, "user:olga@example.com")
    assert shop.active
    accounts.deactivate(shop, "user:olga@example.com")
    assert not shop.active
    assert actions() == ["merchant.created", "merchant.activated", "merchant.deactivated"]


@on_both_databases
def test_merchants_come_newest_first_in_pages_there_and_back() -> None:
    for number in range(5):
        accounts.create_merchant(f"shop-{number}", "", "cli")

    def slugs(cursor: str) -> list[str]:
        return [row.slug for (row,) in accounts.merchants(cursor, limit=2).rows]

    first = accounts.merchants(limit=2)
    assert slugs("") == ["shop-4", "shop-3"]
    assert first.is_first
    assert first.previous_cursor is None
    second = accounts.merchants(first.next_cursor or "", limit=2)
    assert slugs(first.next_cursor or "") == ["shop-2", "shop-1"]
    third = accounts.merchants(second.next_cursor or "", limit=2)
    assert slugs(second.next_cursor or "") == ["shop-0"]
    assert third.next_cursor is None
    assert slugs(third.previous_cursor or "") == ["shop-2", "shop-1"]
    back = accounts.merchants(second.previous_cursor or "", limit=2)
    assert slugs(second.previous_cursor or "") == ["shop-4", "shop-3"]
    assert back.previous_cursor is None
    assert back.next_cursor is not None


@pytest.mark.parametrize("cursor", ["x", "-", "--1", "1.5", "9" * 30, "٣", "1;drop", "\x00"])
def test_a_forged_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor):
        accounts.merchants(cursor)


@on_both_databases
@pytest.mark.usefixtures("shop")
def test_a_search_takes_percent_and_underscore_as_they_are() -> None:
    accounts.create_merchant("hundred", "100% wool", "cli")
    assert [row.slug for (row,) in accounts.merchants(search="0%").rows] == ["hundred"]
    assert [row.slug for (row,) in accounts.merchants(search="GARDEN").rows] == ["green-garden"]
    assert not accounts.merchants(search="_").rows
    assert len(accounts.merchants(search="\x00").rows) == 2


# API keys


def test_a_keys_text_is_kept_nowhere(shop: Merchant) -> None:
    text = accounts.create_key(shop, "write", "platform", "cli")
    key = db.session.scalars(sa.select(ApiKey)).one()
    assert key.digest == ApiKey.digest_of(text)
    assert text not in repr(vars(key))
    entry = db.session.scalars(sa.select(AuditEntry).order_by(AuditEntry.id.desc())).first()
    assert entry is not None
    assert (entry.action, entry.target) == ("api_key.created", key.id)
    assert text not in repr(entry.detail)


@on_both_databases
def test_a_form_sent_twice_makes_one_key(shop: Merchant) -> None:
    accounts.create_key(shop, "write", "platform", "cli")
    with pytest.raises(Invalid, match="a key named platform already") as error:
        accounts.create_key(shop, "read", "platform", "cli")
    assert refused_fields(error) == {"name"}
    accounts.revoke_key(shop, accounts.keys(shop)[0].id, "cli")
    accounts.create_key(shop, "read", "platform", "cli")


def test_an_unknown_scope_is_refused(shop: Merchant) -> None:
    with pytest.raises(Invalid) as error:
        accounts.create_key(shop, "admin", "x\x00", "cli")
    assert refused_fields(error) == {"scope", "name"}


@on_both_databases
def test_only_ones_own_key_can_be_revoked_and_only_once(shop: Merchant) -> None:
    other = accounts.create_merchant("other", "", "cli")
    accounts.create_key(shop, "write", "", "cli")
    key_id = accounts.keys(shop)[0].id
    with pytest.raises(NotFound):
        accounts.revoke_key(other, key_id, "cli")
    accounts.revoke_key(shop, key_id, "cli")
    assert not accounts.keys(shop)
    with pytest.raises(NotFound):
        accounts.revoke_key(shop, key_id, "cli")


# Users


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ann",
        "ann@",
        "@b.c",
        "a b@c.d",
        "a@b..c",
        "a@-b.c",
        "ann@x.y\x00",
        "ä@b.c",
        "a" * 251 + "@b.c",
        "a@b.c\nBcc: d@e.f",
    ],
)
def test_an_address_must_be_one(email: str) -> None:
    with pytest.raises(Invalid) as error:
        user(email)
    assert refused_fields(error) == {"email"}


@on_both_databases
def test_an_address_has_one_account_whatever_its_case() -> None:
    assert user(" Ann@Example.COM ").email == "ann@example.com"
    with pytest.raises(Invalid, match="has an account already"):
        user("ANN@example.com")


@pytest.mark.parametrize("length", [10, 200])
def test_a_password_of_10_to_200_characters_is_taken(length: int) -> None:
    created = accounts.create_user("ann@example.com", "p" * length, "cli")
    assert created.check_password("p" * length)


@pytest.mark.parametrize("password", ["", "p" * 9, "p" * 201, "p" * 1_000_000, "pass\udcffword!"])
def test_any_other_password_is_refused(password: str) -> None:
    with pytest.raises(Invalid) as error:
        accounts.create_user("ann@example.com", password, "cli")
    assert refused_fields(error) == {"password"}


def test_everything_wrong_with_a_user_is_said_at_once(shop: Merchant) -> None:
    with pytest.raises(Invalid) as error:
        accounts.create_user("x", "y", "cli", "king", "z" * 201, merchant=shop, role="emperor")
    assert refused_fields(error) == {"email", "password", "name", "staff_role", "role"}


def test_no_password_is_hashed_while_the_database_is_locked(
    app: Flask, shop: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []

    def hash_while_another_writes(password: str) -> str:
        def write() -> None:
            with app.app_context(), writing() as session:
                session.execute(sa.update(Merchant).values(name=f"written {len(hashed)}"))

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(timeout=3)
        assert not thread.is_alive(), "the database is locked"
        hashed.append(password)
        return user_models.hash_password(password)

    monkeypatch.setattr(accounts, "hash_password", hash_while_another_writes)
    created = user("ann@example.com")
    accounts.change_password(created, PASSWORD + "2", "cli")
    members.add_member(shop, "bob@example.com", "viewer", "cli")
    assert len(hashed) == 3


@on_both_databases
def test_another_password_ends_all_sessions() -> None:
    created = user("ann@example.com")
    tokens = [sessions.begin(created), sessions.begin(created)]
    assert [user_of(token) for token in tokens] == [created, created]
    accounts.change_password(created, "another password", "cli")
    assert [user_of(token) for token in tokens] == [None, None]
    assert created.check_password("another password")


@on_both_databases
def test_who_signs_in_again_and_again_has_a_hundred_sign_ins(app: Flask) -> None:
    created = accounts.create_user("ann@example.com", PASSWORD, "cli")
    other = sessions.begin(accounts.create_user("bob@example.com", PASSWORD, "cli"))
    tokens = [sessions.begin(created) for _ in range(sessions.MAX_SESSIONS + 5)]
    assert [sessions.find(token) is not None for token in tokens] == (
        [False] * 5 + [True] * sessions.MAX_SESSIONS
    )
    assert len(sessions.sessions(created)) == sessions.MAX_SESSIONS
    assert sessions.find(other) is not None


@on_both_databases
def test_signing_out_ends_one_session_and_disabling_ends_all() -> None:
    created = user("ann@example.com")
    first, second, third = (sessions.begin(created) for _ in range(3))
    found = sessions.find(first)
    assert found
    sessions.end(created, found[0].id)
    assert [user_of(token) for token in (first, second, third)] == [None, created, created]
    accounts.disable_user(created, "cli")
    assert user_of(second) is None
    accounts.enable_user(created, "cli")
    assert user_of(second) is None


@on_both_databases
def test_all_sessions_but_this_one_can_be_ended_and_only_ones_own() -> None:
    ann, bob = user("ann@example.com"), user("bob@example.com")
    here, there, bobs = sessions.begin(ann), sessions.begin(ann), sessions.begin(bob)
    found, other = sessions.find(here), sessions.find(bobs)
    assert found
    assert other
    sessions.end_others(ann, found[0].id)
    assert [user_of(token) for token in (here, there, bobs)] == [ann, None, bob]
    with pytest.raises(NotFound):
        sessions.end(ann, other[0].id)
    assert user_of(bobs) is bob


@pytest.mark.parametrize("token", ["", "x", "\x00", "\ud800", "1.1", "y" * 5_000])
def test_a_session_of_nobody_has_no_user(token: str) -> None:
    sessions.begin(user("ann@example.com"))
    assert sessions.find(token) is None


def test_a_password_that_is_changed_while_someone_signs_in_with_the_old_one_keeps_them_out(
    app: Flask,
) -> None:
    created = user("ann@example.com")
    assert accounts.user_with_password("ann@example.com", PASSWORD) is created

    def change_elsewhere() -> None:
        with app.app_context():
            accounts.change_password(accounts.get_user("ann@example.com"), "n" * 10, "cli")

    thread = threading.Thread(target=change_elsewhere)
    thread.start()
    thread.join()
    with pytest.raises(Conflict, match="Sign in again"):
        sessions.begin(created)
    assert sessions.sessions(created) == []


def test_sessions_that_are_too_old_are_gone_for_good() -> None:
    created = user("ann@example.com")
    old = sessions.begin(created)
    with time_passes(12 * HOUR + SECOND):
        assert user_of(old) is None
        assert sessions.sessions(created) == []
        sessions.begin(created)
        assert db.session.scalar(sa.select(sa.func.count(UserSession.id))) == 1


def test_the_right_password_signs_in_and_is_noted() -> None:
    created = user("ann@example.com")
    assert accounts.user_with_password("Ann@example.com ", PASSWORD) is created
    sessions.begin(created, "192.0.2.7")
    assert actions()[-1] == "user.signed_in"


def test_wrong_passwords_unknown_addresses_and_disabled_accounts_do_not_sign_in() -> None:
    created = user("ann@example.com")
    assert accounts.user_with_password("ann@example.com", PASSWORD + "x") is None
    assert accounts.user_with_password("bob@example.com", PASSWORD) is None
    assert accounts.user_with_password("\x00", PASSWORD) is None
    accounts.disable_user(created, "cli")
    assert accounts.user_with_password("ann@example.com", PASSWORD) is None


def test_an_unknown_address_costs_a_hash_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(
        user_models, "_verify", lambda _hash, password: bool(tried.append(password))
    )
    user("ann@example.com")
    accounts.user_with_password("ann@example.com", "one")
    accounts.user_with_password("bob@example.com", "two")
    assert tried == ["one", "two"]


def test_ones_own_password_needs_the_current_one() -> None:
    created = user("ann@example.com")
    with pytest.raises(Invalid) as error:
        accounts.change_own_password(created, "wrong", "short", "differs")
    assert refused_fields(error) == {"current", "password", "repeated"}
    with pytest.raises(Invalid) as error:
        accounts.change_own_password(created, "x" * 1_000_000, "n" * 10, "n" * 10)
    assert refused_fields(error) == {"current"}
    accounts.change_own_password(created, PASSWORD, "n" * 10, "n" * 10)
    assert created.check_password("n" * 10)


@on_both_databases
def test_the_last_operator_and_oneself_cannot_be_disabled() -> None:
    olga = user("olga@example.com", staff_role="operator")
    with pytest.raises(Conflict, match="own account"):
        accounts.disable_user(olga, "user:olga@example.com")
    with pytest.raises(Conflict, match="last operator"):
        accounts.disable_user(olga, "cli")
    user("otto@example.com", staff_role="operator")
    accounts.disable_user(olga, "user:otto@example.com")
    assert not olga.is_active


def test_a_generated_password_is_fit_and_never_the_same() -> None:
    made = {accounts.new_password() for _ in range(100)}
    assert len(made) == 100
    assert all(10 <= len(password) <= 200 for password in made)


# Members


@on_both_databases
def test_a_new_address_gets_an_account_with_a_generated_password(shop: Merchant) -> None:
    password = members.add_member(shop, "Ann@example.com", "editor", "cli", "Ann")
    ann = accounts.user_with_password("ann@example.com", password)
    assert ann
    assert (ann.role_at(shop.id), ann.name) == ("editor", "Ann")
    with pytest.raises(Invalid, match="member already"):
        members.add_member(shop, "ann@example.com", "owner", "cli")


@pytest.mark.parametrize("disabled", [False, True])
def test_an_account_that_is_there_is_invited_and_not_added(shop: Merchant, disabled: bool) -> None:
    ann = user("ann@example.com")
    if disabled:
        accounts.disable_user(ann, "cli")
    with pytest.raises(Invalid, match=r"has an account already.*Invite"):
        members.add_member(shop, "ann@example.com", "viewer", "cli")
    assert ann.role_at(shop.id) is None


def test_nobody_gives_themselves_a_role(shop: Merchant) -> None:
    user("olga@example.com", staff_role="operator")
    with pytest.raises(Forbidden, match="Nobody"):
        invitations.invite(shop, "Olga@example.com", "owner", "user:olga@example.com")
    ann = user("ann@example.com", merchant=shop, role="viewer")
    with pytest.raises(Forbidden, match="Nobody"):
        members.change_member(shop, ann.id, "owner", "user:ann@example.com")
    assert ann.role_at(shop.id) == "viewer"


@on_both_databases
def test_the_last_owner_is_neither_demoted_nor_removed(shop: Merchant) -> None:
    ann = user("ann@example.com", merchant=shop, role="owner")
    for change in (
        lambda: members.change_member(shop, ann.id, "viewer", "user:ann@example.com"),
        lambda: members.remove_member(shop, ann.id, "cli"),
    ):
        with pytest.raises(Conflict, match="last owner of Green Garden"):
            change()
    bob = user("bob@example.com", merchant=shop, role="owner")
    accounts.disable_user(bob, "cli")
    with pytest.raises(Conflict, match="last owner"):
        members.remove_member(shop, ann.id, "cli")
    accounts.enable_user(bob, "cli")
    members.change_member(shop, ann.id, "viewer", "user:ann@example.com")
    assert ann.role_at(shop.id) == "viewer"
    with pytest.raises(Conflict, match="last owner"):
        members.remove_member(shop, bob.id, "cli")


@on_both_databases
def test_members_of_another_merchant_are_not_members(shop: Merchant) -> None:
    other = accounts.create_merchant("other", "", "cli")
    ann = user("ann@example.com", merchant=other, role="viewer")
    for change in (
        lambda: members.change_member(shop, ann.id, "editor", "cli"),
        lambda: members.remove_member(shop, ann.id, "cli"),
    ):
        with pytest.raises(NotFound):
            change()
    members.remove_member(other, ann.id, "cli")
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Membership)) == 0
    assert accounts.get_user("ann@example.com")


@pytest.mark.parametrize("role", ["", "king", "operator", "OWNER"])
def test_an_unknown_role_is_refused(shop: Merchant, role: str) -> None:
    with pytest.raises(Invalid) as error:
        members.add_member(shop, "ann@example.com", role, "cli")
    assert refused_fields(error) == {"role"}


# The first start, the audit log


@on_both_databases
def test_an_empty_portal_gets_an_operator_a_merchant_and_a_key_once() -> None:
    first = accounts.first_start("portal")
    assert first
    olga = accounts.user_with_password(first.email, first.password)
    assert olga
    assert olga.staff_role == "operator"
    demo = accounts.get_merchant("demo")
    assert demo.active
    assert [key.digest for key in accounts.keys(demo)] == [ApiKey.digest_of(first.key)]
    assert accounts.keys(demo)[0].scope == "write"
    assert olga.role_at(demo.id) == "owner", "the first person can set up the first webhook"
    assert accounts.first_start("portal") is None


def test_a_first_start_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(ApiKey, "make", broken)
        with pytest.raises(RuntimeError):
            accounts.first_start("portal")
    assert db.session.scalar(sa.select(sa.func.count(User.id))) == 0
    assert db.session.scalar(sa.select(sa.func.count(Merchant.id))) == 0
    assert accounts.first_start("portal")


def test_a_note_of_a_change_that_fails_is_not_kept() -> None:
    def change() -> None:
        with writing() as session:
            log.record(session, "cli", "merchant.created", "x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    assert actions() == []


@on_both_databases
@pytest.mark.usefixtures("shop")
def test_the_audit_log_is_filtered_and_newest_first() -> None:
    other = accounts.create_merchant("other", "", "user:olga@example.com")
    accounts.activate(other, "user:olga@example.com")

    def found(**filters: str) -> list[str]:
        return [entry.action for entry, _slug in log.entries(**filters).rows]

    assert found() == ["merchant.activated", "merchant.created", "merchant.created"]
    assert found(actor="olga", action="merchant.created") == ["merchant.created"]
    assert found(merchant="green-garden") == ["merchant.created"]
    assert found(actor="%") == []


def test_a_password_costs_what_argon2_asks_for() -> None:
    # In a process of its own: tests hash cheaply (tests/conftest.py).
    code = (
        "from portal.models import user\n"
        "print(user.hash_password('correct horse')); print(user._NOBODY)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    ours, nobodys = run.stdout.split()
    # RFC 9106, 4: the second recommended option, or more.
    cost = re.match(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$", ours)
    assert cost is not None
    assert int(cost[1]) >= 65_536
    assert int(cost[2]) >= 3
    assert nobodys.startswith(cost[0]), "an address without an account costs as much to try"


def test_keys_of_a_merchant_are_bounded(shop: Merchant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MAX_KEYS", 2)
    for _ in range(2):
        accounts.create_key(shop, "read", "", "cli")
    with pytest.raises(Invalid, match="at most 2 keys"):
        accounts.create_key(shop, "read", "", "cli")
    accounts.revoke_key(shop, accounts.keys(shop)[0].id, "cli")
    assert accounts.create_key(shop, "read", "", "cli")


@on_both_databases
@pytest.mark.parametrize(
    "act",
    [
        lambda user: accounts.change_own_password(user, PASSWORD, "another one 1", "another one 1"),
        lambda user: second_factor.renew_codes(user, PASSWORD),
        lambda user: second_factor.turn_off(user, PASSWORD),
        lambda user: second_factor.turn_on(
            user,
            SECRET,
            second_factor.code_at(base64.b32decode(SECRET), now() // (30 * SECOND)),
            PASSWORD,
        ),
        lambda user: passkeys.remove(user, "pk_1", PASSWORD),
    ],
)
def test_a_password_that_is_changed_meanwhile_does_nothing_more(
    app: Flask, act: Callable[[User], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    user, check = make_user(password=PASSWORD), User.check_password

    def and_then_it_is_another(user: User, password: str) -> bool:
        fits = check(user, password)
        db.session.rollback()
        with db.engine.begin() as elsewhere:
            elsewhere.execute(sa.update(table(User)).values(password_hash="another"))
        return fits

    monkeypatch.setattr(User, "check_password", and_then_it_is_another)
    with pytest.raises(Conflict, match="at this very moment"):
        act(user)
    db.session.rollback()
    assert user.password_hash == "another"
    assert user.totp_token is None
