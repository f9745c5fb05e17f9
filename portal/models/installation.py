"""Which installation of the portal a database is."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.db.session import Base


class Installation(Base):
    """One row: a name that no other installation has, made at the first start and kept. It is part
    of every name in Redis, which several may share."""

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Always 1."""
    name: Mapped[str] = mapped_column(sa.String(20))
