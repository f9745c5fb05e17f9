"""One event owed to one webhook, the requests made for it, and the lanes they run in."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.db.session import Base
from portal.models.webhook import Webhook

PENDING, SUCCEEDED, FAILED, HELD, DISCARDED = STATES = (
    "pending",
    "succeeded",
    "failed",
    "held",
    "discarded",
)
"""What people see. `held` is never stored: a pending delivery of a webhook that is held or
disabled is shown as held (shown_state), so that holding is one row's change."""
SCHEDULED, MANUAL, TEST = TRIGGERS = ("scheduled", "manual", "test")

PENDING_LITERAL: sa.ColumnElement[str] = sa.literal_column("'pending'")
"""For `state == …` where the index of pending rows must serve: a planner cannot match a bound
parameter with the index's condition."""
FAILED_LITERAL: sa.ColumnElement[str] = sa.literal_column("'failed'")
"""The same for the index of failed rows."""

_PENDING_ONLY: dict[str, Any] = {
    "sqlite_where": sa.text("state = 'pending'"),
    "postgresql_where": sa.text("state = 'pending'"),
}


class Delivery(Base):
    """One event owed to one webhook.

    Only the owner of the webhook's lane (portal.delivery.lanes) sends it, so being in flight needs
    no mark of its own: a pending row whose `next_attempt_at` has come is due, also after a crash.
    """

    __tablename__ = "delivery"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    merchant_id: Mapped[int]
    event_id: Mapped[str] = mapped_column(sa.String(255))
    webhook_id: Mapped[str] = mapped_column(sa.String(40))
    state: Mapped[str] = mapped_column(sa.String(10), default=PENDING)
    reason: Mapped[str | None] = mapped_column(sa.String(200))
    """Why it ended or waits, where the last attempt does not say it."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Requests made so far, manual ones too."""
    step: Mapped[int] = mapped_column(default=0)
    """Step of the retry schedule; 0 is the first attempt."""
    hurries: Mapped[int] = mapped_column(default=0, server_default="0")
    """How many of its waits in a row, up to the last, were cut short: as a probe, or since its
    receiver came back."""
    is_retry: Mapped[bool] = mapped_column(default=False)
    """Whether the next attempt gives way to first attempts."""
    trigger: Mapped[str] = mapped_column(sa.String(10), default=SCHEDULED)
    """What the next attempt is for: `scheduled` or `manual`."""
    next_attempt_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    created_at: Mapped[int] = mapped_column(sa.BigInteger)
    finished_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    """When it ended. A pending one that has it was delivered then, and is sent again: whatever
    comes of that, it stays delivered."""
    object_key: Mapped[str | None] = mapped_column(sa.String(511))
    """The record (`order:1000`), where the webhook wants its events in their order."""

    @property
    def is_resent(self) -> bool:
        """Whether it was delivered, and a person has it sent once more."""
        return self.state == PENDING and self.finished_at is not None

    def shown_state(self, webhook: Webhook | None) -> str:
        """The state that people see, given its webhook: what was delivered stays so while it is
        sent again."""
        if self.is_resent:
            return SUCCEEDED
        if self.state == PENDING and webhook is not None and webhook.holds:
            return HELD
        return self.state

    __table_args__ = (
        sa.Index("ix_delivery_event", "merchant_id", "event_id"),
        # What is due, first attempts apart from retries, per webhook.
        sa.Index("ix_delivery_due", "webhook_id", "is_retry", "next_attempt_at", **_PENDING_ONLY),
        sa.Index("ix_delivery_webhook", "webhook_id", "created_at"),
        sa.Index(
            "ix_delivery_object",
            "webhook_id",
            "object_key",
            "created_at",
            sqlite_where=sa.text("state = 'pending' AND object_key IS NOT NULL"),
            postgresql_where=sa.text("state = 'pending' AND object_key IS NOT NULL"),
        ),
        sa.Index("ix_delivery_created", "created_at", "id"),
        # What failed since a moment: recoveries walk it.
        sa.Index(
            "ix_delivery_failed",
            "webhook_id",
            "finished_at",
            "id",
            sqlite_where=sa.text("state = 'failed'"),
            postgresql_where=sa.text("state = 'failed'"),
        ),
    )


