"""How much of each merchant's is stored; portal.storage.measuring fills it from the logs."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.db.session import Base


class StoredBytes(Base):
    """What the logs hold of a merchant that came in on one day (UTC), in bytes as
    portal.storage.sizes counts them."""

    __tablename__ = "stored_bytes"

    merchant_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    starts_at: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    logs: Mapped[int] = mapped_column(sa.BigInteger)
    """Events, deliveries and header logs."""
    payloads: Mapped[int] = mapped_column(sa.BigInteger)
    """Record data and payload logs."""

    __table_args__ = (
        sa.Index("ix_stored_bytes_starts_at", "starts_at"),
        {"sqlite_with_rowid": False},
    )


class MeasuredUntil(Base):
    """Up to which moment (Unix µs, a whole ms) some of the logs are measured: a row for those that
    settle at once, and one for those that settle later (portal.storage.sizes)."""

    __tablename__ = "measured_until"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    moment: Mapped[int] = mapped_column(sa.BigInteger)
    token: Mapped[int] = mapped_column(sa.BigInteger)
    """Rises when something is deleted that is not measured yet: who is measuring it begins anew."""
