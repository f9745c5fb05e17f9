"""The API, /api/v1: each view reads the request, calls one stage function, and answers JSON."""

from __future__ import annotations

from importlib import import_module

from flask import Flask

from portal.api.blueprint import bp
from portal.api.documentation import docs
from portal.web.extensions import csrf

PARTS = (
    "problems",
    "limits",
    "reading",
    "key_use",
    "events",
    "event_types",
    "webhooks",
    "deliveries",
    "recoveries",
    "attempts",
)


def init_app(app: Flask) -> None:
    """Register the API. A key in a header cannot be forged by a page: no CSRF token is asked."""
    for name in PARTS:
        import_module(f"portal.api.{name}")
    csrf.exempt(bp)
    app.register_blueprint(bp)
    app.register_blueprint(docs)
