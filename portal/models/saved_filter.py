"""A filter of a log that someone keeps by a name."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import now
from portal.db.session import Base


class SavedFilter(Base):
    """One user's filter of one merchant's `events` or `attempts`; nobody else sees it."""

    __tablename__ = "saved_filter"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user_account.id"))
    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"))
    log: Mapped[str] = mapped_column(sa.String(10))
    name: Mapped[str] = mapped_column(sa.String(60))
    filters: Mapped[dict[str, str]] = mapped_column(sa.JSON)
    """As they were typed: `24h` means the last day whenever it is used."""
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)

    __table_args__ = (
        sa.Index("ix_saved_filter_name", "user_id", "merchant_id", "log", "name", unique=True),
    )
