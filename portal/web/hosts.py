"""The names that the portal answers to. A page of another site that lets its own name point here
(DNS rebinding) would otherwise be read by the browser as if it were the portal's."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import current_app, request

from portal.config import Config
from portal.errors import PortalError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ANY = "*"
_REFUSED = "portal.refused_host"
MOST_LETTERS = 253 + len(".:65535")
"""No name is longer (RFC 1035, 2.3.4), and to read one takes time for each of its parts."""
_NO_NAME = frozenset("/?#@\\")
"""What separates a name from other parts of an address."""


class WrongHost(PortalError):
    """The request is for a name that is not the portal's (RFC 9110, 7.4: 421)."""

    status = 421
    title = "Not this portal's name"


def check_host() -> None:
    """Refuse a request for another name than the portal's before anything else reads it.

    Raises WrongHost. Addresses of numbers are taken: nobody can let them point elsewhere, and
    probes of a load balancer use them.
    """
    host = request.environ.get(_REFUSED)
    config: Config = current_app.config["PORTAL"]
    if host is not None:
        raise WrongHost(
            f"The portal does not answer to the name {host[:100]!r}. Use {config.public_url}, or "
            "add the name to PORTAL_HOSTS."
        )


def is_ours(host: str, config: Config) -> bool:
    """Whether a Host header names this portal, or nothing."""
    return not host or (
        len(host) <= MOST_LETTERS and _is_ours(host, config.public_url, config.hosts)
    )


def add_to(application: WSGIApplication, config: Config) -> WSGIApplication:
    """The same application, which sees no name but the portal's: Flask can make no page for what
    cannot be a name, not even one that says so. What was named is kept for `check_host`."""
    own = urlsplit(config.public_url).netloc

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "")
        if not is_ours(host, config):
            environ[_REFUSED], environ["HTTP_HOST"] = host, own
        return application(environ, start_response)

    return answer


@lru_cache(maxsize=256)
def _is_ours(host: str, public_url: str, hosts: frozenset[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        # As Werkzeug does, both ways.
        name.encode("idna").decode("idna")
    except ValueError:
        return False
    if not name or _NO_NAME & set(host):
        return False
    if ANY in hosts or name in hosts:
        return True
    if name in ("localhost", urlsplit(public_url).hostname, socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
