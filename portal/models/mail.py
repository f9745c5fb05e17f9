"""Mail that waits to be sent, and who wants to be told what."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal import vault
from portal.characters import printable
from portal.clock import now
from portal.db.session import Base


class Mail(Base):
    """One text owed to one address, written in the transaction that it tells of. It goes when the
    server took it, or when the last try failed."""

    __tablename__ = "mail"

    id: Mapped[int] = mapped_column(primary_key=True)
    to_email: Mapped[str] = mapped_column(sa.String(254))
    """Empty for a notice that is owed to all members who want its kind."""
    merchant_id: Mapped[int | None] = mapped_column(sa.ForeignKey("merchant.id"))
    """Of a notice: those of one merchant to one address are sent as one message."""
    kind: Mapped[str | None] = mapped_column(sa.String(40))
    """Of a notice that is owed to members and not handed out yet (portal.notices.gathering)."""
    subject: Mapped[str] = mapped_column(sa.String(300))
    body_token: Mapped[str] = mapped_column(vault.Token)
    """Encrypted: what a mail says of a webhook is for its reader alone."""
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    next_attempt_at: Mapped[int] = mapped_column(sa.BigInteger, default=now, index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str | None] = mapped_column(sa.String(300))
    """What the server said to the last try; for operators who look into the table."""

    __table_args__ = (sa.Index("ix_mail_merchant", "merchant_id", "kind"),)

    @staticmethod
    def one_line(subject: str) -> str:
        """A subject as a header may have it."""
        return printable(subject, instead=" ")[:300]

    @classmethod
    def make(
        cls,
        to_email: str,
        subject: str,
        body: str,
        merchant_id: int | None = None,
        due_at: int | None = None,
        *,
        kind: str | None = None,
    ) -> Mail:
        """A mail that is sent at once, or from `due_at` (Unix µs) on. What cannot be printed does
        not get into its subject, which is a header."""
        return cls(
            to_email=to_email,
            merchant_id=merchant_id,
            subject=cls.one_line(subject),
            kind=kind,
            body_token=vault.encrypt(body),
            next_attempt_at=now() if due_at is None else due_at,
        )


class NoticeChoice(Base):
    """Which kinds of notices of one merchant a user wants by mail; without a row it follows from
    the role (portal.notices.choices)."""

    __tablename__ = "notice_choice"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user_account.id"), primary_key=True)
    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"), primary_key=True)
    kinds: Mapped[list[str]] = mapped_column(sa.JSON)
