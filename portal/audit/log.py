"""The audit log: who changed or revealed what, written in the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import sqlalchemy as sa
from flask import has_request_context, request
from sqlalchemy.orm import Session, scoped_session

from portal.audit import chain
from portal.clock import DAY, iso, now
from portal.db import keyset
from portal.db.keyset import LogPage, LogQuery, Walk
from portal.db.listing import Page, newest_first
from portal.db.session import db
from portal.models import AuditEntry, Merchant, OperationsEntry, User
from portal.storage import allowance

_WALK: Walk[AuditEntry] = Walk(
    "audit",
    (AuditEntry.at, AuditEntry.id),
    lambda entry: [entry.at, entry.id],
    lambda _: [now(), 0],
)

_PEOPLE = ("user:", "key:")
MAX_ACTOR = 300
ENDS = (
    "revoked",
    ".removed",
    ".deleted",
    ".disabled",
    ".cancelled",
    ".activated",
    ".deactivated",
    ".storage_changed",
)
"""How actions are called that end something, or are the operators': they have an end themselves."""
ALWAYS = frozenset(("webhook.secret_rotated", "member.changed", "merchant.retention_changed"))
"""What must be possible however much is stored: what takes a secret or a role from who should not
have it, and what makes room."""
MOST_A_DAY = 1_000
"""How often one may do each of these within a day at a merchant that has stored far more than it
may: they have no end themselves."""

FILE_COLUMNS = ("number", "time", "who", "what", "merchant", "on", "from", "detail", "hash")


def actor_of(user: User) -> str:
    """How a signed-in user is named in the log: `user:ann@example.com`."""
    return f"user:{user.email}"


def record(
    session: Session | scoped_session[Session],
    actor: str,
    action: str,
    target: str = "",
    merchant_id: int | None = None,
    **detail: Any,
) -> AuditEntry:
    """Add an entry to the running transaction, so that it stands exactly when the change does.

    `actor` is `user:<email>`, `key:<id>`, `cli` or `portal`; `action` such as
    `webhook.updated`; `detail` is JSON and holds no secret. The address is the request's.
    Raises StorageFull where a merchant that has stored far more than it may has more to be noted
    that somebody does there, but for what ENDS something, and what is ALWAYS possible.
    """
    if merchant_id is not None and actor.startswith(_PEOPLE) and not action.endswith(ENDS):
        allowance.ask_far_beyond(
            merchant_id,
            but=lambda: (
                action in ALWAYS and _noted(session, actor, action, merchant_id) < MOST_A_DAY
            ),
        )
    entry = AuditEntry(
        actor=actor[:MAX_ACTOR],
        action=action,
        target=target[:300],
        merchant_id=merchant_id,
        detail=detail,
        address=_address(),
    )
    chain.add(session, entry)
    return entry


def _address() -> str | None:
    # A proxy may pass on anything as an address, and longer than any is.
    return (request.remote_addr or "")[:45] or None if has_request_context() else None


def _noted(
    session: Session | scoped_session[Session], actor: str, action: str, merchant_id: int
) -> int:
    """How often somebody has done something at a merchant within a day, up to MOST_A_DAY."""
    found = (
        sa.select(AuditEntry.id)
        .where(
            AuditEntry.merchant_id == merchant_id,
            AuditEntry.action == action,
            AuditEntry.at > now() - DAY,
            AuditEntry.actor == actor[:MAX_ACTOR],
        )
        .limit(MOST_A_DAY)
    )
    return session.scalar(sa.select(sa.func.count()).select_from(found.subquery())) or 0


