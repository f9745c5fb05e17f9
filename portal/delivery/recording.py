"""The attempt log, written in bulk, and what each response means for its delivery.

One transaction for many attempts, fenced by the leases of their lanes.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from portal import runtime
from portal.composing.compose import NONE, OWN, Outgoing
from portal.db import bulk
from portal.db.session import table
from portal.delivery import retry
from portal.delivery.due import DueDelivery
from portal.models import Attempt, AttemptPayload, Delivery
from portal.models.delivery import MANUAL, PENDING, SUCCEEDED, still
from portal.outbound import outcome
from portal.outbound.looking import Looking
from portal.outbound.outcome import Outcome
from portal.outbound.response import Response
from portal.strict_json import dump

Change = dict[str, Any]
"""What becomes of a delivery: the new values of its row."""
Rows = list[tuple[Any, ...]]

_delivery = table(Delivery)


@dataclass(slots=True)
class FinishedAttempt:
    """An attempt that has ended. `attempted_at` and `finished_at` are in Unix µs; `outgoing` is
    None when no request could be composed, and `answer` then says why."""

    request_id: str
    due: DueDelivery
    method: str
    url: str
    outgoing: Outgoing | None
    answer: Response
    attempted_at: int
    finished_at: int
    schedule: Sequence[int] = ()
    """The delays of its webhook's retry schedule, in seconds."""
    outcome: Outcome = field(init=False)
    """What it says about the receiver."""

    def __post_init__(self) -> None:
        """Take the secrets of the request out of the response before it is logged."""
        self.outcome = outcome.of(
            self.answer.status,
            self.answer.error,
            was_composed=self.outgoing is not None,
            was_connected=self.answer.tls_us is not None,
        )
        answer, echoes = self.answer, self.outgoing and self.outgoing.frame.echoes
        if echoes and answer.status is not None:
            looking, whose = runtime.part(Looking), self.due.merchant_id
            self.answer = looking.without_secrets(answer, echoes, whose)

    def plainly(self, answer: Response) -> FinishedAttempt:
        """The same attempt as a failure of the portal itself, with nothing but that `answer`."""
        if self.answer.status is not None:
            answer.error_detail = f"{answer.error_detail} It was answered {self.answer.status}."
        return replace(self, outgoing=None, answer=answer)

    @property
    def is_plain(self) -> bool:
        """Whether it is a failure of the portal itself and holds nothing of a request."""
        return self.outgoing is None and self.answer.error == outcome.INTERNAL_ERROR

    @property
    def ok(self) -> bool:
        """Whether the delivery succeeded: a complete response with 2xx."""
        return self.outcome is Outcome.DELIVERED

    @property
    def gone(self) -> bool:
        """Whether the receiver asks to get nothing more (410)."""
        return self.answer.status == retry.GONE

    def retry_after(self) -> int | None:
        """How many seconds the receiver asks to wait, within bounds (retry); None if it does
        not."""
        if self.answer.status not in retry.SLOW_DOWN:
            return None
        values = [value for name, value in self.answer.headers if name.lower() == "retry-after"]
        return retry.retry_after(values, self.finished_at)


def rows_of(tried: Sequence[FinishedAttempt], full: Collection[int] = ()) -> tuple[Rows, Rows]:
    """The rows of attempts for the header log and for the payload log. Merchants whose storage is
    `full` get none in the payload log: otherwise what is still to be sent would go on filling it,
    with up to a megabyte for each request that a template makes."""
    return (
        [_attempt_row(one) for one in tried],
        [_payload_row(one) for one in tried if one.due.merchant_id not in full],
    )


def log_attempts(session: scoped_session[Any], rows: tuple[Rows, Rows]) -> None:
    """Insert the rows of attempts in the running transaction."""
    connection, (attempts, payloads) = session.connection(), rows
    bulk.insert(connection, table(Attempt), _ATTEMPT, attempts)
    bulk.insert(connection, table(AttemptPayload), _ATTEMPT_PAYLOAD, payloads)


def is_kept(tried: FinishedAttempt, schedule: Sequence[int]) -> bool:
    """Whether this was a delivery's last attempt and nobody was listening: it is then kept until
    somebody is, for no delivery is given up because nobody listens. This does not hold for attempts
    that a person asks for."""
    due = tried.due
    return (
        tried.outcome is Outcome.UNREACHABLE
        and due.delivered_at is None
        and due.trigger != MANUAL
        and due.step + 1 >= len(schedule)
    )


def settle(tried: FinishedAttempt, schedule: Sequence[int]) -> Change:
    """What becomes of a delivery after an attempt.

    A delivery that has succeeded stays so, whatever comes of sending it again. An attempt that a
    person asks for is not counted towards the schedule.
    """
    due = tried.due
    values: Change = {"attempts": due.attempts + 1, "trigger": "scheduled"}
    if due.delivered_at is not None:
        return values | {"state": "succeeded", "next_attempt_at": None}
    if tried.ok:
        return values | {
            "state": "succeeded",
            "next_attempt_at": None,
            "finished_at": tried.finished_at,
        }
    if is_kept(tried, schedule):
        return values | {"next_attempt_at": tried.finished_at, "is_retry": True}
    if tried.gone or tried.outcome is Outcome.EXPIRED:
        return values | _failed(tried)
    return settle_by_schedule(tried, schedule)


