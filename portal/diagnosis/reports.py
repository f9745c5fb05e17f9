"""One attempt explained: what its page, and a link shared with the receiver's developer, show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from portal import vault
from portal.clock import MILLISECOND, iso
from portal.composing.curl import as_curl
from portal.db.session import db
from portal.diagnosis import bodies, explain, masking, signatures, waterfall
from portal.diagnosis.bodies import Readable
from portal.diagnosis.diagnoses import Diagnosis
from portal.diagnosis.signatures import Check, Secret
from portal.logs.stories import AttemptDetail
from portal.models import AttemptPayload, AuditEntry, Webhook

QUOTED = 1_000
"""Characters of an answer's body that the text for the receiver's developer quotes."""

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class AttemptReport:
    """An attempt with everything that is worked out about it. Headers and bodies are None once
    the payload log is past its days."""

    detail: AttemptDetail
    uri: str
    diagnosis: Diagnosis
    redirect_target: str | None
    request_headers: Pairs | None
    response_headers: Pairs | None
    sent: Readable | None
    received: Readable | None
    curl: str | None
    parts: list[waterfall.Phase]
    checks: list[Check]
    replaced_at: int | None
    """When the secret was replaced that no longer verifies the request (Unix µs)."""

    @property
    def sent_twice(self) -> bool:
        """Whether the request went out again, because the connection died without an answer."""
        return (self.detail.attempt.sends or 0) > 1

    @property
    def developer_text(self) -> str:
        """What to tell the receiver's developer, as plain text."""
        return _developer_text(self)


def report(detail: AttemptDetail, *, shared: bool = False) -> AttemptReport:
    """An attempt explained. A `shared` one shows no values of headers and parameters whose
    names sound secret, also where the merchant did not mark them so."""
    attempt = detail.attempt
    target = explain.redirect_target(attempt.status, attempt.uri, detail.response_headers)
    sent, received = detail.request_body, detail.response_body
    checks = _checks(detail)
    hide_uri, hide = (masking.uri, masking.pairs) if shared else (str, list)
    uri = hide_uri(attempt.uri)
    request_headers = detail.request_headers and hide(detail.request_headers)
    return AttemptReport(
        detail=detail,
        uri=uri,
        diagnosis=explain.diagnose(
            attempt.ok, attempt.status, attempt.error, detail.response_headers, received, target
        ),
        redirect_target=hide_uri(target) if target else None,
        request_headers=request_headers,
        response_headers=detail.response_headers and hide(detail.response_headers),
        sent=bodies.readable(sent) if sent else None,
        received=bodies.readable(received, detail.response_headers) if received else None,
        curl=_curl(detail, uri, request_headers),
        parts=waterfall.parts(attempt),
        checks=checks,
        replaced_at=_replaced_at(detail, checks),
    )


def answer_body(log: AttemptPayload) -> Readable | None:
    """The body of a logged answer for people; None where it had none."""
    if not log.response_body:
        return None
    return bodies.readable(log.response_body, json.loads(log.response_headers or "[]"))


def _curl(detail: AttemptDetail, uri: str, headers: Pairs | None) -> str | None:
    if not headers or detail.request_body_is_lost:
        return None
    body = detail.request_body
    auth = detail.webhook.auth if detail.webhook else None
    return as_curl(
        detail.attempt.method,
        uri,
        headers,
        None if body is None else body.decode("utf-8"),
        shows_certificate=auth is not None and auth["type"] == "certificate",
    )


def _checks(detail: AttemptDetail) -> list[Check]:
    if not detail.request_headers or not detail.webhook or detail.request_body_is_lost:
        return []
    return signatures.check(detail.request_headers, detail.request_body, secrets_of(detail.webhook))


def secrets_of(webhook: Webhook) -> list[Secret]:
    """A webhook's signing secrets, the current one first, but for those that no key of the portal
    opens."""
    tokens = [("current", webhook.secret_token)]
    for number, old in enumerate(webhook.old_secrets, 1):
        tokens.append(("previous" if number == 1 else f"previous {number}", old["token"]))
    return [Secret(name, vault.decrypt(token)) for name, token in tokens if vault.opens(token)]


def _replaced_at(detail: AttemptDetail, checks: Sequence[Check]) -> int | None:
    if not checks or all(check.made_with_current for check in checks):
        return None
    attempt = detail.attempt
    return db.session.scalar(
        sa.select(sa.func.min(AuditEntry.at)).where(
            AuditEntry.merchant_id == attempt.merchant_id,
            AuditEntry.at > attempt.attempted_at,
            AuditEntry.action == "webhook.secret_rotated",
            AuditEntry.target == attempt.webhook_id,
        )
    )


# ── The text to send ──────────────────────────────────────────────────────────────────────


def _developer_text(said: AttemptReport) -> str:
    attempt, diagnosis = said.detail.attempt, said.diagnosis
    took = f"{attempt.duration_us // MILLISECOND:,} ms"
    came = "no answer" if attempt.status is None else str(attempt.status)
    lines = [
        f"A webhook request to your endpoint: {diagnosis.title[0].lower()}{diagnosis.title[1:]}.",
        "",
        f"Request:     {attempt.method} {said.uri}",
        f"Sent:        {iso(attempt.attempted_at)} (attempt {attempt.number})",
        f"Event ID:    {attempt.event_id} (header webhook-id; the same on every attempt)",
        f"Request ID:  {attempt.id}",
        f"Answer:      {came} after {took}",
    ]
    if said.sent_twice:
        lines.append(
            "Sent twice:  the connection died without an answer, so the same request went out again"
        )
    if attempt.error:
        lines.append(f"Error:       {attempt.error} {attempt.error_detail or ''}".rstrip())
    if said.redirect_target:
        lines.append(f"Location:    {said.redirect_target}")
    lines += ["", diagnosis.meaning]
    if diagnosis.remedy:
        lines.append(f"What to do: {diagnosis.remedy}")
    if said.received and not said.received.is_binary:
        text = said.received.text
        lines += ["", "Your answer:" if len(text) <= QUOTED else "Your answer began with:"]
        lines += [f"  {line}" for line in text[:QUOTED].splitlines()]
    lines += [
        "",
        "Requests are signed (Standard Webhooks: webhook-id, webhook-timestamp, "
        "webhook-signature).",
        "Success is an answer with 2xx within the time limit; redirects are not followed.",
    ]
    return "\n".join(lines)
