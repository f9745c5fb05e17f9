"""A webhook: a target, what triggers it, and how it has been doing."""

from __future__ import annotations

import zlib
from typing import Any, TypedDict

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal import signing, vault
from portal.clock import DAY, HOUR, now
from portal.db.session import Base

METHODS = ("POST", "PUT", "PATCH", "GET")
MASK = "••••••••"
"""What pages, the API and logs show in place of a secret value."""
Auth = dict[str, str]
"""What a webhook authenticates with: its `type`, and the fields of that type. The secret one's
value is an encrypted token (portal.vault)."""
AUTH_SECRETS = {
    "basic": "password",
    "bearer": "token",
    "oauth2": "client_secret",
    "certificate": "key",
}
"""The field of each type of authentication that is secret."""
ENDS_SOON = 14 * DAY
"""How long before a certificate ends people are told of it."""


class Pair(TypedDict):
    """One query parameter or header. A secret's value is an encrypted token (portal.vault)."""

    name: str
    value: str
    secret: bool


class OldSecret(TypedDict):
    """A signing secret that was replaced: an encrypted token, and until when it signs (Unix µs)."""

    token: str
    until: int


def lane_of(webhook_id: str, lanes: int) -> int:
    """The lane a webhook belongs to; the same on every machine."""
    return zlib.crc32(webhook_id.encode()) % lanes


