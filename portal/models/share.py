"""Links that show one attempt to someone without an account, such as the receiver's developer."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import now
from portal.db.session import Base
from portal.ids import digest_of, new_id, new_token


class AttemptShare(Base):
    """One share link. Its token is shown once and kept as a hash alone."""

    __tablename__ = "attempt_share"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"))
    attempt_id: Mapped[str] = mapped_column(sa.String(40))
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    created_by: Mapped[str] = mapped_column(sa.String(300))
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    expires_at: Mapped[int] = mapped_column(sa.BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(sa.BigInteger)

    __table_args__ = (sa.Index("ix_attempt_share_attempt", "merchant_id", "attempt_id"),)

    @classmethod
    def make(
        cls, merchant_id: int, attempt_id: str, lifetime: int, created_by: str
    ) -> tuple[AttemptShare, str]:
        """A new link that lives for `lifetime` µs, and its token of 256 random bits."""
        token, moment = new_token(), now()
        share = cls(
            id=new_id("shr"),
            merchant_id=merchant_id,
            attempt_id=attempt_id,
            digest=digest_of(token),
            created_by=created_by[:300],
            created_at=moment,
            expires_at=moment + lifetime,
        )
        return share, token

    def is_open(self, moment: int) -> bool:
        """Whether the link still shows its attempt at `moment` (Unix µs)."""
        return self.revoked_at is None and self.expires_at > moment
