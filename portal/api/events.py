"""Events: in, and out again from the log."""

from __future__ import annotations

from typing import Any

from flask import Response, g

from portal import strict_json
from portal.api import reading
from portal.api.blueprint import bp
from portal.api.reading import MAX_BATCH_BODY, MAX_BODY
from portal.errors import FieldError, Invalid
from portal.ingest import Accepted, ingest_events


@bp.post("/events")
def create_events() -> Response:
    """Store one event or a batch of them; 202 means committed."""
    raw = reading.raw_body(MAX_BATCH_BODY)
    value = strict_json.parse(raw)
    if isinstance(value, dict) and "events" in value:
        answers = ingest_events(g.merchant, _batch(value), batch=True)
        return _accepted({"data": [_answer(one) for one in answers]})
    if len(raw) > MAX_BODY:
        raise reading.too_large_event()
    (answer,) = ingest_events(g.merchant, [value], batch=False)
    return _accepted(_answer(answer))


def _batch(value: dict[str, Any]) -> list[Any]:
    reading.refuse_unknown(value, ["events"])
    if not isinstance(value["events"], list):
        raise Invalid([FieldError("/events", "events is a list of events: [{…}, …].")])
    return value["events"]


def _answer(accepted: Accepted) -> dict[str, Any]:
    return {"id": accepted.id, "deliveries": accepted.deliveries}


def _accepted(content: dict[str, Any]) -> Response:
    return Response(strict_json.dump(content), 202, content_type="application/json")
