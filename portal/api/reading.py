"""What a request says: its body, its query parameters, the IDs in its path."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Any

from flask import g, request
from werkzeug.exceptions import UnsupportedMediaType

from portal import strict_json
from portal.api.blueprint import bp
from portal.characters import NOT_TEXT, whole_number
from portal.clock import (
    END_OF_TIME,
    NO_MOMENT,
    NO_ZONE,
    NoZone,
    from_digits,
    from_iso,
    from_seconds,
)
from portal.db.session import db
from portal.errors import FieldError, Invalid, Malformed, NotFound, TooLarge, pointer
from portal.json_events import parse_events
from portal.models import Merchant

MAX_BODY = 1_048_576
"""Bytes of a body: one event, or anything else but a batch."""
MAX_BATCH_BODY = 16 * MAX_BODY
MAX_DRAINED = 2 * MAX_BATCH_BODY
MAX_PARAMETER = 2_048
DEFAULT_LIMIT, MAX_LIMIT = 50, 100

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,254}")


@bp.before_request
def refuse_impossible_ids() -> None:
    """An ID that the portal never gave nor took is unknown; the database is not asked
    (PostgreSQL refuses some characters with an error)."""
    for value in (request.view_args or {}).values():
        if not _ID.fullmatch(value):
            raise NotFound("There is no such object.")


def actor() -> str:
    """Who acts, for the audit log."""
    return f"key:{g.key.id}"


def merchant() -> Merchant:
    """The key's merchant, for what needs more than its ID."""
    return db.session.get_one(Merchant, g.merchant_id)


def raw_body(limit: int = MAX_BODY) -> bytes:
    """The bytes of a JSON body of at most `limit` bytes, exactly `limit` included.

    Raises UnsupportedMediaType for another content type or a compressed body, TooLarge, and
    Malformed when the sender went away before its end.
    """
    _require_json()
    return _read(limit)


def _read(limit: int) -> bytes:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        _drain()
        raise UnsupportedMediaType
    declared = request.content_length
    if declared is not None and declared > limit:
        _drain()
        raise _too_large(limit)
    # One byte more than allowed: of a body without a declared length, Werkzeug would give the
    # first `limit` bytes as if they were all.
    request.max_content_length = limit + 1
    raw = request.get_data(cache=False)
    if len(raw) > limit:
        _drain()
        raise _too_large(limit)
    return raw if declared is None else whole(raw, declared)


def whole(raw: bytes, declared: int) -> bytes:
    """A body that was said to have so many bytes. Raises Malformed where it has fewer."""
    if len(raw) < declared:
        # Granian ends the input where a sender goes away, without an error.
        raise Malformed(f"The body ended after {len(raw)} of {declared} bytes; send it again.")
    return raw


def _require_json() -> None:
    if request.content_type == "application/json":
        return
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != "application/json" or charset not in ("utf-8", "utf8"):
        _drain()
        raise UnsupportedMediaType


def _drain() -> None:
    """Read on, within a bound, and forget it: a connection that is closed under a sender shows
    it a broken pipe, and not the answer that says why. Who expects a 100 has sent nothing yet."""
    if "Expect" in request.headers:
        return
    left = MAX_DRAINED
    if "wsgi.input_terminated" not in request.environ:
        left = min(left, request.content_length or 0)
    stream = request.environ["wsgi.input"]
    with contextlib.suppress(OSError):
        while left > 0 and (piece := stream.read(min(left, 65_536))):
            left -= len(piece)


def too_large_event() -> TooLarge:
    """One event whose body is over the limit of a single one."""
    return _too_large(MAX_BODY)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body may have at most {limit:,} bytes here.")


def body() -> dict[str, Any]:
    """The JSON object in the body. Raises Malformed, TooLarge, UnsupportedMediaType, Invalid."""
    return _as_object(strict_json.parse(raw_body()))


def body_with_texts() -> dict[str, Any]:
    """The same; the objects in it keep the text that they came as (strict_json.Record)."""
    return _as_object(parse_events(raw_body()))


def optional_body(*names: str) -> dict[str, Any]:
    """The JSON object in the body, {} where there is no body; only with the fields `names`."""
    raw = _read(MAX_BODY)
    if not raw:
        return {}
    _require_json()
    fields = _as_object(strict_json.parse(raw))
    refuse_unknown(fields, names)
    return fields


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid([FieldError("", "Send a JSON object: {…}.")])
    return value


def refuse_unknown(fields: Iterable[str], names: Iterable[str], what: str = "field") -> None:
    """Raise Invalid for each field that is none of `names`."""
    known = list(names)
    remedy = (
        "leave it out, none is taken"
        if not known
        else (f"there {'is only' if len(known) == 1 else 'are'} {', '.join(known)}")
    )
    errors = [
        FieldError(pointer(field[:100]), f"There is no {what} {field[:100]!r} here; {remedy}.")
        for field in fields
        if field not in known
    ]
    if errors:
        raise Invalid(errors[:50])


def parameters(*names: str) -> dict[str, str]:
    """The query parameters that were given, empty ones left out.

    Raises Invalid for a parameter that is not in `names` (a filter with a typing mistake would
    list everything), that is there twice, or that holds what no value holds.
    """
    refuse_unknown(request.args, names, "parameter")
    values = {}
    errors = []
    for name, given in request.args.lists():
        if len(given) > 1:
            errors.append(
                FieldError(pointer(name), f"{name} is there {len(given)} times; give it once.")
            )
        elif NOT_TEXT.search(given[0]) or len(given[0]) > MAX_PARAMETER:
            errors.append(
                FieldError(
                    pointer(name),
                    f"{name} holds a control character or is over {MAX_PARAMETER} long.",
                )
            )
        elif given[0]:
            values[name] = given[0]
    if errors:
        raise Invalid(errors)
    return values


def take_limit(values: dict[str, str]) -> int:
    """Take `limit` out of query parameters: rows on a page, 1 to MAX_LIMIT."""
    limit = whole_number(values.pop("limit", str(DEFAULT_LIMIT)))
    if limit is None or not 1 <= limit <= MAX_LIMIT:
        raise Invalid([FieldError("/limit", f"limit is a number from 1 to {MAX_LIMIT}.")])
    return limit


def take_period(values: dict[str, str]) -> tuple[int | None, int | None]:
    """Take `since` and `until` out of query parameters, as Unix µs."""
    since = until = None
    if "since" in values:
        since = moment("since", values.pop("since"))
    if "until" in values:
        until = moment("until", values.pop("until"))
    if since is not None and until is not None and since > until:
        raise Invalid([FieldError("/until", "until is before since; give a later moment.")])
    return since, until


def moment(name: str, value: Any) -> int:
    """Unix seconds, or ISO 8601 with a zone, as Unix µs. Raises Invalid naming the field."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _in_range(from_seconds(value))
        if isinstance(value, str):
            if (moment := from_digits(value)) is None:
                moment = from_iso(value)
            # What lies before 1970 or after 9999 is before or after everything here.
            return min(max(moment, 0), END_OF_TIME - 1)
    except NoZone:
        raise Invalid([FieldError(pointer(name), f"{name} {NO_ZONE}")]) from None
    except ValueError:
        pass
    raise Invalid([FieldError(pointer(name), f"{name} {NO_MOMENT}")])


def _in_range(moment: int) -> int:
    if not 0 <= moment < END_OF_TIME:
        raise ValueError("before 1970 or after 9999")
    return moment
