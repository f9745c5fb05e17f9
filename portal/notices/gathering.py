"""Notices on their way to people: a notice is one row for all of a merchant's members, and the mail
job makes one mail for each member of all the notices that have gathered.

A merchant has up to hundreds of members and webhooks, and one event may cause trouble at all of
them. The notices are written in the transaction that holds everybody's lock, so there is one row
for each webhook, and who gets it is found out later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import scoped_session

from portal import vault
from portal.clock import HOUR, MINUTE, SECOND, now
from portal.config import Config
from portal.db.session import reading, writing
from portal.models import Mail, Merchant, Notice, OperationsEntry
from portal.notices.choices import listeners

WAIT = MINUTE
"""How long a notice waits for others, so that a dead server with ten webhooks makes only one
mail."""
CALM = ((30, HOUR), (5, 10 * MINUTE))
"""If a merchant had notices in this many different minutes of the last hour, of any of its
webhooks, its webhooks come and go, and its mails go out together at the end of each such period."""
MOST_WAITING = 100
"""Notices of one merchant that may wait to be handed out, and mails about it to one address that
may wait to be sent; the portal itself shows all of them."""
SHOWN = 20
"""Notices that one mail names."""
MERCHANTS = 50
"""Merchants whose notices are handed out in one run."""


def queue(
    session: scoped_session[Any], merchant_id: int, kind: str, subject: str, text: str
) -> None:
    """Queue a notice, in the running transaction, for those members who want its kind."""
    waiting = sa.select(Mail.id).where(_is_owed_by(merchant_id)).limit(MOST_WAITING).subquery()
    if session.scalar(sa.select(sa.func.count()).select_from(waiting)) == MOST_WAITING:
        return
    session.add(Mail.make("", subject, text, merchant_id, now() + WAIT, kind=kind))


def hand_out() -> None:
    """Make a mail for each member of the notices that have waited long enough, merchant by
    merchant. So nobody gets more than one a minute about a merchant, and at most some ten an
    hour."""
    moment = now()
    with reading() as session:
        due = session.scalars(
            sa.select(Mail.merchant_id)
            .where(Mail.kind.is_not(None), Mail.next_attempt_at <= moment)
            .group_by(Mail.merchant_id)
            .order_by(sa.func.min(Mail.next_attempt_at))
            .limit(MERCHANTS)
        ).all()
    for merchant_id in due:
        assert merchant_id is not None, "a notice is of a merchant"
        _hand_out(merchant_id, moment)


def _hand_out(merchant_id: int, moment: int) -> None:
    config: Config = current_app.config["PORTAL"]
    with reading() as session:
        merchant = session.execute(
            sa.select(Merchant.id, Merchant.name, Merchant.slug).where(Merchant.id == merchant_id)
        ).one()
        owed = session.execute(
            sa.select(Mail.id, Mail.kind, Mail.subject, Mail.body_token, Mail.created_at)
            .where(_is_owed_by(merchant_id))
            .order_by(Mail.id)
            .limit(MOST_WAITING)
        ).all()
        if not owed:
            return
        ready_at = _ready_at(session, merchant_id, min(mail.created_at for mail in owed))
        listening = listeners(session, merchant_id)
    if ready_at > moment:
        with writing() as session:
            session.execute(
                sa.update(Mail).where(_is_owed_by(merchant_id)).values(next_attempt_at=ready_at)
            )
        return
    texts, lost = _opened(owed)
    told: dict[tuple[int, ...], dict[str, Any]] = {}
    rows = []
    for email, kinds in listening:
        wanted = [mail for mail in owed if mail.kind in kinds and mail.id in texts]
        if wanted:
            key = tuple(mail.id for mail in wanted)
            # Encrypted once for all who get the same.
            if key not in told:
                told[key] = _digest(merchant, wanted, texts, config)
            rows.append({"to_email": email, **told[key]})
    with writing() as session:
        full = set(
            session.scalars(
                sa.select(Mail.to_email)
                .where(Mail.merchant_id == merchant_id, Mail.kind.is_(None))
                .group_by(Mail.to_email)
                .having(sa.func.count() >= MOST_WAITING)
            )
        )
        taken = session.execute(sa.delete(Mail).where(Mail.id.in_([mail.id for mail in owed])))
        if taken.rowcount != len(owed):  # type: ignore[attr-defined]
            # Another worker hands them out.
            session.rollback()
            return
        for mail in lost:
            session.add(
                OperationsEntry(
                    kind="mail",
                    message=(
                        f"Gave up telling the members of {merchant.slug} “{mail.subject}”: "
                        "no secret key of the portal can read it any more"
                    ),
                )
            )
        session.flush()
        if kept := [row for row in rows if row["to_email"] not in full]:
            session.execute(sa.insert(Mail), kept)


def _opened(owed: Sequence[Any]) -> tuple[dict[int, str], list[Any]]:
    """The texts by the IDs of their rows, and the rows that no key decrypts."""
    texts, lost = {}, []
    for mail in owed:
        try:
            texts[mail.id] = vault.decrypt(mail.body_token)
        except vault.Unreadable:
            lost.append(mail)
    return texts, lost


def _digest(
    merchant: Any, wanted: Sequence[Any], texts: dict[int, str], config: Config
) -> dict[str, Any]:
    """The row of a mail about some notices."""
    shown = [texts[mail.id] for mail in wanted[:SHOWN]]
    subject = wanted[0].subject
    if len(wanted) > 1:
        subject = f"[{merchant.name}] {len(wanted)} notices about webhooks"
    if len(wanted) > SHOWN:
        path = f"/m/{merchant.slug}/"
        shown.append(f"And {len(wanted) - SHOWN} more: {config.public_url}{path}")
    return {
        "merchant_id": merchant.id,
        "subject": Mail.one_line(subject),
        "body_token": vault.encrypt("\n\n".join(shown)),
    }


def _ready_at(session: scoped_session[Any], merchant_id: int, oldest: int) -> int:
    """When a merchant's notices, the oldest of which is from `oldest`, are handed out (both Unix
    µs)."""
    minute = Notice.at - Notice.at % MINUTE
    minutes = (
        session.scalar(
            sa.select(sa.func.count(minute.distinct())).where(
                Notice.merchant_id == merchant_id, Notice.at > now() - HOUR
            )
        )
        or 0
    )
    for most, period in CALM:
        if minutes > most:
            # One moment for all notices of a merchant, and another for each merchant.
            own = merchant_id * 37 * SECOND
            return oldest + period - (oldest - own) % period
    return oldest


def _is_owed_by(merchant_id: int) -> sa.ColumnElement[bool]:
    return sa.and_(Mail.merchant_id == merchant_id, Mail.kind.is_not(None))
