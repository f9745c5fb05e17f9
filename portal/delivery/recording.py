"""The attempt log: what each answer means for its delivery, written in bulk.

One transaction for many attempts, fenced by the leases of their lanes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal.delivery import retry
from portal.delivery.compose import NONE, Outgoing, Payload
from portal.delivery.transport import Answer
from portal.extensions import table
from portal.models import Attempt, AttemptPayload, Delivery
from portal.models.delivery import PENDING_LITERAL
from portal.strict_json import dump

PAYLOAD_EXPIRED = "payload_expired"
"""The error of a delivery whose event is past its payload days."""

_delivery = table(Delivery)


@dataclass(frozen=True)
class Due:
    """A delivery whose next attempt has come, with the event it carries."""

    id: str
    merchant_id: int
    event_id: str
    webhook_id: str
    attempts: int
    step: int
    trigger: str
    payload: Payload | None


@dataclass(frozen=True)
class Tried:
    """One attempt that ended. `attempted_at` and `finished_at` in Unix µs; `outgoing` is None
    when no request could be composed, and `answer` then says why."""

    request_id: str
    due: Due
    method: str
    url: str
    outgoing: Outgoing | None
    answer: Answer
    attempted_at: int
    finished_at: int

    @property
    def ok(self) -> bool:
        """Whether the delivery succeeded: a whole answer with 2xx."""
        return self.answer.error is None and retry.is_success(self.answer.status)

    @property
    def gone(self) -> bool:
        """Whether the receiver asks for no more."""
        return self.answer.status == retry.GONE

    def retry_after(self) -> int | None:
        """Seconds that the receiver asks to wait, within its clamp."""
        if self.answer.status not in retry.SLOW_DOWN:
            return None
        values = [value for name, value in self.answer.headers if name.lower() == "retry-after"]
        return retry.retry_after(values, self.finished_at)


def log_attempts(session: scoped_session[Any], tried: Sequence[Tried]) -> None:
    """Insert the header log and the payload log of attempts in the running transaction."""
    session.execute(sa.insert(table(Attempt)), [_attempt_row(one) for one in tried])
    session.execute(sa.insert(table(AttemptPayload)), [_payload_row(one) for one in tried])


def settle(tried: Tried, schedule: Sequence[int], *, is_probe: bool = False) -> dict[str, Any]:
    """What becomes of a delivery after an attempt: the values of its row.

    A probe of a held webhook that fails leaves the delivery's place in the schedule as it was.
    """
    values: dict[str, Any] = {"attempts": tried.due.attempts + 1, "trigger": "scheduled"}
    if tried.ok:
        return values | {
            "state": "succeeded", "next_attempt_at": None, "finished_at": tried.finished_at,
        }
    if is_probe and not tried.gone:
        return values
    due_at = None
    if not tried.gone and tried.answer.error != PAYLOAD_EXPIRED:
        due_at = retry.next_attempt_at(
            schedule, tried.due.step, tried.finished_at,
            retry_after_seconds=tried.retry_after(), dice=random.random(),
        )
    if due_at is None:
        return values | {
            "state": "failed", "next_attempt_at": None, "finished_at": tried.finished_at,
        }
    return values | {"next_attempt_at": due_at, "step": tried.due.step + 1, "is_retry": True}


def update_deliveries(
    session: scoped_session[Any], changes: Sequence[tuple[str, dict[str, Any]]]
) -> None:
    """Write the values of many deliveries with few statements: those that share their values,
    as most successes do, are one. A delivery that was discarded meanwhile stays so."""
    groups: dict[tuple[tuple[str, Any], ...], list[str]] = {}
    for delivery_id, values in changes:
        if values.get("finished_at"):
            # One moment for the batch, so that its successes are one statement.
            values = values | {"finished_at": max(
                change["finished_at"] for _, change in changes if change.get("finished_at")
            )}
        groups.setdefault(tuple(sorted(values.items(), key=lambda item: item[0])), []).append(
            delivery_id
        )
    for values_key, ids in groups.items():
        for start in range(0, len(ids), 500):
            session.execute(
                sa.update(_delivery)
                .where(
                    _delivery.c.id.in_(ids[start : start + 500]),
                    _delivery.c.state == PENDING_LITERAL,
                )
                .values(dict(values_key))
            )


def _attempt_row(tried: Tried) -> dict[str, Any]:
    answer = tried.answer
    return {
        "id": tried.request_id,
        "merchant_id": tried.due.merchant_id,
        "event_id": tried.due.event_id,
        "webhook_id": tried.due.webhook_id,
        "delivery_id": tried.due.id,
        "number": tried.due.attempts + 1,
        "trigger": tried.due.trigger,
        "attempted_at": tried.attempted_at,
        "method": tried.method,
        "uri": tried.outgoing.shown_url if tried.outgoing else tried.url,
        "status": answer.status,
        "error": answer.error,
        "error_detail": answer.error_detail,
        "ok": tried.ok,
        "duration_us": answer.duration_us,
        "dns_us": answer.dns_us,
        "connect_us": answer.connect_us,
        "tls_us": answer.tls_us,
        "wait_us": answer.wait_us,
        "download_us": answer.download_us,
    }


def _payload_row(tried: Tried) -> dict[str, Any]:
    outgoing = tried.outgoing
    answer = tried.answer
    came = answer.status is not None
    return {
        "attempt_id": tried.request_id,
        "merchant_id": tried.due.merchant_id,
        "request_headers": dump(outgoing.shown_headers) if outgoing else "[]",
        "body_kind": outgoing.body_kind if outgoing else NONE,
        "request_body": outgoing.body if outgoing and outgoing.body_kind == "own" else None,
        "response_headers": dump(answer.headers) if came else None,
        "response_body": answer.body if came else None,
        "truncated": answer.truncated,
    }