def settle_by_schedule(tried: FinishedAttempt, schedule: Sequence[int]) -> Change:
    """What becomes of a delivery by its schedule alone, whatever the response was: it is tried
    again, or has failed."""
    due = tried.due
    values: Change = {"attempts": due.attempts + 1, "trigger": "scheduled"}
    if due.delivered_at is not None:
        return values | {"state": "succeeded", "next_attempt_at": None}
    next_step = due.step if due.trigger == MANUAL and due.step else due.step + 1
    due_at = retry.next_attempt_at(
        schedule,
        next_step - 1,
        tried.finished_at,
        retry_after_seconds=tried.retry_after(),
        dice=random.random(),
    )
    if due_at is None:
        return values | _failed(tried)
    return values | {
        "next_attempt_at": due_at,
        "step": next_step,
        "is_retry": True,
        "hurries": due.hurries + 1 if due.hurried else 0,
    }


def _failed(tried: FinishedAttempt) -> Change:
    return {"state": "failed", "next_attempt_at": None, "finished_at": tried.finished_at}


def update_deliveries(
    session: scoped_session[Any], changes: Sequence[tuple[DueDelivery, Change]]
) -> None:
    """Write the values of many deliveries with few statements: those that share their values,
    as most successes do, are one. A delivery that was discarded meanwhile stays so, and one that
    was sent again while an attempt failed stays due for that."""
    # One moment for the batch, so that its successes are one statement.
    finished_at = max((values.get("finished_at") or 0 for _, values in changes), default=0)
    groups: dict[tuple[bool, tuple[tuple[str, Any], ...]], list[str]] = {}
    for due, values in changes:
        if values.get("finished_at"):
            values["finished_at"] = finished_at
        may_be_kept = due.trigger != MANUAL and values.get("state") != SUCCEEDED
        groups.setdefault((may_be_kept, tuple(values.items())), []).append(due.id)
    alone: dict[tuple[bool, tuple[str, ...]], list[dict[str, Any]]] = {}
    for (may_be_kept, values_key), ids in groups.items():
        values = dict(values_key)
        if len(ids) > 1:
            session.execute(
                sa.update(_delivery)
                .where(bulk.among(session, _delivery.c.id, ids), still(PENDING))
                .values(_unless_sent_again(values) if may_be_kept else values)
            )
        else:
            row = {"whose_id": ids[0]} | {f"new_{name}": value for name, value in values.items()}
            alone.setdefault((may_be_kept, tuple(values)), []).append(row)
    # Retries have a time of their own each: one statement, prepared once, for all of them.
    for (may_be_kept, names), rows in alone.items():
        binds = {name: sa.bindparam(f"new_{name}", type_=_delivery.c[name].type) for name in names}
        session.connection().execute(
            sa.update(_delivery)
            .where(_delivery.c.id == sa.bindparam("whose_id"), still(PENDING))
            .values(_unless_sent_again(binds) if may_be_kept else binds),
            rows,
        )


def _unless_sent_again(values: Mapping[str, Any]) -> Change:
    """The values after a scheduled attempt that failed, where no person has meanwhile asked for one
    more: otherwise what they have written stays, and the attempt counts all the same."""
    row = _delivery.c
    is_asked_for = row.trigger == MANUAL
    kept: Change = {
        name: sa.case((is_asked_for, row[name]), else_=value)
        for name, value in values.items()
        if name in ("state", "trigger", "next_attempt_at", "is_retry", "finished_at")
    }
    if "state" in values:
        # None of the schedule comes after it.
        kept["step"] = sa.case((is_asked_for, row.step + 1), else_=row.step)
    return dict(values) | kept


_ATTEMPT = (
    "id",
    "merchant_id",
    "event_id",
    "webhook_id",
    "delivery_id",
    "number",
    "trigger",
    "attempted_at",
    "method",
    "uri",
    "status",
    "error",
    "error_detail",
    "ok",
    "duration_us",
    "dns_us",
    "connect_us",
    "tls_us",
    "send_us",
    "wait_us",
    "download_us",
    "sends",
)


def _attempt_row(tried: FinishedAttempt) -> tuple[Any, ...]:
    due, answer = tried.due, tried.answer
    return (
        tried.request_id,
        due.merchant_id,
        due.event_id,
        due.webhook_id,
        due.id,
        due.attempts + 1,
        due.trigger,
        tried.attempted_at,
        tried.method,
        tried.outgoing.shown_url if tried.outgoing else tried.url,
        answer.status,
        answer.error,
        answer.error_detail,
        tried.ok,
        answer.duration_us,
        answer.dns_us,
        answer.connect_us,
        answer.tls_us,
        answer.send_us,
        answer.wait_us,
        answer.download_us,
        answer.sends,
    )


_ATTEMPT_PAYLOAD = (
    "attempt_id",
    "merchant_id",
    "request_headers",
    "body_kind",
    "request_body",
    "response_headers",
    "response_body",
    "truncated",
)


def _payload_row(tried: FinishedAttempt) -> tuple[Any, ...]:
    outgoing, answer = tried.outgoing, tried.answer
    came = answer.status is not None
    return (
        tried.request_id,
        tried.due.merchant_id,
        outgoing.logged_headers() if outgoing else "[]",
        outgoing.body_kind if outgoing else NONE,
        outgoing.body if outgoing and outgoing.body_kind == OWN else None,
        dump(answer.headers) if came else None,
        answer.body if came else None,
        answer.truncated,
    )
