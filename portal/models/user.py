"""Who signs in: staff of the platform, and members of merchants."""

from __future__ import annotations

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from flask_login import UserMixin
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal import vault
from portal.clock import now
from portal.db.session import Base
from portal.fairness import hashing
from portal.models.merchant import Merchant
from portal.models.sign_in import Passkey, PasswordReset, UserSession

MEMBER_ROLES = ("viewer", "editor", "owner")
STAFF_ROLES = ("auditor", "operator")
MIN_PASSWORD = 10
MAX_PASSWORD = 200


def hash_of_nobody(hasher: PasswordHasher) -> str:
    """A hash that no password has and that costs as much to try as any of a hasher's; written down,
    because making one would cost every start of every process a tenth of a second."""
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${'A' * 22}${'A' * 43}"


_hasher = PasswordHasher()
_NOBODY = hash_of_nobody(_hasher)


class User(UserMixin, Base):  # type: ignore[misc] # it says nothing of its types
    """A person: staff (`auditor` reads everything, `operator` runs it), or member of merchants."""

    __tablename__ = "user_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(254), unique=True)
    name: Mapped[str] = mapped_column(sa.String(200), default="")
    password_hash: Mapped[str] = mapped_column(sa.String(200))
    staff_role: Mapped[str | None] = mapped_column(sa.String(10))
    disabled_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    totp_token: Mapped[str | None] = mapped_column(vault.Token)
    """The secret of the second factor, encrypted; None asks for the password alone."""
    totp_step: Mapped[int | None] = mapped_column(sa.BigInteger)
    """The step of the last code that was taken: none works twice (RFC 6238 §5.2)."""
    passkey_moment: Mapped[int | None] = mapped_column(sa.BigInteger)
    """When a passkey last answered, in Unix µs: no challenge from before it is taken, so that none
    works twice."""
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    memberships: Mapped[list[Membership]] = relationship(
        back_populates="user", cascade="all, delete-orphan", lazy="selectin"
    )
    sessions: Mapped[list[UserSession]] = relationship(cascade="all, delete-orphan")
    passkeys: Mapped[list[Passkey]] = relationship(cascade="all, delete-orphan")
    resets: Mapped[list[PasswordReset]] = relationship(cascade="all, delete-orphan")

    @property
    def is_active(self) -> bool:
        """Whether the account may be used (Flask-Login asks at sign-in)."""
        return self.disabled_at is None

    @property
    def has_second_factor(self) -> bool:
        """Whether signing in takes more than the password."""
        return self.totp_token is not None or bool(self.passkeys)

    def set_password(self, password: str) -> None:
        """Keep the argon2id hash of a password and end all sessions."""
        self.set_password_hash(hash_password(password))

    def set_password_hash(self, password_hash: str) -> None:
        """Keep a hash made by `hash_password`, and end all sessions and links to another one."""
        self.password_hash = password_hash
        self.resets = []
        self.end_sessions()

    def end_sessions(self) -> None:
        """Sign the person out everywhere."""
        self.sessions = []

    def check_password(self, password: str) -> bool:
        """Whether this is the password. Raises TooManyRequests."""
        return _verify(self.password_hash, password)

    @staticmethod
    def check_nobody(password: str) -> bool:
        """Take as long as for a real user, so that addresses cannot be tried out. Always False."""
        return _verify(_NOBODY, password) and False

    def disable(self) -> None:
        """End the account, its sessions, and links to another password."""
        self.disabled_at = now()
        self.resets = []
        self.end_sessions()

    def enable(self) -> None:
        """Open a disabled account again; sessions from before stay ended."""
        self.disabled_at = None

    def role_at(self, merchant_id: int) -> str | None:
        """`viewer`, `editor`, `owner`, or None when not a member of the merchant."""
        for membership in self.memberships:
            if membership.merchant_id == merchant_id:
                return membership.role
        return None


def hash_password(password: str) -> str:
    """The argon2id hash of a password. It takes tens of milliseconds by design: call it before
    `writing()`, never while the database is locked. Raises TooManyRequests."""
    with hashing.own_turn():
        return _hasher.hash(password)


def _verify(password_hash: str, password: str) -> bool:
    with hashing.own_turn():
        try:
            return _hasher.verify(password_hash, password[:MAX_PASSWORD])
        except VerificationError:
            return False


class Membership(Base):
    """One user's role at one merchant."""

    __tablename__ = "membership"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user_account.id"), primary_key=True)
    merchant_id: Mapped[int] = mapped_column(
        sa.ForeignKey("merchant.id"), primary_key=True, index=True
    )
    role: Mapped[str] = mapped_column(sa.String(10))
    user: Mapped[User] = relationship(back_populates="memberships")
    merchant: Mapped[Merchant] = relationship(lazy="joined")
