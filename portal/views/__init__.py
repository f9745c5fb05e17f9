"""The pages: each view parses, calls one stage function, and renders or redirects."""

from __future__ import annotations

from importlib import import_module

from flask import Flask

BLUEPRINTS = (
    "health", "auth", "account", "home", "webhooks", "events", "attempts", "deliveries",
    "catalogue", "settings", "staff",
)


def init_app(app: Flask) -> None:
    """Register every page, the template filters and the error pages."""
    for name in BLUEPRINTS:
        app.register_blueprint(import_module(f"portal.views.{name}").bp)
