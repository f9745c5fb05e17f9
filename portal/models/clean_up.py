"""How far the clean-up is, and when the last one ran."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.db.session import Base


class CleanUp(Base):
    """The one row of the clean-up (portal.upkeep.retention). The row is the truth; jobs only carry
    its token."""

    __tablename__ = "clean_up"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token: Mapped[int] = mapped_column(default=0)
    """Rises with each run that is queued; a run with an older one deletes nothing any more."""
    moment: Mapped[int | None] = mapped_column(sa.BigInteger)
    """As of when it deletes what is past its days; None when none is under way."""
    cursor: Mapped[list[Any] | None] = mapped_column(sa.JSON)
    """The walk that it is at, and the key that it has walked to."""
    removed: Mapped[dict[str, int]] = mapped_column(sa.JSON, default=dict)
    """Rows by table, of the one under way or of the last."""
    work_us: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """How long it worked, its waits for its next turn left out."""
    began_at: Mapped[int] = mapped_column(sa.BigInteger)
    worked_at: Mapped[int] = mapped_column(sa.BigInteger)
    """When a worker last showed that it is at it."""
    finished_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    """When the last one ended."""
    warned_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    """When it was noted that this one takes too long."""

    @property
    def is_running(self) -> bool:
        """Whether one is under way."""
        return self.moment is not None

    def begin(self, moment: int, now: int) -> None:
        """Start from the beginning, as of a moment; what ran until now deletes nothing more, and
        what it has deleted counts for this one."""
        if not self.is_running:
            self.removed, self.work_us, self.began_at, self.warned_at = {}, 0, now, None
        self.moment, self.cursor = moment, None
        self.hand_on(now)

    def hand_on(self, now: int) -> None:
        """Make the next run the only one that may delete."""
        self.token += 1
        self.worked_at = now

    def finish(self, now: int) -> None:
        """Note that it has ended."""
        self.moment = self.cursor = None
        self.worked_at = self.finished_at = now
