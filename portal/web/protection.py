"""Headers of every answer: nothing inline runs, nothing loads from elsewhere, files are small."""

from __future__ import annotations

import gzip
import posixpath
from functools import lru_cache
from pathlib import Path

from flask import Flask, Request, Response, current_app, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin

from portal.config import Config
from portal.web import rendering

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        # Pico draws check marks and arrows as data: images.
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        # Not report-to, which browsers take from pages under TLS alone and then in place of this.
        "report-uri /csp-reports",
    )
)
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
_STRICT = ("Strict-Transport-Security", f"max-age={YEAR_SECONDS}")
_NOT_KEPT = ("Cache-Control", "no-store")
FILES = "/static/"
"""Where the addresses of files begin: what is answered there is the same for everyone."""
VENDORED = "vendor/"
COMPRESSED = ("text/", "image/svg", "application/javascript")


class PageSessions(SecureCookieSessionInterface):
    """Sessions are for pages: files and what machines ask for are the same for everyone."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """The session in the cookie; without any cookie a new one, at no cost."""
        if "HTTP_COOKIE" not in request.environ:
            return self.session_class()
        return super().open_session(app, request)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Set the cookie, and `Vary: Cookie`, on pages alone, so that browsers keep the files."""
        if not request.path.startswith(FILES) and request.blueprint not in (
            "api",
            "health",
            "inspected",
            "policy_reports",
        ):
            super().save_session(app, session, response)


def headers_of(config: Config) -> list[tuple[str, str]]:
    """The headers of an answer to a machine."""
    strict = (_STRICT,) if config.secure_cookies else ()
    return [*HEADERS.items(), *strict, _NOT_KEPT]


def init_app(app: Flask) -> None:
    """Add the headers to every answer, whichever view gave it."""
    app.session_interface = PageSessions()
    app.after_request(protect)


def protect(response: Response) -> Response:
    """Set what a view has not set itself. Pages are never kept: they hold merchants' data."""
    there = {name.lower() for name, _ in response.headers}
    response.headers.extend(
        [(name, value) for name, value in HEADERS.items() if name.lower() not in there]
    )
    if current_app.config["PORTAL"].secure_cookies:
        response.headers.setdefault(*_STRICT)
    if request.endpoint == "static" and response.status_code in (200, 304):
        if _names_its_content((request.view_args or {})["filename"]):
            response.cache_control.no_cache = None
            response.cache_control.public = True
            response.cache_control.immutable = True
            response.cache_control.max_age = YEAR_SECONDS
        compress(response)
    else:
        response.headers.setdefault(*_NOT_KEPT)
    return response


def _names_its_content(file: str) -> bool:
    """Whether the address of a file that is there changes with its content: app.css?v=… with the
    digest of what it holds now, vendor/htmx-4.0.1/…."""
    path = posixpath.normpath(file)
    if path.startswith(VENDORED) and path.count("/") > 1:
        return True
    return request.args.get("v") == rendering.digest(path)


def compress(response: Response) -> None:
    """Send a text file compressed where the browser takes that.

    Files alone: a page holds secrets beside what others can have in it, and the length of the
    two compressed together would tell about the secrets (BREACH).
    """
    if response.status_code != 200 or not (response.mimetype or "").startswith(COMPRESSED):
        return
    response.vary.add("Accept-Encoding")
    if not request.accept_encodings["gzip"]:
        return
    file = Path(current_app.static_folder or "") / (request.view_args or {})["filename"]
    etag = response.get_etag()[0]
    response.direct_passthrough = False
    response.set_data(_compressed(file, file.stat().st_mtime_ns))
    response.headers["Content-Encoding"] = "gzip"
    if etag:
        # Weak: the same content in other bytes.
        response.set_etag(etag, weak=True)


@lru_cache(maxsize=64)
def _compressed(file: Path, _changed: int) -> bytes:
    return gzip.compress(file.read_bytes(), mtime=0)
