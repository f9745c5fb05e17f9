"""How large a form may be, and of which kind, before anything reads it: to read one takes time for
each of its fields, and whoever reaches the portal can send one."""

from __future__ import annotations

from flask import Flask, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from portal.errors import TooLarge

MAX_BYTES = 128 * 1024
MAX_LARGE_BYTES = 2 * 1024 * 1024
LARGE = ("webhooks", "catalogue")
"""Blueprints whose forms hold templates and schemas."""
MAX_FIELDS = 1_000
_NO_FORMS = ("api", "inspected")
"""Blueprints that read no form, whatever a body says that it is."""


def init_app(app: Flask) -> None:
    """Check every form, ahead of what looks for its token."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES
    app.config["MAX_FORM_PARTS"] = MAX_FIELDS
    app.before_request(check)


def check() -> None:
    """Refuse a form that is too large. Raises TooLarge; RequestEntityTooLarge where no form is, and
    UnsupportedMediaType for forms in parts."""
    most = MAX_LARGE_BYTES if request.blueprint in LARGE else MAX_BYTES
    # One more: of a body without a declared length, Werkzeug gives so much as if it were all.
    request.max_content_length = most + 1
    if request.mimetype == "multipart/form-data" and request.blueprint not in _NO_FORMS:
        # No page sends one, and Werkzeug keeps a pattern of each of the last 512 boundaries, which
        # may have 60,000 letters.
        if (request.content_length or 0) > most:
            raise RequestEntityTooLarge
        raise UnsupportedMediaType
    if request.mimetype != "application/x-www-form-urlencoded" or request.blueprint == "inspected":
        return
    try:
        form = request.get_data()
    except RequestEntityTooLarge:
        form = b""
        length = request.content_length or most + 1
    else:
        length = len(form)
    if length > most:
        raise TooLarge(
            f"The form is larger than the {most // 1024:,} KiB that are taken here. Shorten the "
            "longest of its fields, and send it again."
        )
    if form.count(b"&") >= MAX_FIELDS:
        raise TooLarge(f"A form has at most {MAX_FIELDS:,} fields here.")
