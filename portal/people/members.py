"""The people who work for a merchant, and their roles: viewer, editor or owner."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session

from portal.audit.log import actor_of, record
from portal.db.session import db, writing
from portal.errors import Conflict, FieldError, Forbidden, Invalid, NotFound
from portal.models import Membership, Merchant, User
from portal.models.locks import lock_merchant
from portal.models.user import MEMBER_ROLES
from portal.people.accounts import create_user, find_user, new_password
from portal.people.rules import clean_email, refuse, role_errors


def members(merchant: Merchant) -> Sequence[tuple[User, str]]:
    """A merchant's members with their roles, by address."""
    query = (
        sa.select(User, Membership.role)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.merchant_id == merchant.id)
        .order_by(User.email)
    )
    return [(row[0], row[1]) for row in db.session.execute(query)]


def add_member(merchant: Merchant, email: str, role: str, actor: str, name: str = "") -> str:
    """Make an account for an address, as a member of a merchant. Returns its generated password, to
    be shown once.

    Raises Invalid, also if the address has an account already: an owner of another merchant may
    have invited the address and used the link without ever having its mailbox. Someone who is
    invited has to sign in to that account.
    """
    email = clean_email(email)
    if (user := find_user(email)) is not None:
        message = (
            f"{email} is a member already; change the role in the list."
            if user.role_at(merchant.id)
            else f"{email} has an account already, and whoever uses it might be somebody else. "
            "Invite the address instead (member invite), and hand the link to whom you mean."
        )
        raise Invalid([FieldError("/email", message)])
    password = new_password()
    create_user(email, password, actor, name=name, merchant=merchant, role=role)
    return password


def change_member(merchant: Merchant, user_id: int, role: str, actor: str) -> None:
    """Give a member another role.

    Raises NotFound if the user is no member, Forbidden for giving oneself a higher role, Conflict
    for the last owner.
    """
    refuse(role_errors(role))
    with writing() as session:
        membership = _membership(session, merchant, user_id)
        user = membership.user
        if role == membership.role:
            return
        if actor == actor_of(user) and _rank(role) > _rank(membership.role):
            raise Forbidden("Nobody can give themselves a higher role; ask an owner.")
        _keep_an_owner(session, merchant, membership)
        record(
            session,
            actor,
            "member.changed",
            user.email,
            merchant.id,
            role=role,
            role_before=membership.role,
        )
        membership.role = role


def remove_member(merchant: Merchant, user_id: int, actor: str) -> None:
    """End a membership. Raises NotFound, or Conflict for the last owner."""
    with writing() as session:
        membership = _membership(session, merchant, user_id)
        _keep_an_owner(session, merchant, membership)
        record(
            session,
            actor,
            "member.removed",
            membership.user.email,
            merchant.id,
            role=membership.role,
        )
        session.delete(membership)


def has_role_still(actor: str, merchant_id: int, roles: Collection[str]) -> bool:
    """Whether who did something, named as in the audit log, has one of these roles by now: at the
    merchant, or as staff. Commands and the portal itself have all of them.

    What somebody leaves behind that gives others access ends so with their own, and needs nobody
    to think of it.
    """
    kind, _, email = actor.partition(":")
    if kind != "user":
        return True
    user = find_user(email)
    return (
        user is not None
        and user.is_active
        and bool({user.staff_role, user.role_at(merchant_id)} & set(roles))
    )


def _membership(session: scoped_session[Session], merchant: Merchant, user_id: int) -> Membership:
    lock_merchant(session, merchant.id)
    membership = session.get(Membership, (user_id, merchant.id))
    if membership is None:
        raise NotFound("This user is not a member of the merchant.")
    return membership


def _keep_an_owner(
    session: scoped_session[Session], merchant: Merchant, membership: Membership
) -> None:
    if membership.role != "owner":
        return
    another = (
        sa.select(Membership.user_id)
        .join(User, User.id == Membership.user_id)
        .where(
            Membership.merchant_id == merchant.id,
            Membership.role == "owner",
            Membership.user_id != membership.user_id,
            User.disabled_at.is_(None),
        )
    )
    if session.scalar(another.limit(1)) is None:
        raise Conflict(
            f"{membership.user.email} is the last owner of {merchant.name}; "
            "make someone else an owner first."
        )


def _rank(role: str) -> int:
    return MEMBER_ROLES.index(role)
