"""Another password for who has forgotten theirs: by a link that is mailed, or that an operator
makes. It works once, for an hour."""

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
from portal.notices.account_notices import note_and_tell
from portal.people import tries
from portal.people.accounts import find_user
from portal.people.rules import clean_email, email_errors, new_password_errors, refuse

LIFETIME = HOUR
FORGOTTEN = "user.password_forgotten"


def ask(email: str) -> None:
    """Mail a link to an address that has an account; needs PORTAL_SMTP_URL.

    It answers the same, and takes as long, for one that has none. Only accounts that exist have an
    entry, and at most one in tries.EVERY: who wishes for any address fills nothing. Raises Invalid
    for what is no e-mail address.
    """
    email = clean_email(email)
    refuse(email_errors(email))
    # Made, and encrypted, for who has no account too: that takes longer than all else here.
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
            # Written, and so waited for, as if it were owed.
            session.add(mail)
            session.flush()
            session.delete(mail)


def make_link(user: User, actor: str) -> str:
    """A link for a user to choose another password, for an operator to hand over."""
    with writing() as session:
        record(session, actor, "user.reset_link_made", user.email)
        _forget_ended(session)
        token = new_token()
        session.add(_reset(user, token))
        return _link(token)


def find(token: str) -> User:
    """Whose password a link changes. Raises the same NotFound for one that is unknown, used or
    too old, and for an account that is disabled."""
    user: User | None = db.session.scalar(
        sa.select(User)
        .join(PasswordReset, PasswordReset.user_id == User.id)
        .where(PasswordReset.digest == digest_of(token), PasswordReset.expires_at > now())
    )
    if user is None or not user.is_active:
        raise NotFound("This link does not exist, was used already, or is too old.")
    return user


def choose(token: str, password: str, repeated: str) -> None:
    """Give the link's user another password; all their sign-ins and links end.

    Raises NotFound, Invalid.
    """
    find(token)
    refuse(new_password_errors(password, repeated))
    password_hash = hash_password(password)
    with writing() as session:
        user = find(token)
        # Another who uses the link at this moment waits here, and then finds it gone.
        lock_user(session, user)
        find(token)
        user.set_password_hash(password_hash)
        note_and_tell(session, user, actor_of(user), "user.password_reset")


def _forget_ended(session: scoped_session[Session]) -> None:
    session.execute(sa.delete(PasswordReset).where(PasswordReset.expires_at <= now()))


def _reset(user: User, token: str) -> PasswordReset:
    return PasswordReset(digest=digest_of(token), user_id=user.id, expires_at=now() + LIFETIME)


def _link(token: str) -> str:
    config: Config = current_app.config["PORTAL"]
    return f"{config.public_url}/reset-password/{token}"
