"""The inspector: a target for those who have none yet. It records what it gets, shows it with the
signature checked, and answers as its merchant chose, so that people can watch retries happen.

A merchant has one. It keeps the newest KEPT requests for KEPT_FOR.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, replace

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError

from portal import ids, runtime
from portal.audit.log import record
from portal.clock import DAY, now
from portal.db.session import db, writing
from portal.diagnosis import bodies, masking, signatures
from portal.diagnosis.bodies import Readable
from portal.diagnosis.reports import secrets_of
from portal.diagnosis.signatures import Check
from portal.errors import FieldError, Invalid, NotFound
from portal.fairness.courtesy import breathe
from portal.ids import new_id
from portal.models import InspectedRequest, Inspector, Webhook
from portal.models.locks import lock_merchant
from portal.strict_json import dump

KEPT, KEPT_FOR = 50, DAY
MAX_BODY = 64 * 1024
"""Bytes of a body that an inspector takes; more is answered with 413 and not recorded."""
MAX_HEADERS, MAX_TEXT = 100, 8 * 1024
"""Headers of a request, and characters of its URI or of one header, that are kept."""


class SlowAnswers(threading.BoundedSemaphore):
    """Those of one process: each holds a thread, which has pages to answer with the rest."""

    def __init__(self) -> None:
        super().__init__(2)


@dataclass(frozen=True)
class InspectorAnswer:
    """What an inspector answers, after a wait; `text` says what that shows."""

    status: int
    text: str
    wait_seconds: int = 0
    retry_after: int | None = None


ANSWERS = {
    "200": InspectorAnswer(200, "200: everything arrives"),
    "slow": InspectorAnswer(200, "200 after 3 seconds", wait_seconds=3),
    "500": InspectorAnswer(500, "500: fails, and is tried again"),
    "429": InspectorAnswer(429, "429 with Retry-After: asks to wait 10 seconds", retry_after=10),
    "410": InspectorAnswer(410, "410: says it is gone, and the webhook is disabled"),
}
BUSY = InspectorAnswer(503, "503: too many slow answers at once", retry_after=5)


@dataclass(frozen=True)
class Received:
    """A request as it came; `uri` is its path with the query."""

    method: str
    uri: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Inspected:
    """A recorded request with all that is worked out about it: `webhook` is the one that it is
    checked for, None when none sends here."""

    request: InspectedRequest
    headers: list[tuple[str, str]]
    body: Readable | None
    webhook: Webhook | None
    checks: list[Check]
    event_id: str | None


# ── Setting it up ─────────────────────────────────────────────────────────────────────────


def find(merchant_id: int) -> Inspector | None:
    """The merchant's inspector; None when it has made none."""
    return db.session.get(Inspector, merchant_id)


def prepare(merchant_id: int, actor: str) -> Inspector:
    """The merchant's inspector, made now where there is none."""
    try:
        with writing() as session:
            inspector = session.get(Inspector, merchant_id)
            if inspector is None:
                inspector = Inspector(merchant_id=merchant_id)
                session.add(inspector)
                record(session, actor, "inspector.created", "", merchant_id)
    except IntegrityError:
        # Made by another at the same moment.
        return _existing(merchant_id)
    return inspector


def choose_answer(merchant_id: int, answer: str, actor: str) -> None:
    """Answer with one of ANSWERS from now on. Raises Invalid, NotFound."""
    if answer not in ANSWERS:
        raise Invalid([FieldError("/answer", "Choose one of the answers.")])
    with writing() as session:
        _existing(merchant_id).answer = answer
        record(session, actor, "inspector.answer_chosen", "", merchant_id, answer=answer)


def remove(merchant_id: int, actor: str) -> None:
    """Delete the inspector with all it got; its address answers 404 for good. Raises NotFound."""
    with writing() as session:
        lock_merchant(session, merchant_id)
        session.delete(_existing(merchant_id))
        session.execute(
            sa.delete(InspectedRequest).where(InspectedRequest.merchant_id == merchant_id)
        )
        record(session, actor, "inspector.removed", "", merchant_id)


def url_of(inspector: Inspector) -> str:
    """The URL to send to."""
    return str(current_app.config["PORTAL"].inspect_url) + inspector.token


def sends_to_inspector(webhook: Webhook, inspector: Inspector) -> bool:
    """Whether a webhook's target is this inspector."""
    return webhook.url.partition("?")[0] == url_of(inspector)


def webhooks_to(inspector: Inspector) -> list[Webhook]:
    """The merchant's webhooks that send to its inspector, the newest first."""
    found = db.session.scalars(
        sa.select(Webhook)
        .where(
            Webhook.merchant_id == inspector.merchant_id,
            Webhook.deleted_at.is_(None),
            Webhook.url.startswith(url_of(inspector), autoescape=True),
        )
        .order_by(Webhook.id.desc())
    )
    return [webhook for webhook in found if sends_to_inspector(webhook, inspector)]


