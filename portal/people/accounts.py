"""Merchants, the people who work with them, and their API keys.

Every change is noted in the audit log. Passwords are hashed before the database is locked.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session, scoped_session

from portal.audit.log import actor_of, record
from portal.db.listing import Page, clean_search, newest_first
from portal.db.session import db, writing
from portal.errors import Conflict, FieldError, NotFound
from portal.ids import digest_of
from portal.models import ApiKey, Membership, Merchant, User
from portal.models.locks import lock_merchant, lock_user
from portal.models.user import MAX_PASSWORD, STAFF_ROLES, hash_password
from portal.notices.account_notices import record_and_notify
from portal.people import tries
from portal.people.rules import (
    clean_email,
    email_errors,
    is_slug,
    name_errors,
    new_password_errors,
    password_errors,
    refuse,
    role_errors,
    slug_errors,
    unique,
)

Column = InstrumentedAttribute[str]
MAX_KEYS = 100
"""Keys of one merchant in use: one page shows all of them, and a program might create many."""
_PASSWORD_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without letters that look like others: people may copy a new password from paper."""


@dataclass(frozen=True)
class FirstStart:
    """What an empty portal is given at its first start, to be shown once."""

    email: str
    password: str
    key: str


# ── Merchants ─────────────────────────────────────────────────────────────────────────────


def create_merchant(slug: str, name: str, actor: str, active: bool = False) -> Merchant:
    """Add a merchant, whose feature is off until it is activated. Without a name it is called by
    its slug.

    Raises Invalid for a slug that is taken or not fit for an address.
    """
    slug = slug.strip()
    name = name.strip() or slug
    refuse(slug_errors(slug) + name_errors(name))
    taken = f"There is already a merchant with the slug {slug}; choose another slug."
    with unique("/slug", taken), writing() as session:
        merchant = Merchant(slug=slug, name=name)
        if active:
            merchant.activate()
        session.add(merchant)
        session.flush()
        record(session, actor, "merchant.created", slug, merchant.id, name=name, active=active)
    return merchant


def activate(merchant: Merchant, actor: str) -> None:
    """Turn a merchant's feature on: from its next event on, webhooks are sent."""
    with writing() as session:
        if not merchant.active:
            merchant.activate()
            record(session, actor, "merchant.activated", merchant.slug, merchant.id)


def deactivate(merchant: Merchant, actor: str) -> None:
    """Turn a merchant's feature off: events are logged, and nothing new is sent."""
    with writing() as session:
        if merchant.active:
            merchant.deactivate()
            record(session, actor, "merchant.deactivated", merchant.slug, merchant.id)


def get_merchant(slug: str) -> Merchant:
    """The merchant with this slug; raises NotFound."""
    merchant = None
    if is_slug(slug):
        merchant = db.session.scalar(sa.select(Merchant).where(Merchant.slug == slug))
    if merchant is None:
        raise NotFound(f"There is no merchant with the slug {clean_search(slug)}.")
    return merchant


def merchants(cursor: str = "", search: str = "", limit: int = 50) -> Page[tuple[Merchant]]:
    """One page of merchants, newest first; `search` is a part of the slug or name."""
    query = sa.select(Merchant).where(*_called(search, Merchant.slug, Merchant.name))
    return newest_first(query, Merchant.id, cursor, limit)


# ── API keys ──────────────────────────────────────────────────────────────────────────────


def create_key(merchant: Merchant, scope: str, name: str, actor: str) -> str:
    """Give a merchant an API key. Returns its text, which is stored nowhere and so shown only once.

    Two keys in use cannot have the same name, so that a form sent twice makes one key; there may be
    several without a name. Raises Invalid, also past MAX_KEYS.
    """
    name = name.strip()
    errors = name_errors(name)
    if scope not in ApiKey.SCOPES:
        errors.append(FieldError("/scope", "Choose the scope read or write."))
    refuse(errors)
    with writing() as session:
        lock_merchant(session, merchant.id)
        if len(keys(merchant)) >= MAX_KEYS:
            refuse(
                [
                    FieldError(
                        "/name",
                        f"A merchant has at most {MAX_KEYS} keys; revoke one that is not needed "
                        "any more.",
                    )
                ]
            )
        if name and session.scalar(_keys(merchant).where(ApiKey.name == name)):
            refuse(
                [
                    FieldError(
                        "/name",
                        f"There is a key named {name} already; revoke it first, or choose "
                        "another name.",
                    )
                ]
            )
        key, text = ApiKey.make(merchant, scope, name)
        session.add(key)
        record(session, actor, "api_key.created", key.id, merchant.id, name=name, scope=scope)
    return text


