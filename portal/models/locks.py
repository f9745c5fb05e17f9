"""What two requests at the same moment must not both do: for PostgreSQL, since SQLite has one
writer anyway."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal.errors import Conflict
from portal.models import Merchant, User


def lock_merchant(session: scoped_session[Any], merchant_id: int) -> None:
    """Let nobody else change what a merchant has, such as members, keys or webhooks, until the
    transaction ends: two who look at once would both see it unchanged. Its events go on."""
    session.execute(
        sa.select(Merchant.id).where(Merchant.id == merchant_id).with_for_update(key_share=True)
    )


def lock_user(session: scoped_session[Any], user: User, checked: str | None = None) -> None:
    """Let nobody else change the user, or sign in as them, until the transaction ends. Raises
    Conflict where the password is not the one any more whose hash was `checked` before, or the
    account was disabled since: who had it may do nothing more with it."""
    session.refresh(user, with_for_update=True)
    if checked is not None and (user.password_hash != checked or not user.is_active):
        raise Conflict("The account was changed at this very moment. Sign in again.")
