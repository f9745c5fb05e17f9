"""What schemathesis cannot know of a request, set before it is sent."""

from __future__ import annotations

import re
import uuid
from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_context: Any, case: Any, **_: Any) -> None:
    """A valid Idempotency-Key is a fresh one: a key that came with another request is refused on
    purpose, and JSON Schema cannot say so."""
    headers = case.headers or {}
    if re.fullmatch(r"[!-~]{1,255}", str(headers.get("Idempotency-Key", ""))):
        headers["Idempotency-Key"] = uuid.uuid4().hex
