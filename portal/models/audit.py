"""What people did, what the portal did by itself, and what people must be told."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import now
from portal.db.session import Base


class AuditEntry(Base):
    """Who changed or revealed what. Never updated, and chained (portal.audit.chain)."""

    __tablename__ = "audit_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    merchant_id: Mapped[int | None]
    actor: Mapped[str] = mapped_column(sa.String(300))
    """`user:ann@example.com`, `key:key_…`, `cli` or `portal`."""
    action: Mapped[str] = mapped_column(sa.String(60))
    """Such as `webhook.updated`, `webhook.secret_revealed`, `merchant.activated`."""
    target: Mapped[str] = mapped_column(sa.String(300), default="")
    detail: Mapped[dict[str, Any]] = mapped_column(sa.JSON, default=dict)
    """What changed, secrets masked."""
    address: Mapped[str | None] = mapped_column(sa.String(45))
    """The network address that asked for it; None for what the portal or a command did."""
    number: Mapped[int | None] = mapped_column(sa.BigInteger, unique=True)
    """Its place in the chain, from 1 without a gap; given as the last step of its transaction."""
    hash: Mapped[str | None] = mapped_column(sa.String(64))
    """SHA-256 of the entry before it and of its own content."""

    __table_args__ = (
        sa.Index("ix_audit_entry_target", "target", "id"),
        # Each in the order of pages, whichever filters are set.
        sa.Index("ix_audit_entry_read", "at", "id"),
        sa.Index("ix_audit_entry_merchant", "merchant_id", "at", "id"),
        sa.Index("ix_audit_entry_action", "action", "at", "id"),
        sa.Index("ix_audit_entry_merchant_action", "merchant_id", "action", "at", "id"),
    )


class AuditHead(Base):
    """The end of the audit log's chain: one row, which each audited transaction locks last."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(sa.BigInteger)
    hash: Mapped[str] = mapped_column(sa.String(64))


class OperationsEntry(Base):
    """One line of what the portal did by itself: retention, sweeps that found orphans."""

    __tablename__ = "operations_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[int] = mapped_column(sa.BigInteger, default=now, index=True)
    kind: Mapped[str] = mapped_column(sa.String(40))
    message: Mapped[str] = mapped_column(sa.Text)


class Notice(Base):
    """Something a merchant must be told, shown in the portal until someone dismisses it."""

    __tablename__ = "notice"

    id: Mapped[int] = mapped_column(primary_key=True)
    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"))
    webhook_id: Mapped[str | None] = mapped_column(sa.String(40))
    at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    kind: Mapped[str] = mapped_column(sa.String(40))
    """One of portal.notices.choices.KINDS."""
    message: Mapped[str] = mapped_column(sa.Text)
    dismissed_at: Mapped[int | None] = mapped_column(sa.BigInteger)

    __table_args__ = (sa.Index("ix_notice_merchant", "merchant_id", "dismissed_at", "at"),)
