"""A merchant is a tenant: one store, and the API keys its platform sends events with."""

from __future__ import annotations

import hashlib
import secrets

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import now
from portal.db.session import Base
from portal.ids import new_id


class Merchant(Base):
    """One store. Until staff activate the feature its events are logged and nothing is sent."""

    __tablename__ = "merchant"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(sa.String(63), unique=True)
    name: Mapped[str] = mapped_column(sa.String(200))
    active: Mapped[bool] = mapped_column(default=False)
    activated_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    event_days: Mapped[int | None]
    payload_days: Mapped[int | None]
    storage_mb: Mapped[int | None]
    """What its logs may hold at most, in MB; 0: any number, None: as PORTAL_MERCHANT_MB says."""
    storage_told: Mapped[int] = mapped_column(default=0, server_default="0")
    """What its people were told last of what it has stored (portal.notices.storage_notices)."""
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)

    def activate(self) -> None:
        """Turn the feature on: from the next event on, webhooks are sent."""
        self.active = True
        self.activated_at = now()

    def deactivate(self) -> None:
        """Turn the feature off: events are logged, nothing new is sent."""
        self.active = False


class ApiKey(Base):
    """A key of a merchant: `whp_` and 43 random characters, kept only as a SHA-256 digest.

    A plain digest is enough: the key has 256 random bits, so there is nothing to guess.
    """

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"), index=True)
    name: Mapped[str] = mapped_column(sa.String(200), default="")
    prefix: Mapped[str] = mapped_column(sa.String(12))
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    scope: Mapped[str] = mapped_column(sa.String(5))
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    last_used_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(sa.BigInteger)

    SCOPES = ("read", "write")

    @classmethod
    def make(cls, merchant: Merchant, scope: str, name: str = "") -> tuple[ApiKey, str]:
        """A new key and its text, which is shown once and not kept. `write` includes `read`."""
        text = "whp_" + secrets.token_urlsafe(32)
        key = cls(
            id=new_id("key"),
            merchant_id=merchant.id,
            name=name,
            scope=scope,
            prefix=text[:12],
            digest=cls.digest_of(text),
        )
        return key, text

    @staticmethod
    def digest_of(text: str) -> str:
        """The SHA-256 digest (hex) under which a key's text is found."""
        return hashlib.sha256(text.encode()).hexdigest()

    def revoke(self) -> None:
        """End the key; requests with it answer 401 from now on."""
        self.revoked_at = self.revoked_at or now()
