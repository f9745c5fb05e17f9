"""Filters that people keep by a name: each user's own, per merchant and log."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

import sqlalchemy as sa

from portal.db.listing import clean_search
from portal.db.session import db, writing
from portal.errors import Conflict, FieldError, Invalid, NotFound
from portal.logs import filters
from portal.models import SavedFilter
from portal.models.locks import lock_merchant

MAX_NAME = 60
MAX_QUERY = 2_000
"""Letters of the filters in an address: a longer one does not get through every proxy."""
MAX_SAVED = 30
"""For each user, merchant and log: more could not be taken in at a glance."""


def saved_filters(user_id: int, merchant_id: int, log: str) -> Sequence[SavedFilter]:
    """A user's filters of a merchant's log, by name."""
    return db.session.scalars(
        sa.select(SavedFilter).where(*_whose(user_id, merchant_id, log)).order_by(SavedFilter.name)
    ).all()


def save_filter(user_id: int, merchant_id: int, log: str, name: str, query: str) -> SavedFilter:
    """Save the filters of a query string such as `type=order.*&since=24h`, in place of one with the
    same name.

    Raises Invalid naming what is wrong with name or filters, Conflict when there are MAX_SAVED,
    NotFound for a log that does not exist.
    """
    name = clean_search(name)
    if not 1 <= len(name) <= MAX_NAME:
        raise Invalid([FieldError("/name", f"Give the filter a name of 1 to {MAX_NAME} letters.")])
    kept = _kept(log, query)
    with writing() as session:
        lock_merchant(session, merchant_id)
        own = session.scalars(
            sa.select(SavedFilter).where(*_whose(user_id, merchant_id, log))
        ).all()
        row = next((row for row in own if row.name == name), None)
        if row is None:
            if len(own) >= MAX_SAVED:
                raise Conflict(f"{MAX_SAVED} filters are saved here already; delete one first.")
            row = SavedFilter(user_id=user_id, merchant_id=merchant_id, log=log, name=name)
            session.add(row)
        row.filters = kept
    return row


def delete_filter(user_id: int, merchant_id: int, log: str, filter_id: int) -> None:
    """Delete a filter that the user saved. Raises NotFound."""
    with writing() as session:
        row = session.scalar(
            sa.select(SavedFilter).where(
                *_whose(user_id, merchant_id, log), SavedFilter.id == filter_id
            )
        )
        if row is None:
            raise NotFound("There is no such saved filter.")
        session.delete(row)


def _kept(log: str, query: str) -> dict[str, str]:
    if log not in filters.LOGS:
        raise NotFound("There is no such log.")
    names = {*filters.LOGS[log], "zone"}
    if len(query) > MAX_QUERY:
        raise Invalid([FieldError("/query", "The filters are too long to be kept; shorten them.")])
    try:
        fields = parse_qsl(query, max_num_fields=50)
    except ValueError:
        raise Invalid([FieldError("/query", "There are too many filters; set fewer.")]) from None
    given = {name: value.strip() for name, value in fields if name in names and value.strip()}
    filters.clean(filters.LOGS[log], given, given.get("zone", "UTC"))
    if not given:
        raise Invalid([FieldError("/query", "Set a filter first; there is none to save.")])
    return given


def _whose(user_id: int, merchant_id: int, log: str) -> list[sa.ColumnElement[bool]]:
    return [
        SavedFilter.user_id == user_id,
        SavedFilter.merchant_id == merchant_id,
        SavedFilter.log == log,
    ]