def revoke_key(merchant: Merchant, key_id: str, actor: str) -> None:
    """End one of a merchant's API keys at once. Raises NotFound."""
    with writing() as session:
        key = session.scalar(_keys(merchant).where(ApiKey.id == clean_search(key_id)))
        if key is None:
            raise NotFound("There is no such key, or it is revoked already.")
        key.revoke()
        record(session, actor, "api_key.revoked", key.id, merchant.id, name=key.name)


def keys(merchant: Merchant) -> Sequence[ApiKey]:
    """A merchant's keys in use, newest first."""
    return db.session.scalars(_keys(merchant).order_by(ApiKey.created_at.desc())).all()


def _keys(merchant: Merchant) -> sa.Select[ApiKey]:
    return sa.select(ApiKey).where(ApiKey.merchant_id == merchant.id, ApiKey.revoked_at.is_(None))


# ── Users ─────────────────────────────────────────────────────────────────────────────────


def create_user(
    email: str,
    password: str,
    actor: str,
    staff_role: str | None = None,
    name: str = "",
    *,
    merchant: Merchant | None = None,
    role: str | None = None,
) -> User:
    """Add a user: staff with `staff_role`, member of `merchant` with `role`, or neither yet.

    Raises Invalid, also when the address has an account already.
    """
    email, name = clean_email(email), name.strip()
    errors = email_errors(email) + password_errors(password) + name_errors(name)
    if staff_role is not None and staff_role not in STAFF_ROLES:
        errors.append(FieldError("/staff_role", "Choose the staff role auditor or operator."))
    if merchant is not None:
        errors += role_errors(role)
    refuse(errors)
    password_hash = hash_password(password)
    taken = f"{email} has an account already."
    with unique("/email", taken), writing() as session:
        user = new_user(session, email, password_hash, actor, staff_role, name)
        if merchant is not None and role is not None:
            join_merchant(session, merchant, user, role, actor)
    return user


def get_user(email: str) -> User:
    """The user with this address; raises NotFound."""
    user = find_user(clean_email(email))
    if user is None:
        raise NotFound(f"There is no user with the address {clean_search(email)}.")
    return user


def user_of_id(user_id: int) -> User:
    """The user with this ID; raises NotFound."""
    user = db.session.get(User, user_id)
    if user is None:
        raise NotFound("There is no such user.")
    return user


def users(cursor: str = "", search: str = "", limit: int = 50) -> Page[tuple[User]]:
    """One page of users, newest first; `search` is a part of the address or name."""
    query = sa.select(User).where(*_called(search, User.email, User.name))
    return newest_first(query, User.id, cursor, limit)


def disable_user(user: User, actor: str) -> None:
    """End an account and its sessions. Raises Conflict for one's own and for the last operator."""
    with writing() as session:
        if actor == actor_of(user):
            raise Conflict("You cannot disable your own account; ask another operator.")
        if _is_last_operator(session, user):
            raise Conflict(f"{user.email} is the last operator; create another operator first.")
        lock_user(session, user)
        if user.disabled_at is None:
            user.disable()
            record(session, actor, "user.disabled", user.email)


def enable_user(user: User, actor: str) -> None:
    """Open a disabled account again."""
    with writing() as session:
        if user.disabled_at is not None:
            user.enable()
            record(session, actor, "user.enabled", user.email)


def change_password(user: User, password: str, actor: str, checked: str | None = None) -> None:
    """Change a user's password and end all their sessions; `checked` is as in `lock_user`. Raises
    Invalid."""
    refuse(password_errors(password))
    password_hash = hash_password(password)
    with writing() as session:
        lock_user(session, user, checked)
        user.set_password_hash(password_hash)
        record_and_notify(session, user, actor, "user.password_changed")


def change_own_password(user: User, current: str, password: str, repeated: str) -> None:
    """The same, by the user, who knows the current password. Raises Invalid, and Conflict if the
    password was changed or the account disabled meanwhile."""
    checked = user.password_hash
    errors = new_password_errors(password, repeated)
    if len(current) > MAX_PASSWORD or not user.check_password(current):
        tries.note_refused("password_refused", user.email)
        errors.append(FieldError("/current", "This is not your current password."))
    refuse(errors)
    change_password(user, password, actor_of(user), checked)


