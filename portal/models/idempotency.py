"""Requests of the API that came with an Idempotency-Key, and what was answered."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import DAY, now
from portal.db.session import Base
from portal.vault import Token


class IdempotencyKey(Base):
    """One key of a merchant. Without an answer its request is under way, or was cut off."""

    __tablename__ = "idempotency_key"
    KEPT = DAY
    """How long in µs; then portal.upkeep.retention deletes it."""

    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"), primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(sa.String(64))
    """SHA-256 (hex) of method, address and body."""
    status: Mapped[int | None]
    answer_token: Mapped[str | None] = mapped_column(Token)
    """Headers and body, encrypted: some answers hold a secret."""
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now, index=True)
