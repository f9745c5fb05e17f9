"""Mail to users when what they sign in with changes, or was copied, so that a thief of a password
or a session cannot change the lock unseen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import Session, scoped_session

from portal.audit.log import actor_of, record
from portal.clock import HOUR, MINUTE, now, to_datetime
from portal.config import Config
from portal.models import AuditEntry, Mail, User

CHANGES: Mapping[str, str] = {
    "user.second_factor_on": "Codes of an app were made the second factor of your account",
    "user.second_factor_off": "The second factor of your account was turned off",
    "user.recovery_codes_renewed": "The recovery codes of your account were made anew",
    "user.passkey_added": "The passkey “{name}” was added to your account",
    "user.passkey_removed": "The passkey “{name}” was removed from your account",
    "user.passkey_cloned": "The passkey “{name}” seems to have a copy: it was refused, having "
    "counted fewer uses than are known of it,",
    "user.password_changed": "The password of your account was changed",
    "user.password_reset": "The password of your account was changed by a link for that",
}
"""What users are told, by the action in the audit log; `{…}` is a detail of the entry."""
SUBJECT = "Check how you sign in to Webhook Portal"
AT_ONCE, PERIOD = 3, 15 * MINUTE
"""How many changes within an hour are told at once; the others go together at the end of a
period."""


def record_and_notify(
    session: scoped_session[Session], user: User, actor: str, action: str, **detail: Any
) -> None:
    """Note one of CHANGES of an account in the running transaction and, if PORTAL_SMTP_URL is set,
    queue a mail about it to its owner. `actor` and `detail` are as in portal.audit.log.record."""
    entry = record(session, actor, action, user.email, **detail)
    config: Config = current_app.config["PORTAL"]
    if config.smtp_url:
        due_at = _due_at(session, user.email)
        session.add(Mail.make(user.email, SUBJECT, _text(entry, user, config), due_at=due_at))


def _due_at(session: Session | scoped_session[Session], email: str) -> int:
    """When the mail is sent: after AT_ONCE within an hour they go out together, so that changing an
    account again and again, perhaps one in somebody else's name, floods no mailbox."""
    moment = now()
    # By action and time: an account may have many other entries, such as sign-ins.
    target = AuditEntry.target.concat(sa.literal_column("''"))
    lately = session.scalars(
        sa.select(AuditEntry.at)
        .where(
            target == email,
            AuditEntry.action.in_(CHANGES),
            AuditEntry.at > moment - HOUR,
            AuditEntry.at <= moment,
        )
        .limit(AT_ONCE)
    ).all()
    return moment - moment % PERIOD + PERIOD if len(lately) >= AT_ONCE else moment


def _text(entry: AuditEntry, user: User, config: Config) -> str:
    happened = CHANGES[entry.action].format(**entry.detail)
    return (
        f"{happened} on {to_datetime(now()):%Y-%m-%d at %H:%M:%S} UTC{_by(entry, user)}.\n\n"
        "If this is news to you, someone else may get into your account. Choose another password, "
        f"which ends every sign-in: {config.public_url}/forgot-password\n"
        "Then remove every passkey that is not yours alone, and have new recovery codes made: "
        f"{config.public_url}/account/second-factor\n"
        "Where you cannot get in any more, ask who runs the portal."
    )


def _by(entry: AuditEntry, user: User) -> str:
    """Who did it, if it was not the account's own user, and from where."""
    by = ""
    if entry.actor == "cli":
        by = " by a command on the portal's own machine"
    elif entry.actor not in (actor_of(user), "portal"):
        by = f" by {entry.actor.partition(':')[2]}"
    return by + (f" from the address {entry.address}" if entry.address else "")
