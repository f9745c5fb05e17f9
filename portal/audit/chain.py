"""The audit log as a chain: each entry's hash covers the one before it, so that an entry that is
changed, taken out or put in between later is found.

Who can write to the database could compute the whole chain anew: keep the end that `verify` tells,
outside of it, and compare.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session

from portal.db.session import db, insert_into, table
from portal.models import AuditEntry, AuditHead

START = "0" * 64
"""What the first entry is chained to."""
BATCH = 500
_WAITING = "audit entries to chain"
_head = table(AuditHead)


@dataclass(frozen=True)
class Chain:
    """What `verify` found: how many entries are chained, the end, and where it breaks."""

    entries: int
    end: str
    broken: str | None = None


def add(session: Session | scoped_session[Session], entry: AuditEntry) -> None:
    """Add an entry to the running transaction, to be chained at its end."""
    session.add(entry)
    session.info.setdefault(_WAITING, []).append(entry)


def digest(previous: str, entry: AuditEntry) -> str:
    """The hash (SHA-256, hex) of an entry that follows one with the hash `previous`."""
    content = [
        entry.number,
        entry.at,
        entry.merchant_id,
        entry.actor,
        entry.action,
        entry.target,
        entry.detail,
        entry.address,
    ]
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def verify(kept: str | None = None) -> Chain:
    """Follow the chain from its start to its end. `kept` is an end that was told before: it must
    be one of the hashes, or the chain was computed anew since."""
    number, previous = 0, START
    seen = kept in (None, START)
    for entry in _chained():
        number += 1
        if entry.number != number:
            return Chain(number - 1, previous, f"Entry {number} is missing.")
        if entry.hash != digest(previous, entry):
            return Chain(
                number - 1,
                previous,
                f"Entry {number} ({entry.action} by {entry.actor}) was changed, or the one before "
                "it was put in another's place.",
            )
        previous = entry.hash
        seen = seen or previous == kept
    if not seen:
        return Chain(number, previous, "The end that was kept is not in the log any more.")
    head = db.session.execute(sa.select(_head.c.number, _head.c.hash)).first()
    if (head.number, head.hash) != (number, previous) if head else number > 0:
        return Chain(number, previous, f"Entries after {number} are missing.")
    loose = db.session.scalar(
        sa.select(sa.func.min(AuditEntry.id)).where(AuditEntry.number.is_(None))
    )
    if loose is not None:
        return Chain(number, previous, "There is an entry that was never chained.")
    return Chain(number, previous)


def _chained() -> Iterator[AuditEntry]:
    last = 0
    while True:
        entries = db.session.scalars(
            sa.select(AuditEntry)
            .where(AuditEntry.number > last)
            .order_by(AuditEntry.number)
            .limit(BATCH)
        ).all()
        if not entries:
            return
        yield from entries
        last = entries[-1].number or last
        db.session.expunge_all()


def install(sessions: scoped_session[Any]) -> None:
    """Have whatever these sessions commit chained; a second time is none."""
    for name, hook in (("before_commit", chain_waiting), ("after_rollback", _forget)):
        if not sa.event.contains(sessions, name, hook):
            sa.event.listen(sessions, name, hook)


def _forget(session: Session) -> None:
    session.info.pop(_WAITING, None)


def chain_waiting(session: Session) -> None:
    """Chain the transaction's entries. The end is the last thing that a transaction locks, so
    that two of them never wait for each other."""
    waiting = session.info.pop(_WAITING, None)
    if not waiting:
        return
    session.flush()
    session.execute(
        insert_into(session, _head).values(id=1, number=0, hash=START).on_conflict_do_nothing()
    )
    number, previous = session.execute(
        sa.select(_head.c.number, _head.c.hash).with_for_update()
    ).one()
    for entry in sorted(waiting, key=lambda one: one.id):
        number += 1
        entry.number = number
        entry.hash = previous = digest(previous, entry)
    session.execute(sa.update(_head).values(number=number, hash=previous))
    session.flush()
