"""Sending many deliveries again, or discarding them: what was asked for and how far it is."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import now
from portal.db.session import Base
from portal.errors import Conflict

SEND, DISCARD = ACTIONS = ("send", "discard")
RUNNING, PAUSED, CANCELLED, FINISHED = RECOVERY_STATES = (
    "running",
    "paused",
    "cancelled",
    "finished",
)
RUNNING_LITERAL: sa.ColumnElement[str] = sa.literal_column("'running'")
"""As PENDING_LITERAL of portal.models.delivery: for the index of running rows."""


class Recovery(Base):
    """One recovery (portal.recovery.recovery). The row is the truth; jobs only carry its ID."""

    __tablename__ = "recovery"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    """`rcv_…`; time-ordered."""
    merchant_id: Mapped[int] = mapped_column(sa.ForeignKey("merchant.id"))
    webhook_id: Mapped[str | None] = mapped_column(sa.String(40))
    """None: every webhook of the merchant."""
    action: Mapped[str] = mapped_column(sa.String(10))
    states: Mapped[list[str]] = mapped_column(sa.JSON)
    """Which deliveries: `failed`, `held`, or both."""
    filters: Mapped[dict[str, str]] = mapped_column(sa.JSON, default=dict)
    """`type`, `error`, `status`, where they narrow it."""
    since: Mapped[int | None] = mapped_column(sa.BigInteger)
    before: Mapped[int] = mapped_column(sa.BigInteger)
    """What failed or came from then on is left alone: at the latest the moment of the start, so
    that nothing is taken twice."""
    state: Mapped[str] = mapped_column(sa.String(10), default=RUNNING)
    total: Mapped[int | None]
    """How many deliveries there were to take; None until they are counted."""
    done: Mapped[int] = mapped_column(default=0)
    cursor: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    """The key that it has walked to."""
    token: Mapped[int] = mapped_column(default=1)
    """Rises with each run that is queued; a run with an older one changes nothing any more."""
    created_by: Mapped[str] = mapped_column(sa.String(300))
    created_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    worked_at: Mapped[int] = mapped_column(sa.BigInteger, default=now)
    """When a worker last showed that it is at it."""
    finished_at: Mapped[int | None] = mapped_column(sa.BigInteger)

    __table_args__ = (
        sa.Index("ix_recovery_merchant", "merchant_id", "id"),
        sa.Index(
            "ix_recovery_running",
            "worked_at",
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        ),
    )

    @property
    def is_open(self) -> bool:
        """Whether there is something left to do, now or when it is resumed."""
        return self.state in (RUNNING, PAUSED)

    def pause(self) -> None:
        """Stop after the batch that is being written. Raises Conflict once it has ended."""
        self._refuse_ended()
        self.state = PAUSED

    def resume(self) -> None:
        """Go on from where it was. Raises Conflict once it has ended."""
        self._refuse_ended()
        self.state = RUNNING
        self.hand_on()

    def cancel(self) -> None:
        """Leave the rest as it is. Raises Conflict once it has ended."""
        self._refuse_ended()
        self.end(CANCELLED)

    def end(self, state: str) -> None:
        """Note that it has ended, as `cancelled` or `finished`."""
        self.state = state
        self.finished_at = now()

    def hand_on(self) -> None:
        """Make the next run the only one that may write."""
        self.token += 1
        self.worked_at = now()

    def _refuse_ended(self) -> None:
        if not self.is_open:
            raise Conflict(f"This recovery is {self.state}; start another one for what is left.")
