"""Pages of a log by the key of its rows: as quick at row ten million as at the first.

A cursor is the key of a row, signed: one that the portal did not make for this very list is
refused, and none says anything of rows that are not the reader's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from flask import current_app
from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy.orm import InstrumentedAttribute

from portal.db.listing import BadCursor, Page
from portal.db.session import db, reading
from portal.errors import FieldError, Invalid
from portal.fairness.courtesy import breathe

Row = TypeVar("Row")
Shape = TypeVar("Shape")
MAX_LIMIT = 100
MAX_CURSOR = 2_048
NEWS_CAP = 100
"""New rows are counted up to here; pages show `100+`."""
LOOKED_THROUGH = 50_000
"""Rows that one page looks through for what no index can find; the next page goes on there."""
SIFTED_CHARACTERS, SIFTED_SECONDS = 16_777_216, 1.0
"""What one page looks through at most by a sieve: characters of text, and seconds."""
BREATH_SECONDS = 0.01
"""How long it looks before it lets others go first."""
AT_ONCE = 16
"""Rows with their texts that are in memory at the same time."""
BATCH = 500
"""Rows that are read at once when a whole log is wanted."""
_OLDER, _NEWER, _NEWS, _VIEW = "older", "newer", "news", "view"


@dataclass(frozen=True)
class Walk(Generic[Row]):
    """One way through a log, the newest row first: an index, and the key of a row in it."""

    name: str
    columns: tuple[sa.ColumnElement[Any] | InstrumentedAttribute[Any], ...]
    key: Callable[[Row], list[Any]]
    horizon: Callable[[Row | None], list[Any]]
    """The key from which on rows may still appear that are older than this row (None: than the
    present): they were begun before it and are committed after it."""
    moment: Callable[[list[Any]], int] = itemgetter(0)
    """The time of a key, in Unix µs."""


@dataclass(frozen=True)
class Sieve:
    """A condition on long texts, which is looked at here and not in the database: there no operator
    promises to end in time. `column` gives the text of a row, or NULL; `holds` tells whether it is
    wanted, in a time that grows with the text alone."""

    column: sa.ColumnElement[str | None]
    holds: Callable[[str], bool]


@dataclass(frozen=True)
class LogQuery(Generic[Row]):
    """Rows that are wanted. `base`, where there is one, selects them and others by an index, among
    which they must be looked for; None says that an index finds just them. `cost` says how many
    usual rows one of them counts for in LOOKED_THROUGH. Of what `query` selects, `sieve` lets
    through what is wanted; where there is one, so is `base`."""

    query: sa.Select[Row]
    base: sa.Select[Any] | None = None
    cost: int = 1
    sieve: Sieve | None = None

    def narrowed(self, condition: sa.ColumnElement[bool]) -> LogQuery[Row]:
        """Of these rows those that an index finds by `condition` too."""
        base = None if self.base is None else self.base.where(condition)
        return replace(self, query=self.query.where(condition), base=base)


@dataclass(frozen=True)
class LogPage(Page[Row]):
    """A page of a log; `mark` is what `news` takes, `view` what `in_view` takes.

    `looked_back_to` (Unix µs) says that the page ends there for having looked through
    LOOKED_THROUGH rows, or as much text as SIFTED_CHARACTERS and SIFTED_SECONDS allow;
    `next_cursor` goes on from there, and `rows` may be few or none.
    """

    mark: str | None = None
    view: str | None = None
    looked_back_to: int | None = None


def page(wanted: LogQuery[Row], walk: Walk[Row], cursor: str | None, limit: int) -> LogPage[Row]:
    """The wanted rows from `cursor` on (None or empty: from the newest).

    Raises BadCursor, or Invalid when `limit` is not from 1 to MAX_LIMIT.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid([FieldError("/limit", f"limit is a number from 1 to {MAX_LIMIT}.")])
    direction, position = _OLDER, None
    if cursor:
        direction, position = _unseal(walk, cursor, _OLDER, _NEWER)
    backwards = direction == _NEWER
    key = sa.tuple_(*walk.columns)
    order = [column.asc() if backwards else column.desc() for column in walk.columns]

    def onward(query: sa.Select[Any]) -> sa.Select[Any]:
        if position is None:
            return query
        return query.where(key > tuple(position) if backwards else key < tuple(position))

    query = onward(wanted.query)
    edge = _edge(wanted, walk, onward, order)
    if edge is not None:
        query = query.where(key <= tuple(edge) if backwards else key >= tuple(edge))
    found, reached = _find(wanted, query.order_by(*order), walk, limit + 1, backwards=backwards)
    more = len(found) > limit
    rows = list(found[:limit])
    if backwards:
        rows.reverse()
    stopped = None if more else reached or edge
    older = walk.key(rows[-1]) if rows and (backwards or more) else None
    newer = walk.key(rows[0]) if rows and (more if backwards else position is not None) else None
    if backwards:
        newer = stopped or newer
    else:
        older = stopped or older
    return LogPage(
        rows=rows,
        next_cursor=_seal(walk, _OLDER, older) if older else None,
        previous_cursor=_seal(walk, _NEWER, newer) if newer else None,
        is_first=position is None,
        mark=_mark(walk, rows, more) if position is None else None,
        view=_seal(walk, _VIEW, [walk.key(rows[0]), walk.key(rows[-1])]) if rows else None,
        looked_back_to=walk.moment(stopped) if stopped and not backwards else None,
    )


