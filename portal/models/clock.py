"""What the portal has seen of the clocks of the machines that it runs on."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.db.session import Base


class ClockSeen(Base):
    """One machine since it was started, and its clock when somebody last looked
    (portal.clock_watch). Moments are Unix µs, `ahead` is how far they are ahead of the time since
    the machine was started."""

    __tablename__ = "clock_seen"

    boot: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    """What the kernel calls this start of the machine."""
    ahead: Mapped[int] = mapped_column(sa.BigInteger)
    seen_at: Mapped[int] = mapped_column(sa.BigInteger)
    """The last moment that was not in doubt."""
    doubted_ahead: Mapped[int | None] = mapped_column(sa.BigInteger)
    """`ahead` as the clock has it that is in doubt."""
    doubted_from: Mapped[int | None] = mapped_column(sa.BigInteger)
    """When it was first seen to be so, in µs since the machine was started."""
