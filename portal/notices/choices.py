"""The kinds of notices, and who gets which of them by mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal.db.session import db, writing
from portal.errors import FieldError, Invalid
from portal.models import Membership, Merchant, NoticeChoice, User

KINDS: Mapping[str, str] = {
    "held": "A webhook fails and its deliveries are held; the date is named from which it will "
    "be disabled",
    "refused": "Its receiver answers, and refuses everything",
    "ending": "It will be disabled within a day",
    "disabled": "It is disabled",
    "recovered": "It works again",
    "certificate": "Its target’s certificate ends within two weeks",
    "client_certificate": "The certificate that it shows to its target ends within two weeks",
    "storage": "What the store may store is nearly used up, or is; then its events are refused",
}
"""Every kind of notice and what it tells of; all but the last are about a webhook."""
TOLD_BY_DEFAULT: Mapping[str, tuple[str, ...]] = {
    "owner": tuple(KINDS),
    "editor": tuple(kind for kind in KINDS if kind != "storage"),
    "viewer": (),
}


def chosen(user: User) -> dict[int, tuple[str, ...]]:
    """The kinds that a user gets by mail, by the merchant's ID."""
    choices = {
        choice.merchant_id: choice.kinds
        for choice in db.session.scalars(
            sa.select(NoticeChoice).where(NoticeChoice.user_id == user.id)
        )
    }
    return {
        membership.merchant_id: _kinds(choices.get(membership.merchant_id), membership.role)
        for membership in user.memberships
    }


def choose(user: User, merchant: Merchant, kinds: Sequence[str]) -> None:
    """Mail a user exactly these kinds of a merchant's notices from now on; the user must be a
    member. Raises Invalid for an unknown kind."""
    if not set(kinds) <= set(KINDS):
        raise Invalid([FieldError("/kinds", "Choose among the kinds of notices that are listed.")])
    with writing() as session:
        # Of two requests at once the second waits here, and finds the row of the first.
        session.execute(sa.select(User.id).where(User.id == user.id).with_for_update())
        session.merge(
            NoticeChoice(
                user_id=user.id,
                merchant_id=merchant.id,
                kinds=[kind for kind in KINDS if kind in kinds],
            )
        )


def listeners(session: scoped_session[Any], merchant_id: int) -> list[tuple[str, tuple[str, ...]]]:
    """The addresses of a merchant's members whose accounts are not disabled, and the kinds they
    get."""
    query = (
        sa.select(User.email, Membership.role, NoticeChoice.kinds)
        .join(Membership, Membership.user_id == User.id)
        .outerjoin(
            NoticeChoice,
            sa.and_(NoticeChoice.user_id == User.id, NoticeChoice.merchant_id == merchant_id),
        )
        .where(Membership.merchant_id == merchant_id, User.disabled_at.is_(None))
        .order_by(User.email)
    )
    return [(email, _kinds(kinds, role)) for email, role, kinds in session.execute(query)]


def _kinds(choice: Sequence[str] | None, role: str) -> tuple[str, ...]:
    return TOLD_BY_DEFAULT[role] if choice is None else tuple(choice)
