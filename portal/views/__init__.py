"""The pages: each view parses, calls one stage function, and renders or redirects."""

from __future__ import annotations

from importlib import import_module

from flask import Flask

from portal.views import errors
from portal.web import protection, rendering

BLUEPRINTS = (
    "health",
    "auth",
    "second_factor",
    "invitations",
    "account",
    "home",
    "webhooks",
    "events",
    "attempts",
    "records",
    "search",
    "exports",
    "saved",
    "shared",
    "deliveries",
    "recover",
    "catalogue",
    "settings",
    "staff",
    "inspector",
    "inspected",
    "tail",
    "passwords",
    "policy_reports",
)


def init_app(app: Flask) -> None:
    """Register every page, the template filters, the error pages and the security headers."""
    rendering.init_app(app)
    errors.init_app(app)
    protection.init_app(app)
    for name in BLUEPRINTS:
        app.register_blueprint(import_module(f"portal.views.{name}").bp)
