"""What happened to a record. Immutable; kept 60 days, its record data 15."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import now
from portal.db.session import Base


class Event(Base):
    """One event. Its ID is unique within its merchant, since the sender may choose it.

    Pages walk `(merchant_id, received_at, id)`; `received_at` is the `sequence` that receivers
    compare: one that was sent after another was answered has the greater number.
    """

    __tablename__ = "event"

    merchant_id: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    type: Mapped[str] = mapped_column(sa.String(255))
    object_type: Mapped[str] = mapped_column(sa.String(255))
    object_id: Mapped[str | None] = mapped_column(sa.String(255))
    source_user_type: Mapped[str | None] = mapped_column(sa.String(255))
    source_user_id: Mapped[str | None] = mapped_column(sa.String(255))
    correlation_id: Mapped[str | None] = mapped_column(sa.String(255))
    occurred_at: Mapped[int] = mapped_column(sa.BigInteger)
    received_at: Mapped[int] = mapped_column(sa.BigInteger)
    fingerprint: Mapped[str | None] = mapped_column(sa.String(64))
    """SHA-256 of the content: a repeat of its ID must be the same. None in rows of old versions."""
    deliveries: Mapped[int] = mapped_column(default=0)
    """How many deliveries it owed when it came in: the answer that a repeat gets again."""
    schema_error: Mapped[str | None] = mapped_column(sa.Text)
    """Where its data breaks the type's schema; shown as a flag, never a reason to refuse."""
    is_test: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (
        sa.Index("ix_event_merchant_received", "merchant_id", "received_at", "id"),
        sa.Index("ix_event_received", "received_at", "merchant_id", "id"),
        # Each ends in the order of pages: a planner without statistics takes an index in which it
        # need not sort, and would otherwise read the merchant's whole log. The object type comes
        # last: people look for a record by its ID alone, and never by its type alone.
        sa.Index("ix_event_object", "merchant_id", "object_id", "received_at", "id", "object_type"),
        sa.Index("ix_event_type", "merchant_id", "type", "received_at", "id"),
        sa.Index(
            "ix_event_correlation",
            "merchant_id",
            "correlation_id",
            "received_at",
            "id",
            sqlite_where=sa.text("correlation_id IS NOT NULL"),
            postgresql_where=sa.text("correlation_id IS NOT NULL"),
        ),
    )


class EventPayload(Base):
    """The bytes a target receives, kept once per event as long as payload logs.

    Three pieces of JSON text, so that a body is put together and never encoded again:
    without the record it is `head`; with it, `data` and `previous` are spliced in before
    the last brace (portal.composing.compose.event_body).
    """

    __tablename__ = "event_payload"

    merchant_id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    head: Mapped[str] = mapped_column(sa.Text)
    data: Mapped[str | None] = mapped_column(sa.Text)
    previous: Mapped[str | None] = mapped_column(sa.Text)
    received_at: Mapped[int] = mapped_column(sa.BigInteger)

    __table_args__ = (
        sa.Index("ix_event_payload_received", "received_at", "merchant_id", "event_id"),
        sa.Index("ix_event_payload_merchant", "merchant_id", "received_at"),
    )


class OwnEventType(Base):
    """An event type that a merchant added to the catalogue for itself."""

    __tablename__ = "own_event_type"

    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    description: Mapped[str] = mapped_column(sa.Text, default="")
    schema: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    example: Mapped[str | None] = mapped_column(sa.Text)
    """A record as JSON text, as it was written."""
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
