"""Share links: one attempt for the receiver's developer, for some hours, until it is revoked or
whoever made it may share no more."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from portal import clock_watch
from portal.audit.log import record
from portal.clock import DAY, HOUR, now
from portal.db.session import db, writing
from portal.errors import Conflict, FieldError, Invalid, NotFound
from portal.ids import digest_of
from portal.logs.stories import AttemptDetail, attempt_detail
from portal.models import Attempt, AttemptShare
from portal.models.locks import lock_merchant
from portal.people.members import has_role_still

LIFETIMES = {"1": "1 hour", "24": "24 hours", "168": "7 days"}
"""Hours that a link may live, as forms send them, and in words."""
MAX_OPEN = 10
"""Open links of one attempt."""
MAY_SHARE = ("editor", "owner", "operator")
"""The roles that may make a link: with them it ends."""
KEPT_AFTER = 7 * DAY
"""How long a link that has ended stays listed."""


def create_share(merchant_id: int, attempt_id: str, hours: str, actor: str) -> str:
    """A new link to an attempt for one of LIFETIMES; its token, which is shown this once.

    Raises NotFound, Invalid for other hours, Conflict when MAX_OPEN are open.
    """
    if hours not in LIFETIMES:
        raise Invalid([FieldError("/hours", "Choose how long the link works.")])
    moment, is_sure = now(), not clock_watch.is_doubted()
    with writing() as session:
        lock_merchant(session, merchant_id)
        known = session.scalar(
            sa.select(Attempt.id).where(
                Attempt.merchant_id == merchant_id, Attempt.id == attempt_id
            )
        )
        if known is None:
            raise NotFound("There is no such attempt.")
        if is_sure:
            session.execute(
                sa.delete(AttemptShare).where(
                    AttemptShare.merchant_id == merchant_id,
                    AttemptShare.expires_at < moment - KEPT_AFTER,
                )
            )
        if sum(map(is_open, list_shares(merchant_id, attempt_id))) >= MAX_OPEN:
            raise Conflict(f"This attempt has {MAX_OPEN} open links; revoke one first.")
        share, token = AttemptShare.make(merchant_id, attempt_id, int(hours) * HOUR, actor)
        session.add(share)
        record(
            session,
            actor,
            "attempt.shared",
            attempt_id,
            merchant_id,
            share=share.id,
            hours=int(hours),
        )
    return token


def revoke_share(merchant_id: int, attempt_id: str, share_id: str, actor: str) -> None:
    """End a link at once; one that has ended stays as it is. Raises NotFound."""
    with writing() as session:
        share = session.scalar(
            sa.select(AttemptShare).where(
                AttemptShare.merchant_id == merchant_id,
                AttemptShare.attempt_id == attempt_id,
                AttemptShare.id == share_id,
            )
        )
        if share is None:
            raise NotFound("There is no such link.")
        # Also one whose maker may not share any more, for they may come back.
        if share.is_open(now()):
            share.revoked_at = now()
            record(session, actor, "attempt.share_revoked", attempt_id, merchant_id, share=share_id)


def is_open(share: AttemptShare) -> bool:
    """Whether a link shows its attempt: it has not ended, and whoever made it may still share."""
    return share.is_open(now()) and has_role_still(share.created_by, share.merchant_id, MAY_SHARE)


def list_shares(merchant_id: int, attempt_id: str) -> Sequence[AttemptShare]:
    """The links of an attempt, newest first."""
    return db.session.scalars(
        sa.select(AttemptShare)
        .where(AttemptShare.merchant_id == merchant_id, AttemptShare.attempt_id == attempt_id)
        .order_by(AttemptShare.id.desc())
    ).all()


def shared_attempt(token: str) -> tuple[AttemptShare, AttemptDetail]:
    """The link of a token with its attempt. Raises the same NotFound for a token that is
    unknown or has ended, and for an attempt that is past its days."""
    share = db.session.scalar(
        sa.select(AttemptShare).where(AttemptShare.digest == digest_of(token))
    )
    gone = NotFound("This link does not exist, or has ended. Ask for a new one.")
    if share is None or not is_open(share):
        raise gone
    try:
        return share, attempt_detail(share.merchant_id, share.attempt_id)
    except NotFound:
        raise gone from None