def still(state: str) -> sa.ColumnElement[bool]:
    """Whether deliveries that are named by their IDs have a state, in words to which no partial
    index answers. Where PostgreSQL has counted none in a state, it would rather read that index
    from end to end, for each statement, than look the IDs up."""
    return Delivery.__table__.c.state + "" == state


def given_up(reason: str, moment: int) -> dict[str, Any]:
    """What becomes of pending deliveries that are given up at `moment` (Unix µs): values for an
    update. One that was delivered, and waited to be sent again, is delivered still."""
    row = Delivery.__table__.c
    delivered = row.finished_at.is_not(None)
    return {
        "state": sa.case((delivered, SUCCEEDED), else_=DISCARDED),
        "reason": sa.case((delivered, sa.null()), else_=reason),
        "finished_at": sa.func.coalesce(row.finished_at, moment),
        "next_attempt_at": None,
    }


class Attempt(Base):
    """The header log: one HTTP request of a delivery. Kept 60 days."""

    __tablename__ = "attempt"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    """The Request ID, `req_…`; time-ordered."""
    merchant_id: Mapped[int]
    event_id: Mapped[str] = mapped_column(sa.String(255))
    webhook_id: Mapped[str] = mapped_column(sa.String(40))
    delivery_id: Mapped[str] = mapped_column(sa.String(40))
    number: Mapped[int]
    trigger: Mapped[str] = mapped_column(sa.String(10))
    attempted_at: Mapped[int] = mapped_column(sa.BigInteger)
    method: Mapped[str] = mapped_column(sa.String(5))
    uri: Mapped[str] = mapped_column(sa.Text)
    """As requested, with secret parameters masked."""
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(sa.String(40))
    """A code such as `connect_timeout`; None when an answer came."""
    error_detail: Mapped[str | None] = mapped_column(sa.Text)
    ok: Mapped[bool]
    duration_us: Mapped[int]
    dns_us: Mapped[int | None]
    connect_us: Mapped[int | None]
    tls_us: Mapped[int | None]
    send_us: Mapped[int | None]
    """None also where it was not measured yet; `wait_us` then holds it too."""
    wait_us: Mapped[int | None]
    download_us: Mapped[int | None]
    sends: Mapped[int | None]
    """How often the request was sent: 0 where it never left, 2 where the connection died without an
    answer (portal.outbound.transfer); None where it was not counted yet."""

    __table_args__ = (
        sa.Index("ix_attempt_merchant", "merchant_id", "id"),
        sa.Index("ix_attempt_event", "merchant_id", "event_id", "id"),
        sa.Index("ix_attempt_webhook", "webhook_id", "id"),
        sa.Index("ix_attempt_delivery", "delivery_id", "id"),
        # "What failed": without it a merchant whose attempts all succeed is read to the end.
        # With `ok` in it a planner without statistics prefers it to the whole log's index.
        sa.Index(
            "ix_attempt_failed",
            "merchant_id",
            "ok",
            "id",
            sqlite_where=sa.text("ok = 0"),
            postgresql_where=sa.text("NOT ok"),
        ),
    )


class AttemptPayload(Base):
    """The payload log of one attempt. Kept 15 days."""

    __tablename__ = "attempt_payload"

    attempt_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    merchant_id: Mapped[int]
    request_headers: Mapped[str] = mapped_column(sa.Text)
    """JSON list of [name, value], secret values masked."""
    body_kind: Mapped[str] = mapped_column(sa.String(6))
    """`record` or `thin`: the event's body with or without its record; `own`: request_body;
    `none`: a request without a body."""
    request_body: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    response_headers: Mapped[str | None] = mapped_column(sa.Text)
    response_body: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    truncated: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (sa.Index("ix_attempt_payload_merchant", "merchant_id", "attempt_id"),)


class Lane(Base):
    """A lease on a part of all webhooks: one owner at a time (portal.delivery.lanes)."""

    __tablename__ = "lane"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str | None] = mapped_column(sa.String(100))
    token: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """Rises with each new owner; a late owner's writes do not match and are refused."""
    leased_until: Mapped[int] = mapped_column(sa.BigInteger, default=0)
