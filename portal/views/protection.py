"""Security headers of every answer: nothing inline runs, nothing loads from elsewhere."""

from __future__ import annotations

from flask import Flask, Response, current_app, request
from flask.sessions import SecureCookieSessionInterface, SessionMixin

CONTENT_SECURITY_POLICY = "; ".join((
    "default-src 'self'",
    # Pico draws check marks and arrows as data: images.
    "img-src 'self' data:",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
))
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
YEAR_SECONDS = 365 * 86_400


class PageSessions(SecureCookieSessionInterface):
    """Sessions are for pages: files and what machines ask for are the same for everyone."""

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Set the cookie, and `Vary: Cookie`, on pages alone, so that browsers keep the files."""
        if request.endpoint != "static" and request.blueprint not in ("api", "health"):
            super().save_session(app, session, response)


def init_app(app: Flask) -> None:
    """Add the headers to every answer, whichever view gave it."""
    app.session_interface = PageSessions()
    app.after_request(protect)


def protect(response: Response) -> Response:
    """Set what a view has not set itself. Pages are never kept: they hold merchants' data."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if current_app.config["PORTAL"].secure_cookies:
        response.headers.setdefault("Strict-Transport-Security", f"max-age={YEAR_SECONDS}")
    if request.endpoint == "static":
        # The address changes with the content: app.css?v=…, vendor/htmx-4.0.1/….
        if "v" in request.args or (request.view_args or {})["filename"].startswith("vendor/"):
            response.cache_control.no_cache = None
            response.cache_control.public = True
            response.cache_control.immutable = True
            response.cache_control.max_age = YEAR_SECONDS
    else:
        response.headers.setdefault("Cache-Control", "no-store")
    return response