class Webhook(Base):
    """One target of a merchant. A deleted one keeps its row so that the log can name it."""

    __tablename__ = "webhook"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"))
    lane: Mapped[int] = mapped_column(sa.Integer, index=True)
    description: Mapped[str] = mapped_column(sa.String(500), default="")
    url: Mapped[str] = mapped_column(sa.String(2_048))
    method: Mapped[str] = mapped_column(sa.String(5), default="POST")
    query_params: Mapped[list[Pair]] = mapped_column(sa.JSON, default=list)
    headers: Mapped[list[Pair]] = mapped_column(sa.JSON, default=list)
    auth: Mapped[Auth | None] = mapped_column(sa.JSON(none_as_null=True))
    events: Mapped[list[str]] = mapped_column(sa.JSON)
    include_object_record: Mapped[bool] = mapped_column(default=True)
    only_sources: Mapped[list[str]] = mapped_column(sa.JSON, default=list)
    except_sources: Mapped[list[str]] = mapped_column(sa.JSON, default=list)
    body_template: Mapped[str | None] = mapped_column(sa.Text)
    retry_schedule: Mapped[list[int] | None] = mapped_column(sa.JSON)
    timeout_seconds: Mapped[int | None]
    max_in_flight: Mapped[int | None]
    """Requests at once; None means PORTAL_MAX_IN_FLIGHT."""
    rate_per_second: Mapped[int | None]
    """Requests started in a second; None means as many as there are."""
    ordered: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    """Whether the events of one record are sent one after another, in their order."""
    sign_ed25519: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    """Whether requests also carry a signature that a public key verifies."""
    secret_token: Mapped[str] = mapped_column(vault.Token)
    old_secrets: Mapped[list[OldSecret]] = mapped_column(sa.JSON, default=list, server_default="[]")
    """What was replaced last comes first; each signs until its end."""

    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    disabled_reason: Mapped[str | None] = mapped_column(sa.String(500))
    failures: Mapped[int] = mapped_column(default=0)
    """Failed attempts in a row."""
    failing_since: Mapped[int | None] = mapped_column(sa.BigInteger)
    away: Mapped[int] = mapped_column(default=0, server_default="0")
    """How many attempts in a row found the receiver away (portal.outbound.outcome): these hold."""
    unreachable: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    """Whether the last of them found nobody who listens."""
    held_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    """Since when its deliveries are held and only probes are sent; None when sending."""
    next_probe_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    """When somebody may look again whether the receiver answers; None when sending."""
    catch_up_from: Mapped[int | None] = mapped_column(sa.BigInteger)
    """When its hold ended: what was tried before, and waits for its time, goes out at once. None
    when that has been done."""

    certificate_ends_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    """The last moment of the certificate that its target shows, when it was looked at last."""
    certificate_checked_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    client_certificate_ends_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    """The last moment of the certificate in `auth`; None where it has none."""

    version: Mapped[int] = mapped_column(default=1)
    """Rises with each edit; a form that was opened before another's edit answers 409."""
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    updated_at: Mapped[int] = mapped_column(sa.BigInteger, default=now, onupdate=now)
    deleted_at: Mapped[int | None] = mapped_column(sa.BigInteger)

    __table_args__ = (sa.Index("ix_webhook_merchant", "merchant_id", "created_at"),)

    @property
    def state(self) -> str:
        """`deleted`, `disabled`, `held`, `failing` or `enabled`: one word for lists and badges."""
        if self.deleted_at is not None:
            return "deleted"
        if not self.enabled:
            return "disabled"
        if self.held_at is not None:
            return "held"
        return "failing" if self.failures else "enabled"

    @property
    def holds(self) -> bool:
        """Whether its pending deliveries wait for it to recover or to be enabled."""
        return not self.enabled or self.held_at is not None

    def certificate_ending(self, moment: int) -> int | None:
        """When the target's certificate ends, or the one shown to it, whichever is first: where
        that is over at `moment` (Unix µs) or within ENDS_SOON."""
        ends = [self.certificate_ends_at, self.client_certificate_ends_at]
        first = min((end for end in ends if end is not None), default=None)
        return first if first is not None and first <= moment + ENDS_SOON else None

    @property
    def secret(self) -> str:
        """The signing secret's text: `whsec_` and base64 of 32 random bytes."""
        return vault.decrypt(self.secret_token)

    @property
    def public_key(self) -> str | None:
        """What verifies the `v1a` signatures of its current secret; None where it makes none."""
        try:
            return signing.public_key(self.secret) if self.sign_ed25519 else None
        except vault.Unreadable:
            # The portal's own key was changed, and the secret cannot be opened.
            return None

    def unreadable(self, moment: int) -> list[str]:
        """Which of the secrets that it needs at `moment` (Unix µs) no key of the portal opens, in
        words for people; none where it can send."""
        sealed = [("its signing secret", self.secret_token)]
        sealed += [
            ("a signing secret before the last rotation", old["token"])
            for old in self.old_secrets_at(moment)
        ]
        for kind, pairs in (("query parameter", self.query_params), ("header", self.headers)):
            sealed += [
                (f"the {kind} {pair['name']}", pair["value"]) for pair in pairs if pair["secret"]
            ]
        if self.auth is not None:
            secret = AUTH_SECRETS[self.auth["type"]]
            sealed.append((f"the {secret} of its authentication", self.auth[secret]))
        return [words for words, token in sealed if not vault.opens(token)]

    def old_secrets_at(self, moment: int) -> list[OldSecret]:
        """The replaced secrets that still sign at `moment` (Unix µs), the newest first."""
        return [old for old in self.old_secrets if old["until"] > moment]

    def signing_secrets(self, moment: int) -> list[str]:
        """The secrets to sign with at `moment` (Unix µs): the current one, and those before it
        whose end has not come."""
        return [self.secret, *(vault.decrypt(old["token"]) for old in self.old_secrets_at(moment))]

    def set_secret(self, secret: str) -> None:
        """Give the webhook its first secret."""
        self.secret_token = vault.encrypt(secret)

    def rotate_secret(self, secret: str, overlap_hours: int = 24) -> None:
        """Replace the secret, which signs on for `overlap_hours`; those replaced before it keep
        their ends. An overlap of 0 ends all of them at once, as when one has leaked; what no
        key opens signs nothing, and ends. What was replaced last is kept beyond its end, for
        checking what it signed."""
        moment = now()
        old = OldSecret(token=self.secret_token, until=moment + overlap_hours * HOUR)
        still_signing = self.old_secrets_at(moment) if overlap_hours else []
        self.old_secrets = [one for one in (old, *still_signing) if vault.opens(one["token"])]
        self.secret_token = vault.encrypt(secret)

    def enable(self) -> None:
        """Send again, with a clean record of health, beginning with what was held."""
        if self.holds or self.failures:
            self.catch_up_from = now()
        self.enabled = True
        self.disabled_at = self.disabled_reason = None
        self.failures = self.away = 0
        self.unreachable = False
        self.failing_since = self.held_at = self.next_probe_at = None

    def disable(self, reason: str) -> None:
        """Send nothing until someone enables it; `reason` is shown to people."""
        self.enabled = False
        self.disabled_at = now()
        self.disabled_reason = reason

    def delete(self) -> None:
        """Take it out of use for good; the log keeps its name."""
        self.enabled = False
        self.deleted_at = now()

    @staticmethod
    def shown(pairs: list[Pair]) -> dict[str, Any]:
        """Pairs as the API shows them: `{name: value}`, secrets as `{"secret": true}` masked."""
        return {
            pair["name"]: {"value": MASK, "secret": True} if pair["secret"] else pair["value"]
            for pair in pairs
        }

    @staticmethod
    def shown_auth(auth: Auth | None) -> Auth | None:
        """The authentication as the API shows it, its secret masked."""
        return None if auth is None else auth | {AUTH_SECRETS[auth["type"]]: MASK}