def entries(
    cursor: str = "",
    *,
    merchant: str = "",
    actor: str = "",
    action: str = "",
    since: int | None = None,
    before: int | None = None,
    limit: int = 50,
) -> LogPage[tuple[AuditEntry, str | None]]:
    """One page of the audit log, newest first: entries with their merchant's slug.

    Filters: a merchant's slug, a part of the actor, the start of the action, moments (Unix µs);
    empty means all. Raises BadCursor for a cursor that the portal did not make.
    """
    found = keyset.page(_wanted(merchant, actor, action, since, before), _WALK, cursor, limit)
    slugs = _slugs_of(found.rows)
    rows = [(entry, slugs.get(entry.merchant_id)) for entry in found.rows]
    return replace(cast(LogPage[Any], found), rows=rows)


def every_entry(
    *,
    merchant: str = "",
    actor: str = "",
    action: str = "",
    since: int | None = None,
    before: int | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """All entries that match, for a file, in batches and newest first (keyset.every); filters as
    in `entries`."""
    return keyset.every(_wanted(merchant, actor, action, since, before), _WALK, _for_a_file)


def _for_a_file(rows: Sequence[AuditEntry]) -> list[dict[str, Any]]:
    slugs = _slugs_of(rows)
    return [
        {
            "number": entry.number,
            "time": iso(entry.at),
            "who": entry.actor,
            "what": entry.action,
            "merchant": slugs.get(entry.merchant_id),
            "on": entry.target,
            "from": entry.address,
            "detail": json.dumps(entry.detail, ensure_ascii=False, sort_keys=True),
            "hash": entry.hash,
        }
        for entry in rows
    ]


def _wanted(
    merchant: str, actor: str, action: str, since: int | None, before: int | None
) -> LogQuery[AuditEntry]:
    query = sa.select(AuditEntry)
    if since is not None:
        query = query.where(AuditEntry.at >= since)
    if before is not None:
        query = query.where(AuditEntry.at < before)
    if merchant:
        merchant_id = db.session.scalar(sa.select(Merchant.id).where(Merchant.slug == merchant))
        if merchant_id is None:
            return LogQuery(query.where(sa.false()))
        query = query.where(AuditEntry.merchant_id == merchant_id)
    rest: list[sa.ColumnElement[bool]] = []
    if action:
        # By the names that there are: no index is in order for the start of one.
        named = [name for name in actions() if name.startswith(action)]
        if len(named) == 1:
            query = query.where(AuditEntry.action == named[0])
        else:
            rest.append(AuditEntry.action.in_(named))
    if actor:
        rest.append(AuditEntry.actor.contains(actor, autoescape=True))
    return LogQuery(query.where(*rest), base=query if rest else None)


def _slugs_of(rows: Sequence[AuditEntry]) -> dict[int | None, str]:
    owners = {entry.merchant_id for entry in rows if entry.merchant_id is not None}
    query = sa.select(Merchant.id, Merchant.slug).where(Merchant.id.in_(owners))
    return {row.id: row.slug for row in db.session.execute(query)}


def about(merchant_id: int, target: str, limit: int = 10) -> list[AuditEntry]:
    """The newest entries about one thing of a merchant, the newest first."""
    return list(
        db.session.scalars(
            sa.select(AuditEntry)
            .where(AuditEntry.target == target, AuditEntry.merchant_id == merchant_id)
            .order_by(AuditEntry.id.desc())
            .limit(limit)
        )
    )


def operations(cursor: str = "", limit: int = 50) -> Page[tuple[OperationsEntry]]:
    """One page of what the portal did by itself, newest first."""
    return newest_first(sa.select(OperationsEntry), OperationsEntry.id, cursor, limit)


def actions() -> list[str]:
    """Every action that the log holds, for its filter: one look into an index for each."""
    one = sa.select(sa.func.min(AuditEntry.action).label("action")).cte("one", recursive=True)
    following = (
        sa.select(sa.func.min(AuditEntry.action))
        .where(AuditEntry.action > one.c.action)
        .scalar_subquery()
    )
    each = one.union_all(sa.select(following).where(one.c.action.is_not(None)))
    found = db.session.scalars(sa.select(each.c.action).where(each.c.action.is_not(None)))
    return sorted(found)