def news(wanted: LogQuery[Any], walk: Walk[Any], mark: str) -> int:
    """How many rows have come since a first page was made, up to NEWS_CAP. One query of the
    newest few rows. Raises BadCursor."""
    seen: int
    _, (start, seen) = _unseal(walk, mark, _NEWS)
    query = wanted.query.where(sa.tuple_(*walk.columns) >= tuple(start))
    most = seen + NEWS_CAP
    if wanted.sieve is not None:
        newest = query.order_by(*(column.desc() for column in walk.columns))
        keys, reached = _sift(newest, wanted.sieve, walk, most)
        # What the page showed lies behind everything that is new.
        return len(keys) if reached else max(0, len(keys) - seen)
    part = query.with_only_columns(sa.literal(1)).limit(most).subquery()
    count = db.session.scalar(sa.select(sa.func.count()).select_from(part)) or 0
    return max(0, count - seen)


def in_view(wanted: LogQuery[Row], walk: Walk[Row], view: str) -> Sequence[Row]:
    """The rows that a page shows, as they are now. Raises BadCursor."""
    _, (newest, oldest) = _unseal(walk, view, _VIEW)
    key = sa.tuple_(*walk.columns)
    query = wanted.query.where(key <= tuple(newest), key >= tuple(oldest)).order_by(
        *(column.desc() for column in walk.columns)
    )
    return _find(wanted, query, walk, MAX_LIMIT)[0]


def floor(walk: Walk[Any], cursor: str | None) -> list[Any] | None:
    """The key of the last row before a page's `next_cursor`; None where there is no next page.
    Raises BadCursor."""
    return _unseal(walk, cursor, _OLDER)[1] if cursor else None


def down_to(wanted: LogQuery[Row], walk: Walk[Row], key: list[Any] | None) -> LogQuery[Row]:
    """Of these rows those from `key` on that are newer, and its own; None: all."""
    if key is None:
        return wanted
    return wanted.narrowed(sa.tuple_(*walk.columns) >= tuple(key))


def every(
    wanted: LogQuery[Row], walk: Walk[Row], shape: Callable[[Sequence[Row]], list[Shape]]
) -> Iterator[list[Shape]]:
    """All wanted rows, the newest first, in bounded memory: batch for batch as `shape` makes them
    (some may be empty). Each is read in a transaction of its own that looks through no more than a
    page does, so that neither a slow reader nor a rare row keeps one open for long."""
    position: list[Any] | None = None
    edge: list[Any] | None = None
    key = sa.tuple_(*walk.columns)
    order = [column.desc() for column in walk.columns]

    def onward(query: sa.Select[Any]) -> sa.Select[Any]:
        return query if position is None else query.where(key < tuple(position))

    while True:
        with reading():
            if edge is None:
                edge = _edge(wanted, walk, onward, order)
            part = onward(wanted.query)
            if edge is not None:
                part = part.where(key >= tuple(edge))
            started = time.monotonic()
            rows, reached = _find(wanted, part.order_by(*order), walk, BATCH)
            shaped = shape(rows)
            if len(rows) == BATCH:
                reached = walk.key(rows[-1])
            del rows
        # It would have the interpreter for as long as the log is: others have it as long.
        breathe(time.monotonic() - started)
        yield shaped
        if reached is not None:
            position = reached
        elif edge is None:
            return
        else:
            position, edge = edge, None


