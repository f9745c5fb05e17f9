"""What lets people in: their sign-ins, and links for another password."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.characters import printable
from portal.clock import now
from portal.db.session import Base
from portal.ids import digest_of, new_id, new_token


class UserSession(Base):
    """One sign-in on one device. The cookie holds its token; deleting the row ends it."""

    __tablename__ = "user_session"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user_account.id"), index=True)
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now, index=True)
    used_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    """Written now and then, not at each request."""
    address: Mapped[str] = mapped_column(sa.String(45))
    agent: Mapped[str] = mapped_column(sa.String(300))
    """What the browser says it is."""

    @classmethod
    def make(cls, user_id: int, address: str, agent: str) -> tuple[UserSession, str]:
        """A new sign-in and its token."""
        token = new_token()
        return cls(
            id=new_id("ses"),
            user_id=user_id,
            digest=digest_of(token),
            address=address[:45],
            agent=printable(agent)[:300],
        ), token


class PasswordReset(Base):
    """A link with which a user chooses another password. It goes when it is used."""

    __tablename__ = "password_reset"

    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user_account.id"), index=True)
    expires_at: Mapped[int] = mapped_column(sa.BigInteger, index=True)


class RecoveryCode(Base):
    """A code in place of the app's, kept as a hash alone. It goes when it is used."""

    __tablename__ = "recovery_code"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user_account.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)


class Passkey(Base):
    """A device's public key, with which it answers at the second step."""

    __tablename__ = "passkey"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user_account.id"), index=True)
    name: Mapped[str] = mapped_column(sa.String(100))
    credential: Mapped[bytes] = mapped_column(sa.LargeBinary(1_023), unique=True)
    """Its ID, which the device chose."""
    public_key: Mapped[bytes] = mapped_column(sa.LargeBinary)
    """As a COSE key (RFC 9052)."""
    sign_count: Mapped[int] = mapped_column(sa.BigInteger)
    """How often it has signed, where it counts; one that goes back is a copy's."""
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    used_at: Mapped[int | None] = mapped_column(sa.BigInteger)

    @classmethod
    def make(cls, name: str, credential: bytes, public_key: bytes, sign_count: int) -> Passkey:
        """A new passkey, of nobody yet."""
        return cls(
            id=new_id("pk"),
            name=name,
            credential=credential,
            public_key=public_key,
            sign_count=sign_count,
        )
