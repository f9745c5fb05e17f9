"""Requests that are sent again with the same Idempotency-Key are done once.

draft-ietf-httpapi-idempotency-key-header-07. A key is taken in a transaction of its own before
the request is done, and its answer is added after: a process that is killed in between leaves a
key without an answer, for which nothing is done again and nothing is claimed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import scoped_session

from portal import clock_watch, vault
from portal.clock import now
from portal.db.session import table, writing
from portal.errors import Conflict, KeyReused, StorageFull
from portal.models import IdempotencyKey
from portal.storage import allowance
from portal.storage.sizes import of_deleted, part_of, take_off
from portal.strict_json import dump

_key = table(IdempotencyKey)
_NO_ROOM = (
    "What this store may store in the portal is used up, and an answer is kept for each "
    "Idempotency-Key: nothing was done. Send it without one, or make room first."
)
_UNANSWERED = (
    "A request with this Idempotency-Key is being worked on, or was cut off before its answer was "
    "kept. Try again in a moment; if this stays so, look whether it was done, and send it with a "
    "new key if not."
)


@dataclass(frozen=True)
class SavedAnswer:
    """What a request was answered with."""

    status: int
    headers: dict[str, str]
    body: str


def claim(merchant_id: int, key: str, digest: str) -> SavedAnswer | None:
    """Take a merchant's key for the request with this digest (hex); None when it is to be done
    now, otherwise the answer that it had.

    Raises KeyReused when another request came with the key in the last 24 hours, Conflict while
    the first has no answer, StorageFull where there is no room for one, Unavailable.
    """
    moment, is_full = now(), allowance.lately(merchant_id).is_full
    # A repetition would be done a second time.
    is_sure = clock_watch.doubt() is None
    try:
        with writing() as session:
            row = session.get(IdempotencyKey, (merchant_id, key))
            if row is not None and is_sure and row.created_at <= moment - IdempotencyKey.KEPT:
                _forget(session, row)
                row = None
            if row is not None:
                return _earlier(row, digest)
            if is_full:
                raise StorageFull(_NO_ROOM, allowance.RETRY_SECONDS)
            session.add(
                IdempotencyKey(merchant_id=merchant_id, key=key, digest=digest, created_at=moment)
            )
    except IntegrityError:
        # PostgreSQL: another request took it at the same moment.
        raise Conflict(_UNANSWERED) from None
    return None


def _forget(session: scoped_session[Any], row: IdempotencyKey) -> None:
    """Delete a key that is past its time before the clean-up does."""
    part = part_of(_key)
    assert part is not None
    gone = session.execute(
        sa.delete(_key)
        .where(_key.c.merchant_id == row.merchant_id, _key.c.key == row.key)
        .returning(*of_deleted(part, session.get_bind().dialect.name))
    ).all()
    session.expunge(row)
    take_off(session, part, [(one[0], one[1], one[2]) for one in gone])


def _earlier(row: IdempotencyKey, digest: str) -> SavedAnswer:
    if row.digest != digest:
        raise KeyReused(
            "This Idempotency-Key came with another request in the last 24 hours; send a new "
            "request with a new key."
        )
    if row.status is None or row.answer_token is None:
        raise Conflict(_UNANSWERED)
    try:
        return SavedAnswer(row.status, **json.loads(vault.decrypt(row.answer_token)))
    except vault.Unreadable:
        raise Conflict(
            "A request with this Idempotency-Key was done before; what it was answered with is "
            "kept under a key that the portal does not have. Look at what it made."
        ) from None


def save_answer(merchant_id: int, key: str, answer: SavedAnswer) -> None:
    """Keep what the request of a key was answered with. Raises Unavailable."""
    content = asdict(answer)
    status = content.pop("status")
    with writing() as session:
        session.execute(
            sa.update(_key)
            .where(_key.c.merchant_id == merchant_id, _key.c.key == key)
            .values(status=status, answer_token=vault.encrypt(dump(content)))
        )


def release(merchant_id: int, key: str) -> None:
    """Forget a key whose request was refused and has changed nothing. Raises Unavailable."""
    with writing() as session:
        session.execute(sa.delete(_key).where(_key.c.merchant_id == merchant_id, _key.c.key == key))
