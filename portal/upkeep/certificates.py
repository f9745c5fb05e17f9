"""The certificates that targets show, looked at once a day, so that people hear of one that ends
before it stops their deliveries."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import current_app

from portal import queues
from portal.clock import HOUR, now
from portal.db.session import db, table, writing
from portal.models import Webhook
from portal.outbound.libcurl import CurlTransport, admitted
from portal.outbound.response import Response
from portal.outbound.transport import Look

EVERY = 20 * HOUR
BATCH = 100
"""Webhooks that one call looks at, all at once; those that were not looked at for longest come
first."""
SECONDS = 5.0
"""How long a target may take: others wait for the same worker."""

_webhook = table(Webhook)


def check_all() -> int:
    """Connect to the targets of webhooks that were not looked at since EVERY, by the way of their
    deliveries, and note when their certificates end; nothing is sent. How many webhooks: BATCH at
    most, and what is left is queued.

    A target that does not answer keeps what was noted of it: its deliveries tell that.
    """
    targets, whose = to_look_at()
    config = current_app.config["PORTAL"]
    transport: CurlTransport[str] = CurlTransport(admitted(config))
    ended = {}
    try:
        for origin in targets:
            transport.submit(Look(origin), SECONDS, origin, whose[origin])
        while transport.in_flight:
            for origin, answer in transport.run(1.0):
                ended[origin] = _ends_at(answer)
    finally:
        transport.close()
    for origin, ids in targets.items():
        _note(ids, ended.get(origin))
    looked_at = sum(map(len, targets.values()))
    if looked_at == BATCH:
        queues.enqueue_next(queues.LOOK_AT_CERTIFICATES)
    return looked_at


def to_look_at() -> tuple[dict[str, list[str]], dict[str, int]]:
    """The webhooks to look at, by what their URLs have in common: host and port; and for whom it is
    looked there, one merchant of those who have it."""
    rows = db.session.execute(
        sa.select(_webhook.c.id, _webhook.c.url, _webhook.c.merchant_id)
        .where(
            _webhook.c.enabled,
            _webhook.c.deleted_at.is_(None),
            _webhook.c.url.like("https:%"),
            # One that is ahead was noted before the clock was set back.
            ~sa.func.coalesce(_webhook.c.certificate_checked_at, 0).between(
                now() - EVERY + 1, now()
            ),
        )
        .order_by(_webhook.c.certificate_checked_at.nulls_first(), _webhook.c.id)
        .limit(BATCH)
    ).all()
    # No transaction stays open while targets take their time.
    db.session.rollback()
    targets: dict[str, list[str]] = {}
    whose: dict[str, int] = {}
    for webhook_id, url, merchant_id in rows:
        host = url.removeprefix("https://").partition("/")[0].partition("?")[0]
        targets.setdefault(f"https://{host}/", []).append(webhook_id)
        whose[f"https://{host}/"] = merchant_id
    return targets, whose


def _ends_at(answer: Response) -> int | None:
    if answer.error == "tls_expired":
        # The handshake ended before the date could be read. It is over in any case.
        return now()
    return answer.certificate_ends_at


def _note(ids: list[str], ends_at: int | None) -> None:
    moment, known = now(), _webhook.c.certificate_ends_at
    # What people see of the webhook's settings does not change.
    values: dict[str, Any] = {"certificate_checked_at": moment, "updated_at": _webhook.c.updated_at}
    if ends_at is not None:
        # One that is over has ended when it was first seen to.
        over = sa.and_(known <= moment, sa.literal(ends_at) <= moment)
        values["certificate_ends_at"] = sa.case((over, known), else_=ends_at)
    with writing() as session:
        session.execute(sa.update(_webhook).where(_webhook.c.id.in_(ids)).values(values))
