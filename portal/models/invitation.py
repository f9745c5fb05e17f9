"""Invitations: who was asked to become a member of a merchant and has not come yet."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.clock import now
from portal.db.session import Base
from portal.ids import digest_of, new_id, new_token
from portal.models.merchant import Merchant


class Invitation(Base):
    """One address that may join one merchant. It goes when it is accepted, revoked or replaced;
    the audit log remembers. Its token is shown once and kept as a hash alone."""

    __tablename__ = "invitation"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"))
    email: Mapped[str] = mapped_column(sa.String(254))
    role: Mapped[str] = mapped_column(sa.String(10))
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    created_by: Mapped[str] = mapped_column(sa.String(300))
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    expires_at: Mapped[int] = mapped_column(sa.BigInteger)
    merchant: Mapped[Merchant] = relationship(lazy="joined")

    __table_args__ = (sa.UniqueConstraint("merchant_id", "email"),)

    @classmethod
    def make(
        cls, merchant: Merchant, email: str, role: str, lifetime: int, created_by: str
    ) -> tuple[Invitation, str]:
        """A new invitation that lives for `lifetime` µs, and its token."""
        token, moment = new_token(), now()
        invitation = cls(
            id=new_id("inv"),
            merchant_id=merchant.id,
            email=email,
            role=role,
            digest=digest_of(token),
            created_by=created_by,
            created_at=moment,
            expires_at=moment + lifetime,
        )
        return invitation, token
