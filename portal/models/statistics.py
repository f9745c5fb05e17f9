"""Counts by the hour, from which pages draw; portal.counts.counting fills them from the logs."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.db.session import Base

ALL = ""
"""In place of a webhook's ID: all webhooks of the merchant together."""


class EventCount(Base):
    """How many events a merchant got in an hour (UTC); tests are left out."""

    __tablename__ = "event_count"

    merchant_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    starts_at: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    events: Mapped[int]

    __table_args__ = ({"sqlite_with_rowid": False},)


class AttemptCount(Base):
    """How many attempts a webhook had in an hour (UTC) that took about as long; tests are left
    out. A row for each class of duration, so that quantiles of any period are a sum; and under ALL
    the same of all webhooks, so that the merchant's month costs no more than a webhook's."""

    __tablename__ = "attempt_count"

    merchant_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    starts_at: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    webhook_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    took: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    """The class of duration: portal.counts.durations."""
    attempts: Mapped[int]
    successes: Mapped[int]

    __table_args__ = (
        sa.Index("ix_attempt_count_webhook", "merchant_id", "webhook_id", "starts_at"),
        {"sqlite_with_rowid": False},
    )


class CountedUntil(Base):
    """The one row that says up to which moment the logs are counted (Unix µs, a whole ms)."""

    __tablename__ = "counted_until"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    moment: Mapped[int] = mapped_column(sa.BigInteger)
