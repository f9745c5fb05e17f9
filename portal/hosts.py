"""The names that the portal answers to. A page of another site that lets its own name point here
(DNS rebinding) would otherwise be read by the browser as if it were the portal's."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from urllib.parse import urlsplit

from flask import current_app, request

from portal.config import Config
from portal.errors import PortalError

ANY = "*"


class WrongHost(PortalError):
    """The request is for a name that is not the portal's (RFC 9110, 7.4: 421)."""

    status = 421
    title = "Not this portal's name"


def check_host() -> None:
    """Refuse a request for another name than the portal's before anything else reads it.

    Raises WrongHost. Addresses of numbers are taken: nobody can let them point elsewhere, and
    probes of a load balancer use them.
    """
    host = request.environ.get("HTTP_HOST", "")
    config: Config = current_app.config["PORTAL"]
    if host and not _is_ours(host, config.public_url, config.hosts):
        raise WrongHost(
            f"The portal does not answer to the name {host[:100]!r}. Use {config.public_url}, or "
            "add the name to PORTAL_HOSTS."
        )


@lru_cache(maxsize=256)
def _is_ours(host: str, public_url: str, hosts: frozenset[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
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
