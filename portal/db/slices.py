"""Long work is done in slices, by one job after another: the row of the work has a token that rises
with each, so that a job which lost its turn changes nothing any more."""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session

from portal.clock import now


def hand_on(
    session: Session | scoped_session[Any],
    row: sa.Table,
    token: int,
    *is_under_way: sa.ColumnElement[bool],
) -> int | None:
    """End the slice with this token and begin the next, inside the running transaction; the next
    one's token, None when another has the work or it is over."""
    return cast(
        int | None,
        session.scalar(
            sa.update(row)
            .where(row.c.token == token, *is_under_way)
            .values(token=token + 1, worked_at=now())
            .returning(row.c.token)
        ),
    )