def _existing(merchant_id: int) -> Inspector:
    inspector = find(merchant_id)
    if inspector is None:
        raise NotFound("There is no inspector yet.")
    return inspector


# ── What comes in ─────────────────────────────────────────────────────────────────────────


def receive(token: str, received: Received) -> InspectorAnswer:
    """Record a request to the inspector with this token and say what to answer, after the wait
    that goes with it. Raises NotFound, and then nothing is stored; Unavailable."""
    started = time.monotonic()
    inspector = db.session.scalar(sa.select(Inspector).where(Inspector.token == token))
    if inspector is None:
        raise NotFound("There is no such inspector.")
    webhooks = webhooks_to(inspector)
    secret_names = {
        pair["name"].lower()
        for webhook in webhooks
        for pair in (*webhook.headers, *webhook.query_params)
        if pair["secret"]
    }
    headers = [(name, value[:MAX_TEXT]) for name, value in received.headers[:MAX_HEADERS]]
    row = {
        "id": new_id("ins"),
        "merchant_id": inspector.merchant_id,
        "received_at": now(),
        "method": received.method,
        "uri": masking.uri(received.uri[:MAX_TEXT], secret_names).replace("\0", "%00"),
        "headers": dump(masking.pairs(headers, secret_names)),
        "body": received.body,
        "size": len(received.body),
        "webhook_id": _verified_by(webhooks, headers, received.body),
    }
    answer = ANSWERS[inspector.answer]
    # No transaction stays open during the wait.
    db.session.rollback()
    answer = _wait(answer)
    row |= {"status": answer.status, "took_us": int((time.monotonic() - started) * 1e6)}
    _record(row)
    return answer


def _wait(answer: InspectorAnswer) -> InspectorAnswer:
    if not answer.wait_seconds:
        return answer
    slow = runtime.part(SlowAnswers)
    if not slow.acquire(blocking=False):
        return BUSY
    try:
        # Others may begin meanwhile who are strangers as its sender is.
        breathe(answer.wait_seconds)
    finally:
        slow.release()
    return answer


def _verified_by(
    webhooks: list[Webhook], headers: list[tuple[str, str]], body: bytes
) -> str | None:
    for webhook in webhooks:
        checks = signatures.check(headers, body, secrets_of(webhook))
        if checks and all(check.verified for check in checks):
            return webhook.id
    return None


def _record(row: dict[str, object]) -> None:
    merchant_id = row["merchant_id"]
    with writing() as session:
        if session.get(Inspector, merchant_id) is None:
            # It was removed during the wait.
            raise NotFound("There is no such inspector.")
        session.execute(sa.insert(InspectedRequest), [row])
        oldest = session.scalar(
            sa.select(InspectedRequest.id)
            .where(InspectedRequest.merchant_id == merchant_id)
            .order_by(InspectedRequest.id.desc())
            .offset(KEPT)
            .limit(1)
        )
        if oldest is not None:
            session.execute(
                sa.delete(InspectedRequest).where(
                    InspectedRequest.merchant_id == merchant_id, InspectedRequest.id <= oldest
                )
            )


def id_at(moment: int) -> str:
    """The least ID that a request could get that came at a moment (Unix µs) or later."""
    return ids.id_at("ins", moment)


# ── What pages show ───────────────────────────────────────────────────────────────────────


def newest(inspector: Inspector) -> list[InspectedRequest]:
    """What the inspector got and still keeps, the newest first."""
    return list(
        db.session.scalars(
            sa.select(InspectedRequest)
            .where(
                InspectedRequest.merchant_id == inspector.merchant_id,
                InspectedRequest.id >= id_at(now() - KEPT_FOR),
            )
            .order_by(InspectedRequest.id.desc())
            .limit(KEPT)
        )
    )


def inspect(inspector: Inspector, request: InspectedRequest) -> Inspected:
    """One recorded request, its signature checked step by step with the secrets of today: those
    of the webhook that verified it when it came, or of the newest that sends here."""
    webhooks = webhooks_to(inspector)
    webhook = next(
        (one for one in webhooks if one.id == request.webhook_id), webhooks[0] if webhooks else None
    )
    headers = [(str(name), str(value)) for name, value in json.loads(request.headers)]
    event_id = {name.lower(): value for name, value in headers}.get("webhook-id")
    return Inspected(
        request,
        headers,
        bodies.readable(request.body, headers) if request.body else None,
        webhook,
        # Else whoever may look would have anything signed that somebody sends here.
        [
            one if one.verified else replace(one, computed=None)
            for one in signatures.check(headers, request.body, secrets_of(webhook))
        ]
        if webhook
        else [],
        event_id if request.webhook_id else None,
    )
