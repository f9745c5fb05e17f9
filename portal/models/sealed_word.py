"""A sealed word, by which a start sees whether its secret key is the database's."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.db.session import Base
from portal.vault import Token


class SealedWord(Base):
    """One row, whose ID is 1."""

    __tablename__ = "sealed_word"

    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    word_token: Mapped[str] = mapped_column(Token)
