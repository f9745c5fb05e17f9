"""What browsers report when a page wanted something that the Content-Security-Policy forbids: a
defect of the portal, or somebody's try to put a script into a page."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

from portal import queues, runtime
from portal.characters import printable
from portal.clock import HOUR, SECOND
from portal.db.session import db, writing
from portal.errors import Malformed
from portal.models.audit import OperationsEntry
from portal.redis_trouble import TROUBLE, RedisTrouble

KIND = "csp_report"
MAX_REPORT = 16 * 1024
"""Bytes of one report."""
MAX_PER_HOUR = 20
"""Reports that are written down in an hour: anyone may send one."""
_DAY_SECONDS = 24 * HOUR // SECOND
_HOUR_SECONDS = HOUR // SECOND
_SHOWN = 200


def record(report: Any) -> None:
    """Write a report (CSP 3, 5.3: `{"csp-report": {…}}`) into the operations log, once a day for
    each kind and MAX_PER_HOUR of all kinds; without Redis, which counts them, none.

    Raises Malformed for what is no report, Unavailable when the database cannot take the write.
    """
    fields = report.get("csp-report") if isinstance(report, dict) else None
    if not isinstance(fields, dict):
        raise Malformed('A report is an object such as {"csp-report": {…}}.')
    directive = _text(fields.get("effective-directive") or fields.get("violated-directive"))
    message = (
        f"A browser refused {_origin(fields.get('blocked-uri'))} by {directive} on the page "
        f"{_page(fields.get('document-uri'))}, from {_page(fields.get('source-file'))} line "
        f"{_text(fields.get('line-number'))}"
    )
    if _is_new(message):
        with writing():
            db.session.add(OperationsEntry(kind=KIND, message=message))


def _is_new(message: str) -> bool:
    digest = hashlib.sha256(message.encode(errors="surrogatepass")).hexdigest()
    try:
        redis, hour = queues.client(), queues.key("csp", "hour")
        # Somebody else may have written a number from which none would be reached in years.
        if not 0 <= int(redis.getrange(hour, 0, 20) or 0) <= MAX_PER_HOUR:
            # Nothing more is kept in this hour, and no digest either: anyone may send any number.
            redis.expire(hour, _HOUR_SECONDS, nx=True)
            return False
        if not redis.set(queues.key("csp", digest), "1", nx=True, ex=_DAY_SECONDS):
            return False
        pipeline = redis.pipeline()
        pipeline.incr(hour)
        pipeline.expire(hour, _HOUR_SECONDS, nx=True)
        return 0 < int(pipeline.execute()[0]) <= MAX_PER_HOUR
    except TROUBLE as error:
        # ValueError: somebody else wrote what is no number.
        runtime.part(RedisTrouble).note(error, "browsers' reports are not written down")
        return False


def _text(value: Any) -> str:
    text = "?" if value is None else str(value)
    return printable(text, instead="?")[:_SHOWN]


def _origin(value: Any) -> str:
    """Scheme and host of what was refused, or a word such as `inline`."""
    address = _split(value)
    return f"{address[0]}://{address[1]}" if address and address[1] else _text(value)


def _page(value: Any) -> str:
    """The path of a page without its query, which may hold what somebody looked for."""
    address = _split(value)
    return _text(address[2] or "/") if address else _text(value)


def _split(value: Any) -> tuple[str, str, str] | None:
    try:
        parts = urlsplit(_text(value))
    except ValueError:
        return None
    return (parts.scheme, parts.netloc, parts.path) if parts.netloc else None
