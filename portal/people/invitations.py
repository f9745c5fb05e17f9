"""Invitations: an owner asks someone to join a merchant; a link lets them in, once."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import Session, scoped_session

from portal import clock_watch
from portal.audit.log import actor_of, record
from portal.clock import DAY, now, readable
from portal.config import Config
from portal.db.session import db, writing
from portal.errors import Conflict, FieldError, Forbidden, Invalid, NotFound
from portal.ids import digest_of
from portal.models import Invitation, Mail, Membership, Merchant, User
from portal.models.locks import lock_merchant
from portal.models.user import hash_password
from portal.people.accounts import find_user, join_merchant, new_user
from portal.people.members import has_role_still
from portal.people.rules import (
    clean_email,
    email_errors,
    name_errors,
    new_password_errors,
    refuse,
    role_errors,
    unique,
)

LIFETIME = 7 * DAY
MAX_PEOPLE = 500
"""Members and invitations of a merchant together: all of them are notified of its webhooks, within
the transaction in which something happens, and one page shows them all."""


def invite(merchant: Merchant, email: str, role: str, actor: str) -> str:
    """Invite an address to join a merchant. Returns the link, which works once within LIFETIME and
    is stored nowhere; it is also mailed if PORTAL_SMTP_URL is set. An earlier invitation ends.

    Raises Invalid, also past MAX_PEOPLE, and Forbidden for inviting oneself: nobody gives
    themselves a role.
    """
    email = clean_email(email)
    refuse(email_errors(email) + role_errors(role))
    if actor == f"user:{email}":
        raise Forbidden("Nobody can give themselves a role; ask another operator or an owner.")
    config: Config = current_app.config["PORTAL"]
    # The same address's earlier one ends in any case.
    ended = Invitation.email == email
    if not clock_watch.is_doubted():
        ended = sa.or_(ended, Invitation.expires_at <= now())
    with writing() as session:
        lock_merchant(session, merchant.id)
        user = find_user(email)
        if user and not user.is_active:
            raise Invalid(
                [
                    FieldError(
                        "/email", f"The account of {email} is disabled; ask staff to enable it."
                    )
                ]
            )
        if user and user.role_at(merchant.id):
            raise Invalid(
                [FieldError("/email", f"{email} is a member already; change the role in the list.")]
            )
        session.execute(sa.delete(Invitation).where(Invitation.merchant_id == merchant.id, ended))
        if _people(session, merchant) >= MAX_PEOPLE:
            raise Invalid(
                [
                    FieldError(
                        "/email",
                        f"A merchant has at most {MAX_PEOPLE} members and invitations; remove "
                        "one first.",
                    )
                ]
            )
        invitation, token = Invitation.make(merchant, email, role, LIFETIME, actor)
        session.add(invitation)
        record(session, actor, "member.invited", email, merchant.id, role=role)
        link = f"{config.public_url}/invitation/{token}"
        if config.smtp_url:
            session.add(
                Mail.make(
                    email,
                    f"You are invited to {merchant.name}",
                    _mail_text(merchant, role, actor, link, invitation.expires_at),
                )
            )
    return link


def _people(session: scoped_session[Session], merchant: Merchant) -> int:
    counts = (
        session.scalar(
            sa.select(sa.func.count()).select_from(model).where(model.merchant_id == merchant.id)
        )
        for model in (Membership, Invitation)
    )
    return sum(count or 0 for count in counts)


def invitations(merchant: Merchant) -> Sequence[Invitation]:
    """A merchant's invitations that nobody has accepted yet, by address."""
    return db.session.scalars(
        sa.select(Invitation)
        .where(Invitation.merchant_id == merchant.id)
        .order_by(Invitation.email)
    ).all()


def is_open(invitation: Invitation) -> bool:
    """Whether the link still works: it is not too old, and whoever made it may still invite, so
    that an owner who is removed has left no way back in."""
    return invitation.expires_at > now() and has_role_still(
        invitation.created_by, invitation.merchant_id, ("owner", "operator")
    )


def revoke(merchant: Merchant, invitation_id: str, actor: str) -> None:
    """End an invitation. Raises NotFound, also for one that was accepted."""
    with writing() as session:
        invitation = session.scalar(
            sa.select(Invitation).where(
                Invitation.merchant_id == merchant.id, Invitation.id == invitation_id
            )
        )
        if invitation is None:
            raise NotFound("There is no such invitation, or it was accepted already.")
        session.delete(invitation)
        record(session, actor, "member.invitation_revoked", invitation.email, merchant.id)


def find(token: str) -> Invitation:
    """The invitation of a link. Raises the same NotFound whether the link is unknown, accepted,
    revoked or too old."""
    invitation = db.session.scalar(
        sa.select(Invitation).where(Invitation.digest == digest_of(token))
    )
    if invitation is None or not is_open(invitation):
        raise NotFound(
            "This invitation does not exist, was used already, or has ended. Ask an owner of the "
            "merchant for a new one."
        )
    return invitation


def join(token: str, user: User) -> Merchant:
    """Make the invited person, who is signed in, a member. Returns the merchant.

    Raises NotFound, Forbidden for anybody else, Conflict for someone who is a member already.
    """
    with writing() as session:
        invitation = _take(session, token)
        if invitation.email != user.email:
            raise Forbidden(
                f"This invitation is for {invitation.email}, and you are signed in as "
                f"{user.email}. Sign out, and open it again."
            )
        return _let_in(session, invitation, user)


def join_anew(token: str, name: str, password: str, repeated: str) -> User:
    """Make an account for the invited person, who has none yet, and make them a member.

    Raises NotFound, Invalid, Conflict if the address has got an account meanwhile.
    """
    find(token)
    name = name.strip()
    refuse(name_errors(name) + new_password_errors(password, repeated))
    password_hash = hash_password(password)
    email = find(token).email
    taken = f"{email} has an account by now. Open the invitation again and sign in."
    # Two invitations of one address may be accepted at the same moment.
    with unique("", taken), writing() as session:
        invitation = _take(session, token)
        if find_user(invitation.email):
            raise Conflict(taken)
        user = new_user(
            session, invitation.email, password_hash, f"user:{invitation.email}", None, name
        )
        _let_in(session, invitation, user)
    return user


def _take(session: scoped_session[Session], token: str) -> Invitation:
    """The invitation, locked until the transaction ends, since it works only once."""
    found = find(token)
    lock_merchant(session, found.merchant_id)
    session.expire(found)
    return find(token)


def _let_in(session: scoped_session[Session], invitation: Invitation, user: User) -> Merchant:
    merchant = invitation.merchant
    if session.get(Membership, (user.id, merchant.id)):
        raise Conflict(f"You are a member of {merchant.name} already.")
    join_merchant(session, merchant, user, invitation.role, actor_of(user))
    session.delete(invitation)
    return merchant


def _mail_text(merchant: Merchant, role: str, actor: str, link: str, expires_at: int) -> str:
    inviter = actor.removeprefix("user:") if actor.startswith("user:") else "The portal's staff"
    article = "an" if role[0] in "eo" else "a"
    return (
        f"{inviter} invites you to Webhook Portal, as {article} {role} of {merchant.name}.\n\n"
        f"To join, open this link until {readable(expires_at)}. It works once:\n{link}\n\n"
        "If you do not expect this, ignore it: nothing happens."
    )
