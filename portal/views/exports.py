"""The logs as files: CSV and JSON Lines, streamed, so that any size fits."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from flask import Blueprint, Flask, Response, abort, current_app, g
from flask.typing import ResponseReturnValue

from portal.api import shapes
from portal.audit import log
from portal.characters import CONTROLS, IGNORABLE
from portal.clock import iso, now
from portal.errors import Forbidden
from portal.logs import browse
from portal.models import Attempt, Event, Merchant
from portal.views import log_filters
from portal.views.streams import Stream
from portal.web import access

bp = Blueprint("exports", __name__)

TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}
_BEGINS = "[=+\\-@\uff1d\uff0b\uff0d\uff20]"
"""What a formula begins with; the last four are of full width, which some take for the others."""
FORMULA = re.compile(
    rf"""^(?=[\s{CONTROLS}{IGNORABLE}]*{_BEGINS}|[\t\r])"""
    rf"""|(?<=[;\r\n])(?=(?:[\s{CONTROLS}{IGNORABLE}"](?<![\r\n]))*{_BEGINS})"""
)
"""Where a cell that a spreadsheet would compute begins (OWASP, CSV injection), also behind white
space and what cannot be seen, which some leave out; and within a cell, since where the comma is the
decimal sign Excel divides lines at semicolons, whatever is quoted."""

BYTE_ORDER_MARK = "\ufeff"
"""Excel reads a table that begins otherwise in the code page of its country."""

Row = dict[str, Any]
Shape = Callable[[Any, str], Row]
"""Makes a row of a file of a row of a log and the slug of its merchant."""


def _flat(row: Row) -> Row:
    flat: Row = {}
    for name, value in row.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _of_event(row: Event, slug: str) -> Row:
    return {"time": iso(row.received_at), "merchant": slug, **shapes.event(row)}


def _of_attempt(row: Attempt, slug: str) -> Row:
    return {"time": iso(row.attempted_at), "merchant": slug, **shapes.attempt(row)}


_LOGS: dict[str, tuple[browse.Log[Any], Sequence[str], Shape]] = {
    "events": (browse.EVENTS, ("time", "merchant", *_flat(shapes.event(Event()))), _of_event),
    "attempts": (
        browse.ATTEMPTS,
        ("time", "merchant", *_flat(shapes.attempt(Attempt()))),
        _of_attempt,
    ),
}
"""Of each log its rows, its columns, and how a row is written."""


@bp.get("/m/<slug>/export/events.<kind>")
def events(slug: str, kind: str) -> ResponseReturnValue:
    """The merchant's events that match, all of them."""
    return _export("events", g.merchant, kind)


@bp.get("/m/<slug>/export/attempts.<kind>")
def attempts(slug: str, kind: str) -> ResponseReturnValue:
    """The merchant's attempts that match, all of them."""
    return _export("attempts", g.merchant, kind)


@bp.get("/staff/export/events.<kind>")
def all_events(kind: str) -> ResponseReturnValue:
    """Events of all merchants."""
    return _export("events", None, kind)


@bp.get("/staff/export/attempts.<kind>")
def all_attempts(kind: str) -> ResponseReturnValue:
    """Attempts of all merchants."""
    return _export("attempts", None, kind)


@bp.get("/staff/export/audit.<kind>")
def audit_log(kind: str) -> ResponseReturnValue:
    """The audit log, filtered as on its page."""
    rows = log.every_entry(**log_filters.of_audit_log())
    return _file(kind, None, "audit", log.FILE_COLUMNS, rows)


def _export(log: str, merchant: Merchant | None, kind: str) -> Response:
    pages, columns, shape = _LOGS[log]
    asked = log_filters.asked_or_invalid(log, merchant)
    rows = pages.every(asked.scope, asked.typed, _with_owner(merchant, shape), asked.zone)
    return _file(kind, merchant, log, columns, rows)


def _with_owner(merchant: Merchant | None, shape: Shape) -> Callable[[Sequence[Any]], list[Row]]:
    """Makes rows of a file: for staff each with its merchant."""
    slug = merchant.slug if merchant else None

    def shaped(rows: Sequence[Any]) -> list[Row]:
        owners = {} if slug else browse.merchants_of(rows)
        return [shape(row, slug or owners[row.merchant_id].slug) for row in rows]

    return shaped


def _file(
    kind: str,
    merchant: Merchant | None,
    log: str,
    columns: Sequence[str],
    batches: Iterator[list[Row]],
) -> Response:
    if kind not in TYPES:
        abort(404)
    app = cast(Any, current_app)._get_current_object()
    rows = _each_in(app, batches, access.for_long())
    text = csv_text(columns, rows) if kind == "csv" else json_lines(rows)
    stream = Stream(text, merchant.id if merchant else None)
    day = iso(now())[:10]
    name = f"{merchant.slug if merchant else 'all'}-{log}-{day}.{kind}"
    return Response(
        stream,
        content_type=TYPES[kind],
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _each_in(
    app: Flask, batches: Iterator[list[Row]], may_go_on: Callable[[], bool]
) -> Iterator[list[Row]]:
    # The request is over when its answer is read, and who reads it may be another thread.
    while True:
        with app.app_context():
            if not may_go_on():
                # The connection is cut: a file that merely ended would look whole.
                raise Forbidden("The sign-in or the role of this download has ended.")
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def json_lines(batches: Iterable[list[Row]]) -> Iterator[str]:
    """One JSON object a line (jsonlines.org)."""
    for batch in batches:
        yield "".join(
            json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in batch
        )


def csv_text(columns: Sequence[str], batches: Iterable[list[Row]]) -> Iterator[str]:
    """A table with a line of names (RFC 4180), also where there are no rows; objects inside a row
    are flattened. A cell that a spreadsheet would compute starts with an apostrophe instead."""
    yield BYTE_ORDER_MARK + _lines([columns])
    for batch in batches:
        yield _lines([_inert(row[name]) for name in columns] for row in map(_flat, batch))


def _lines(rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _inert(cell: Any) -> Any:
    if isinstance(cell, bool):
        # As in JSON; Python's own word is nobody else's.
        return str(cell).lower()
    return FORMULA.sub("'", cell) if isinstance(cell, str) else cell
