"""What schemathesis cannot know of a request, set before it is sent."""

from __future__ import annotations

import re
import uuid
from typing import Any

import schemathesis

_KEY = re.compile(r'"[ !#-\[\]-~]{1,255}"|[!#-\[\]-~]{1,255}')
"""As the OpenAPI document describes it."""


@schemathesis.hook
def before_call(_context: Any, case: Any, **_: Any) -> None:
    """A valid Idempotency-Key is a fresh one: a key that came with another request is refused on
    purpose, and JSON Schema cannot say so."""
    headers = case.headers or {}
    if _KEY.fullmatch(str(headers.get("Idempotency-Key", ""))):
        headers["Idempotency-Key"] = uuid.uuid4().hex