def _find(
    wanted: LogQuery[Row],
    query: sa.Select[Row],
    walk: Walk[Row],
    most: int,
    *,
    backwards: bool = False,
) -> tuple[Sequence[Row], list[Any] | None]:
    """The first `most` of the wanted rows in the order of `query`, which is that of their keys; and
    the key up to which was looked, where the sieve could not look at all of them."""
    if wanted.sieve is None:
        return db.session.scalars(query.limit(most)).all(), None
    keys, reached = _sift(query, wanted.sieve, walk, most, backwards=backwards)
    if not keys:
        return [], reached
    # By the last part of the key, which an index finds; a list of whole keys is no look into one on
    # SQLite. And between the ends of what was looked at, where no index begins with it.
    key = sa.tuple_(*walk.columns)
    these = query.where(
        walk.columns[-1].in_([parts[-1] for parts in keys]),
        key >= tuple(min(keys)),
        key <= tuple(max(keys)),
    )
    wanted_keys = set(map(tuple, keys))
    found = [row for row in db.session.scalars(these) if tuple(walk.key(row)) in wanted_keys]
    return found, reached


def _sift(
    query: sa.Select[Any], sieve: Sieve, walk: Walk[Any], most: int, *, backwards: bool = False
) -> tuple[list[list[Any]], list[Any] | None]:
    """The keys of the first `most` rows that the sieve lets through; and the key of the last one
    that it looked at, where its time or SIFTED_CHARACTERS were over before the rows were.

    Others go first between two parts of it, each of which is a read transaction of its own: with
    snapshots that overlap SQLite's log would grow for as long as people search.
    """
    now = time.monotonic()
    end, looked_at = now + SIFTED_SECONDS, 0
    keys: list[list[Any]] = []
    # No rows of the log itself: nearly all are looked at only to be left.
    texts = query.with_only_columns(*walk.columns, sieve.column)
    onward, whole_key = texts, sa.tuple_(*walk.columns)
    while True:
        breath_at, key = time.monotonic() + BREATH_SECONDS, None
        with db.session.execute(onward, execution_options={"yield_per": AT_ONCE}) as found:
            for *key, text in found:
                if text is not None:
                    looked_at += len(text)
                    if sieve.holds(text):
                        keys.append(key)
                        if len(keys) == most:
                            return keys, None
                now = time.monotonic()
                if looked_at >= SIFTED_CHARACTERS or now >= end:
                    return keys, key
                if now >= breath_at:
                    break
            else:
                return keys, None
        position = tuple(key)
        onward = texts.where(whole_key > position if backwards else whole_key < position)
        db.session.rollback()
        end += breathe()


def _edge(
    wanted: LogQuery[Row],
    walk: Walk[Row],
    onward: Callable[[sa.Select[Any]], sa.Select[Any]],
    order: Sequence[sa.ColumnElement[Any]],
) -> list[Any] | None:
    """The key of the last row to look at; None when there is an end before, or an index finds the
    wanted rows by themselves."""
    if wanted.base is None:
        return None
    # An index alone is walked for this; the rows themselves are what takes its time.
    edge = db.session.execute(
        onward(wanted.base)
        .with_only_columns(*walk.columns)
        .order_by(*order)
        .offset(LOOKED_THROUGH // wanted.cost)
        .limit(1)
    ).first()
    return None if edge is None else list(edge)


def _mark(walk: Walk[Row], rows: list[Row], more: bool) -> str | None:
    if not rows:
        return _seal(walk, _NEWS, [walk.horizon(None), 0])
    start = walk.horizon(rows[0])
    if more and start < walk.key(rows[-1]):
        start = walk.key(rows[-1])
    seen = sum(walk.key(row) >= start for row in rows)
    return _seal(walk, _NEWS, [start, seen])


def _box(walk: Walk[Any]) -> URLSafeSerializer:
    keys = [*current_app.config["SECRET_KEY_FALLBACKS"], current_app.config["SECRET_KEY"]]
    return URLSafeSerializer(
        keys, salt=f"keyset {walk.name}", signer_kwargs={"digest_method": hashlib.sha256}
    )


def _seal(walk: Walk[Any], kind: str, content: list[Any]) -> str:
    sealed = _box(walk).dumps([kind, content])
    return sealed if isinstance(sealed, str) else sealed.decode()


def _unseal(walk: Walk[Any], text: str, *kinds: str) -> tuple[str, list[Any]]:
    try:
        kind, content = _box(walk).loads(text[:MAX_CURSOR])
    except BadData:
        kind, content = "", []
    if kind not in kinds:
        raise BadCursor("The cursor is not one of this list; open the list again from its start.")
    return kind, content
