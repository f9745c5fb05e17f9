"""What a merchant may store: bounded, so that one store's events cannot fill the disk of all.

How much is stored is measured beside the way of events (portal.storage.measuring). Ingest reads the
number at most every KEPT_SECONDS in each process; so a merchant goes beyond its bound by what comes
within half a minute or so, and what is owed by then is still sent and logged.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import scoped_session

from portal import runtime
from portal.config import Config
from portal.db.session import db, reading, table, unavailable_when_away
from portal.errors import StorageFull
from portal.journal.seldom import Seldom
from portal.models import MeasuredUntil, Merchant, OperationsEntry, StoredBytes
from portal.storage.sizes import ALL

MB = 1_000_000
KEPT_SECONDS = 3.0
"""How long what was read stands, in each process."""
RETRY_SECONDS = 300
"""When a refused sender may try again: the clean-up runs each night, and a person may make room."""
NEARLY = 0.8
"""The part of what a merchant may store from which its people are warned."""
FAR_BEYOND = 2.0
"""The part of what a merchant may store from which on nothing more is noted of what its people and
programs do, and so not done; until then everything can still be mended."""
MOST_KNOWN = 10_000
"""Merchants of which a process remembers the number; with more it begins anew."""

_stored, _merchant = table(StoredBytes).c, table(Merchant).c
_log = Seldom(logging.getLogger(__name__), 600)


@dataclass(frozen=True)
class Usage:
    """What is stored of a merchant, in bytes: events, deliveries and header logs; record data and
    payload logs; and what it may store, None for any amount."""

    logs: int
    payloads: int
    bound: int | None

    @property
    def stored(self) -> int:
        """All of it."""
        return self.logs + self.payloads

    @property
    def part(self) -> float:
        """How much of what it may store that is; 0 where there is no bound."""
        return self.stored / self.bound if self.bound else 0.0

    @property
    def is_full(self) -> bool:
        """Whether its events are refused."""
        return self.bound is not None and self.stored >= self.bound

    @property
    def is_nearly_full(self) -> bool:
        """Whether its people should do something before they are."""
        return self.part >= NEARLY and not self.is_full


class KnownUsage:
    """What one process knows of it."""

    def __init__(self) -> None:
        self.by_merchant: dict[int, tuple[float, Usage]] = {}
        """With the moment since when."""


def check(merchant_id: int) -> None:
    """Refuse to store more for a merchant who has stored what it may; reads the database every
    KEPT_SECONDS at most. Raises StorageFull."""
    usage = lately(merchant_id)
    if not usage.is_full:
        return
    _log.warn(
        merchant_id,
        f"The storage of merchant {merchant_id} is full: {in_words(usage)}. "
        "Its events are refused.",
    )
    raise StorageFull(
        f"This store has stored {in_words(usage)} in the portal; nothing was stored. Keep its logs "
        "for fewer days, or ask who runs the portal for more room.",
        RETRY_SECONDS,
    )


def ask_far_beyond(merchant_id: int, but: Callable[[], bool]) -> None:
    """Refuse to note more that people do for a merchant who has stored FAR_BEYOND what it may, but
    for what is possible even then: each entry is small, and stays for ever. Raises StorageFull."""
    usage = lately(merchant_id)
    if usage.part >= FAR_BEYOND and not but():
        raise StorageFull(
            f"This store has stored {in_words(usage)} in the portal; nothing was changed. Keep its "
            "logs for fewer days, or ask who runs the portal for more room.",
            RETRY_SECONDS,
        )


def forget() -> None:
    """Read anew, at the next question, what each merchant has stored and what it may."""
    runtime.part(KnownUsage).by_merchant.clear()


def lately(merchant_id: int) -> Usage:
    """What is stored of a merchant, as this process knows it: some seconds old."""
    known, clock = runtime.part(KnownUsage).by_merchant, time.monotonic()
    at, usage = known.get(merchant_id, (0.0, None))
    if usage is None or clock - at > KEPT_SECONDS:
        if usage is not None:
            # Requests of the same moment go on with what is known.
            known[merchant_id] = clock, usage
        if len(known) > MOST_KNOWN:
            known.clear()
        usage = of([merchant_id])[merchant_id]
        known[merchant_id] = clock, usage
    return usage


def full_among(merchant_ids: Iterable[int]) -> set[int]:
    """Those of some merchants who have stored what they may, as this process knows it. Raises
    Unavailable."""
    with unavailable_when_away():
        return {one for one in set(merchant_ids) if lately(one).is_full}


def of(merchant_ids: Sequence[int]) -> dict[int, Usage]:
    """What is stored of each of some merchants."""
    # A connection for a moment: events wait for their turn without one (portal.events.ingest).
    with db.engine.connect() as connection:
        rows = connection.execute(_USAGE, {"merchants": list(merchant_ids)}).all()
    found = {row.id: _usage(row) for row in rows}
    return {one: found.get(one) or Usage(0, 0, None) for one in merchant_ids}


def in_all() -> tuple[int, int]:
    """Bytes that are stored of all merchants, and how many merchants are refused more."""
    with reading() as session:
        usages = [_usage(row) for row in session.execute(_EVERY)]
    return sum(usage.stored for usage in usages), sum(usage.is_full for usage in usages)


def of_all() -> dict[int, Usage]:
    """What is stored of each merchant."""
    with reading() as session:
        return {row.id: _usage(row) for row in session.execute(_EVERY)}


def give_room(session: scoped_session[Any]) -> None:
    """Let those who have stored more than half of what they might, when that was measured for the
    first time, store twice what they have: an upgrade must not refuse the events of a store that
    has grown for years. In the running transaction."""
    for row in session.execute(_EVERY):
        usage = _usage([*row[:4], True])
        if row.storage_mb is not None or usage.part <= 1 / 2:
            continue
        mb = math.ceil(2 * usage.stored / MB)
        session.execute(sa.update(Merchant).where(Merchant.id == row.id).values(storage_mb=mb))
        session.add(
            OperationsEntry(
                kind="storage",
                message=(
                    f"Merchant {row.slug} has stored {amount(usage.stored)}, found when "
                    f"it was measured "
                    f"for the first time. It may store {amount(mb * MB)} and no longer as much as "
                    "PORTAL_MERCHANT_MB says, so that its events are not refused now."
                ),
            )
        )


def in_words(usage: Usage) -> str:
    """How much of how much, for people: `9.8 GB of 10 GB`."""
    stored = amount(usage.stored)
    return stored if usage.bound is None else f"{stored} of {amount(usage.bound)}"


def amount(size: int) -> str:
    """Bytes for people, as disks are sold: `0.4 MB`, `120 MB`, `9.8 GB`."""
    if size < 1_000 * MB:
        return f"{size * 10 // MB / 10:,.1f} MB".replace(".0 ", " ")
    return f"{size // (100 * MB) / 10:,.1f} GB".replace(".0 ", " ")


def _usage(row: Sequence[Any]) -> Usage:
    config: Config = current_app.config["PORTAL"]
    mb = config.merchant_mb if row[1] is None else row[1]
    # Until all was measured once, nobody knows who has stored how much.
    return Usage(int(row[2]), int(row[3]), mb * MB or None if row[4] else None)


_EVERY = (
    sa.select(
        _merchant.id,
        _merchant.storage_mb,
        sa.func.coalesce(sa.func.sum(_stored.logs), 0),
        sa.func.coalesce(sa.func.sum(_stored.payloads), 0),
        sa.select(sa.literal_column("1"))
        .where(MeasuredUntil.id == ALL)
        .correlate(None)
        .scalar_subquery()
        .is_not(None),
        _merchant.slug,
    )
    .outerjoin_from(Merchant.__table__, StoredBytes.__table__, _stored.merchant_id == _merchant.id)
    .group_by(_merchant.id)
)
_USAGE = _EVERY.where(_merchant.id.in_(sa.bindparam("merchants", expanding=True)))
