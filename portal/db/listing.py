"""Keyset pages of the short tables: merchants, users, the operations log.

A cursor is the key of the last row seen, with `-` before it on the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute

from portal.characters import printable, whole_number
from portal.db.session import db
from portal.errors import PortalError

Row = TypeVar("Row")
_MAX_KEY = 2**31 - 1
"""These keys are 32-bit numbers on PostgreSQL."""


class BadCursor(PortalError):
    """A page address that the portal did not make (400)."""

    title = "There is no such page"


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows and the way on: cursors are None where there is nothing more."""

    rows: Sequence[Row]
    next_cursor: str | None
    previous_cursor: str | None
    is_first: bool


def newest_first(
    query: sa.Select[*tuple[Any, ...]], key: InstrumentedAttribute[int], cursor: str, limit: int
) -> Page[Any]:
    """A page of `query` by falling `key` from `cursor` on (empty: from the newest).

    Raises BadCursor for a cursor that is not one.
    """
    backwards = cursor.startswith("-")
    if cursor:
        position = _key(cursor.removeprefix("-"))
        query = query.where(key > position if backwards else key < position)
    query = query.order_by(key.asc() if backwards else key.desc()).limit(limit + 1)
    found = list(db.session.execute(query.add_columns(key.label("page_key"))))
    more = len(found) > limit
    found = found[:limit]
    if backwards:
        found.reverse()
    older = bool(found) and (backwards or more)
    newer = bool(found) and (more if backwards else bool(cursor))
    return Page(
        rows=[row[:-1] for row in found],
        next_cursor=str(found[-1].page_key) if older else None,
        previous_cursor=f"-{found[0].page_key}" if newer else None,
        is_first=not cursor,
    )


def _key(text: str) -> int:
    key = whole_number(text, digits=19)
    if key is None or key > _MAX_KEY:
        raise BadCursor("The page's address is wrong; open the list again from its start.")
    return key


def clean_search(text: str) -> str:
    """What someone typed into a filter, fit for a query: PostgreSQL takes no NUL."""
    return printable(text).strip()[:254]
