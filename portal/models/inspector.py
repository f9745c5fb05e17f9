"""The inspector: a target of the portal's own, and what it got."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import now
from portal.db.session import Base

TOKEN_BYTES, TOKEN_LETTERS = 32, 43
"""How many random bytes the token of an inspector has, and letters as which they are written."""


class Inspector(Base):
    """A merchant's one inspector. Who knows its token can send to it, and read nothing."""

    __tablename__ = "inspector"

    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"), primary_key=True)
    token: Mapped[str] = mapped_column(
        sa.String(TOKEN_LETTERS), unique=True, default=lambda: secrets.token_urlsafe(TOKEN_BYTES)
    )
    answer: Mapped[str] = mapped_column(sa.String(10), default="200")
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)


class InspectedRequest(Base):
    """A request that an inspector got, values that sound secret masked. `webhook_id` is the
    webhook whose secret verified it when it came; None when none did."""

    __tablename__ = "inspected_request"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"))
    received_at: Mapped[int] = mapped_column(sa.BigInteger)
    method: Mapped[str] = mapped_column(sa.String(10))
    uri: Mapped[str] = mapped_column(sa.Text)
    headers: Mapped[str] = mapped_column(sa.Text)
    body: Mapped[bytes] = mapped_column(sa.LargeBinary, deferred=True)
    size: Mapped[int]
    webhook_id: Mapped[str | None] = mapped_column(sa.String(40))
    status: Mapped[int]
    took_us: Mapped[int] = mapped_column(sa.BigInteger)

    __table_args__ = (sa.Index("ix_inspected_request_newest", "merchant_id", "id"),)