def reset_password(user: User, actor: str) -> str:
    """Give a user a generated password and end all their sessions. Returns it, to be shown once."""
    if actor == actor_of(user):
        raise Conflict("Change your own password on your account's page.")
    password = new_password()
    change_password(user, password, actor)
    return password


def new_password() -> str:
    """A generated password of 100 random bits, easy to type."""
    letters = "".join(secrets.choice(_PASSWORD_LETTERS) for _ in range(20))
    return "-".join(letters[start : start + 5] for start in range(0, 20, 5))


# ── Signing in ────────────────────────────────────────────────────────────────────────────


def user_with_password(email: str, password: str) -> User | None:
    """The user, if address and password are right and the account is not disabled; else None.

    Takes the same time whether or not the address has an account.
    """
    user = find_user(clean_email(email))
    fits = User.check_nobody(password) if user is None else user.check_password(password)
    return user if user and fits and user.is_active else None


def password_mark(user: User) -> str:
    """A mark that stays the same until the password is changed, and tells nothing else about it."""
    return digest_of(user.password_hash)


def user_with_mark(user_id: int, mark: str) -> User | None:
    """The user with this ID, if the password still has the mark and the account is not disabled;
    else None."""
    user = db.session.get(User, user_id)
    return user if user and user.is_active and password_mark(user) == mark else None


# ── The first start ───────────────────────────────────────────────────────────────────────


def first_start(actor: str) -> FirstStart | None:
    """Give an empty portal an operator, who also owns the merchant `demo` with its feature active
    and an API key; None if there is any user already. All in one transaction."""
    if db.session.scalar(sa.select(User.id).limit(1)) is not None:
        return None
    email, password = "operator@localhost", new_password()
    password_hash = hash_password(password)
    try:
        with writing() as session:
            if session.scalar(sa.select(User.id).limit(1)) is not None:
                return None
            user = new_user(session, email, password_hash, actor, "operator", "Operator")
            merchant = session.scalar(sa.select(Merchant).where(Merchant.slug == "demo"))
            if merchant is None:
                merchant = Merchant(slug="demo", name="Demo store")
                merchant.activate()
                session.add(merchant)
                session.flush()
                record(session, actor, "merchant.created", "demo", merchant.id, active=True)
            join_merchant(session, merchant, user, "owner", actor)
            key, text = ApiKey.make(merchant, "write", "first start")
            session.add(key)
            record(session, actor, "api_key.created", key.id, merchant.id, scope="write")
    except IntegrityError:
        # Another process started at the same moment and was first.
        return None
    return FirstStart(email, password, text)


# ── Common to them ────────────────────────────────────────────────────────────────────────


def new_user(
    session: scoped_session[Session],
    email: str,
    password_hash: str,
    actor: str,
    staff_role: str | None,
    name: str,
) -> User:
    """Add a user in the running transaction; the caller has checked the fields."""
    user = User(email=email, name=name, password_hash=password_hash, staff_role=staff_role)
    session.add(user)
    session.flush()
    record(session, actor, "user.created", email, staff_role=staff_role)
    return user


def join_merchant(
    session: scoped_session[Session], merchant: Merchant, user: User, role: str, actor: str
) -> None:
    """Make a user a member in the running transaction."""
    user.memberships.append(Membership(merchant_id=merchant.id, role=role))
    record(session, actor, "member.added", user.email, merchant.id, role=role)


def find_user(email: str) -> User | None:
    """The user with this (clean) address, or None."""
    if email_errors(email):
        return None
    return db.session.scalar(sa.select(User).where(User.email == email))


def _is_last_operator(session: scoped_session[Session], user: User) -> bool:
    # Locked, so that on PostgreSQL two operators cannot disable each other at once.
    query = (
        sa.select(User.id)
        .where(User.staff_role == "operator", User.disabled_at.is_(None))
        .order_by(User.id)
        .with_for_update()
    )
    return session.scalars(query).all() == [user.id]


def _called(text: str, key: Column, name: Column) -> list[sa.ColumnElement[bool]]:
    """The condition that a key or a name contains the text, in any case; none for an empty text."""
    text = clean_search(text)
    text = clean_email(text) if "@" in text else text.lower()
    columns = (key, sa.func.lower(name))
    return [sa.or_(*(one.contains(text, autoescape=True) for one in columns))] if text else []
