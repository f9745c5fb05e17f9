"""Where browsers report what the Content-Security-Policy kept them from."""

from __future__ import annotations

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from portal import strict_json
from portal.web import policy_reports
from portal.web.extensions import csrf, limit_by_sender

bp = Blueprint("policy_reports", __name__)
# A browser sends it by itself, and it changes nothing of a merchant's.
csrf.exempt(bp)

REPORTS_PER_SENDER = "30 per minute"


@bp.post("/csp-reports")
@limit_by_sender(REPORTS_PER_SENDER)
def receive() -> ResponseReturnValue:
    """Take one report."""
    request.max_content_length = policy_reports.MAX_REPORT
    policy_reports.record(strict_json.parse(request.get_data(cache=False)))
    return "", 204
