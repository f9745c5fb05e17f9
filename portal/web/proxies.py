"""What proxies before the portal say of their clients (PORTAL_PROXIES), letter for letter.

Not werkzeug's ProxyFix, which reads the header as a list in which quotes may stand: one quote that
a client sends, in a header to which its proxy adds the address, has the whole of it left out, and
the client is then taken for the proxy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


ENTRY_LETTERS = 128
"""How long an entry of a proxy may be. What is before those of all is its clients' own, and may be
60,000 commas, which take time to be read."""


def passed_on(named: str, proxies: int) -> str | None:
    """What the outermost of so many proxies has put into a header, to which each adds one entry;
    None where there are fewer."""
    last = named[-ENTRY_LETTERS * (proxies + 1) :]
    parts = [part for part in map(str.strip, last.split(",")) if part]
    return parts[-proxies] if len(parts) >= proxies else None


def add_to(application: WSGIApplication, proxies: int) -> WSGIApplication:
    """The same application, for which a request comes from the client before so many proxies, and
    by the scheme that it came to them."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        client = passed_on(environ.get("HTTP_X_FORWARDED_FOR", ""), proxies)
        if client:
            environ["REMOTE_ADDR"] = client
        scheme = passed_on(environ.get("HTTP_X_FORWARDED_PROTO", ""), proxies)
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        return application(environ, start_response)

    return answer
