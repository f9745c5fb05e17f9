"""The audit log: who changed or revealed what, written in the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from flask import has_request_context, request
from sqlalchemy.orm import Session, scoped_session

from portal.clock import iso
from portal.extensions import db
from portal.listing import Page, newest_first
from portal.models import AuditEntry, Merchant, OperationsEntry, User
from portal.people import audit_chain

EXPORTED_AT_ONCE = 500


def actor_of(user: User) -> str:
    """How a signed-in user is named in the log: `user:ann@example.com`."""
    return f"user:{user.email}"


def note(
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
    """
    entry = AuditEntry(
        actor=actor[:300], action=action, target=target[:300], merchant_id=merchant_id,
        detail=detail, address=request.remote_addr if has_request_context() else None,
    )
    audit_chain.add(session, entry)
    return entry


def entries(
    cursor: str = "", *, merchant: str = "", actor: str = "", action: str = "",
    since: int | None = None, before: int | None = None, limit: int = 50,
) -> Page[tuple[AuditEntry, str | None]]:
    """One page of the audit log, newest first: entries with their merchant's slug.

    Filters: a merchant's slug, a part of the actor, the start of the action, moments (Unix µs);
    empty means all. Raises BadCursor for a cursor that the portal did not make.
    """
    query = sa.select(AuditEntry, Merchant.slug).outerjoin(
        Merchant, Merchant.id == AuditEntry.merchant_id
    )
    if merchant:
        query = query.where(Merchant.slug == merchant)
    if actor:
        query = query.where(AuditEntry.actor.contains(actor, autoescape=True))
    if action:
        query = query.where(AuditEntry.action.startswith(action, autoescape=True))
    if since is not None:
        query = query.where(AuditEntry.at >= since)
    if before is not None:
        query = query.where(AuditEntry.at < before)
    return newest_first(query, AuditEntry.id, cursor, limit)


def every_entry(**chosen: Any) -> Iterator[list[dict[str, Any]]]:
    """All entries that match, for a file, in batches and newest first; filters as in `entries`.
    Each batch is a read of its own."""
    cursor: str | None = ""
    while cursor is not None:
        page = entries(cursor, limit=EXPORTED_AT_ONCE, **chosen)
        yield [
            {
                "number": entry.number, "time": iso(entry.at), "who": entry.actor,
                "what": entry.action, "merchant": slug, "on": entry.target,
                "from": entry.address,
                "detail": json.dumps(entry.detail, ensure_ascii=False, sort_keys=True),
                "hash": entry.hash,
            }
            for entry, slug in page.rows
        ]
        cursor = page.next_cursor
        db.session.rollback()


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
    """Every action that the log holds, for its filter."""
    return list(db.session.scalars(sa.select(AuditEntry.action).distinct().order_by("action")))
