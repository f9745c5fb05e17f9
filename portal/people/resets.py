"""New passwords for people who have forgotten theirs, by a link that is mailed or that an operator
makes. It works once, within an hour."""

from __future__ import annotations

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import Session, scoped_session

from portal.audit.log import actor_of, record
from portal.clock import HOUR, now
from portal.config import Config
from portal.db.session import db, writing
from portal.errors import NotFound
from portal.ids import digest_of, new_token
from portal.models import Mail, PasswordReset, User
from portal.models.locks import lock_user
from portal.models.user import hash_password
from portal.notices.account_notices import record_and_notify
from portal.people import tries
from portal.people.accounts import find_user
from portal.people.rules import clean_email, email_errors, new_password_errors, refuse

LIFETIME = HOUR
FORGOTTEN = "user.password_forgotten"


def send_link(email: str) -> None:
    """Mail a link to an address that has an account; needs PORTAL_SMTP_URL.

    It does the same, and takes as long, for an address without an account. The audit log gets an
    entry only for accounts that exist, and at most one in tries.EVERY, so that asking for many
    addresses fills nothing. Raises Invalid if it is no e-mail address.
    """
    email = clean_email(email)
    refuse(email_errors(email))
    # Made and encrypted also without an account: that takes longer than everything else here.
    token = new_token()
    mail = Mail.make(
        email,
        "Choose another password",
        (
            "Someone, probably you, wants another password for your account at Webhook Portal.\n\n"
            f"To choose it, open this link within an hour. It works once:\n{_link(token)}"
            "\n\nIf it was not you, ignore this: nothing changes."
        ),
    )
    with writing() as session:
        user, noted = find_user(email), tries.was_noted(session, FORGOTTEN, email)
        _forget_ended(session)
        if user and not noted:
            record(session, "portal", FORGOTTEN, email)
        if user and user.is_active:
            session.add_all((_reset(user, token), mail))
        else:
            # Waits for its turn to write, just as if a mail were written.
            session.add(mail)
            session.flush()
            session.delete(mail)


def make_link(user: User, actor: str) -> str:
    """A link by which a user can choose a new password, for an operator to hand over."""
    with writing() as session:
        record(session, actor, "user.reset_link_made", user.email)
        _forget_ended(session)
        token = new_token()
        session.add(_reset(user, token))
        return _link(token)


def find(token: str) -> User:
    """The user whose password a link changes. Raises the same NotFound whether the link is unknown,
    used or too old, or the account disabled."""
    user: User | None = db.session.scalar(
        sa.select(User)
        .join(PasswordReset, PasswordReset.user_id == User.id)
        .where(PasswordReset.digest == digest_of(token), PasswordReset.expires_at > now())
    )
    if user is None or not user.is_active:
        raise NotFound("This link does not exist, was used already, or is too old.")
    return user


def choose(token: str, password: str, repeated: str) -> None:
    """Change the password of a link's user; all their sign-ins and links end.

    Raises NotFound, Invalid.
    """
    find(token)
    refuse(new_password_errors(password, repeated))
    password_hash = hash_password(password)
    with writing() as session:
        user = find(token)
        # Whoever else uses the link at this moment waits here, and then finds it gone.
        lock_user(session, user)
        find(token)
        user.set_password_hash(password_hash)
        record_and_notify(session, user, actor_of(user), "user.password_reset")


def _forget_ended(session: scoped_session[Session]) -> None:
    session.execute(sa.delete(PasswordReset).where(PasswordReset.expires_at <= now()))


def _reset(user: User, token: str) -> PasswordReset:
    return PasswordReset(digest=digest_of(token), user_id=user.id, expires_at=now() + LIFETIME)


def _link(token: str) -> str:
    config: Config = current_app.config["PORTAL"]
    return f"{config.public_url}/reset-password/{token}"
