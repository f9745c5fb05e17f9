"""Attempts: the header log, and one attempt with its payload log."""

from __future__ import annotations

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue

from portal import rendering
from portal.delivery.compose import as_curl
from portal.errors import Invalid, NotFound
from portal.logs import browse, explain, filters
from portal.logs.stories import AttemptDetail
from portal.models import Attempt, Merchant
from portal.views import log_filters
from portal.views.log_filters import Asked
from portal.webhooks import setup

bp = Blueprint("attempts", __name__, url_prefix="/m/<slug>/attempts")

SIGNATURE_HEADERS = (
    "webhook-id", "webhook-timestamp", "webhook-signature", "evox-time", "evox-signature",
)
TIMING = (
    ("dns_us", "DNS"), ("connect_us", "Connect"), ("tls_us", "TLS"), ("wait_us", "Wait"),
    ("download_us", "Download"),
)


@bp.get("")
def index(slug: str) -> ResponseReturnValue:
    """The header log of the merchant."""
    return log_page(g.merchant)


@bp.get("/<attempt_id>")
def show(slug: str, attempt_id: str) -> ResponseReturnValue:
    """One attempt: what was sent, what came back, how long each part took."""
    if not attempt_id.isprintable():
        raise NotFound("There is no such attempt.")
    detail = browse.attempt_detail(g.merchant.id, attempt_id)
    attempt = detail.attempt
    sent, received = detail.request_body, detail.response_body
    return rendering.render(
        "attempts/show.html", detail=detail, attempt=attempt,
        meaning=explain.outcome(attempt.status, attempt.error),
        redirect_target=explain.redirect_target(
            attempt.status, attempt.uri, detail.response_headers
        ),
        is_web_page=explain.is_web_page(attempt.ok, detail.response_headers, received),
        sent=explain.readable(sent) if sent else None,
        received=explain.readable(received) if received else None,
        curl=_curl(detail), timing=_timing(attempt), signature_headers=SIGNATURE_HEADERS,
    )


def log_page(merchant: Merchant | None) -> Response:
    """The attempt log: of a merchant, or of all (staff), who may filter by `merchant`."""
    endpoint = "attempts.index" if merchant else "staff.attempts"
    asked = log_filters.read(endpoint, merchant, filters.ATTEMPTS)
    if log_filters.is_live():
        return _live(asked)
    page = asked.find(
        lambda: browse.attempts(
            asked.scope, asked.typed, request.args.get("cursor"), zone=asked.zone
        )
    )
    rows = page.rows if page else []
    return log_filters.answer(
        "attempts/index.html", "attempts/_log.html", asked, page=page,
        webhooks=browse.webhooks_of(rows),
        merchants={} if merchant else browse.merchants_of(rows),
        choices=setup.list_webhooks(asked.scope) if asked.scope else [],
        methods=filters.METHODS, triggers=filters.TRIGGERS, error_codes=sorted(explain.ERRORS),
    )


def _live(asked: Asked) -> Response:
    """The bar of new attempts."""
    if asked.errors:
        raise Invalid([])
    mark = request.args["after"]
    return rendering.render(
        "attempts/_live.html", asked=asked, url=asked.url, mark=mark,
        count=browse.new_attempts(asked.scope, asked.typed, mark, asked.zone),
    )


def _curl(detail: AttemptDetail) -> str | None:
    if not detail.request_headers or detail.request_body_is_lost:
        return None
    body = detail.request_body
    return as_curl(
        detail.attempt.method, detail.attempt.uri, detail.request_headers,
        None if body is None else body.decode("utf-8"),
    )


def _timing(attempt: Attempt) -> list[tuple[str, int, float, float]]:
    """The parts of an attempt that happened: name, µs, and start and width in percent of it."""
    total = max(attempt.duration_us, 1)
    parts = []
    start = 0
    for column, label in TIMING:
        took = getattr(attempt, column)
        if took is None:
            continue
        if column == "download_us":
            # The download is the last part; sending the request lies before the wait.
            start = max(start, total - took)
        width = min(took, total) * 100 / total
        parts.append((label, took, min(start * 100 / total, 100 - width), width))
        start += took
    return parts
