"""How the text of a setting becomes its value: one reader for each kind.

A reader raises ValueError with what to give instead, for portal.config to put the name in front.
Every one gets text without white space around it, of printable characters and not in quotes.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
from collections.abc import Callable
from datetime import datetime
from email.utils import formataddr, getaddresses, parseaddr
from urllib.parse import SplitResult, urlsplit

import sqlalchemy as sa
from croniter import croniter
from redis import ConnectionPool

from portal.addresses import DEFAULT_PORTS, Lookalike, clean_email, email_fault, wire_name

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NAT64_LENGTHS = (32, 40, 48, 56, 64, 96)
LONGEST = 8_192
"""Characters of one setting."""
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_PASSWORD_IN_URL = re.compile(r"//.*@|(?<=password=)[^&]+")
_INTEGER = re.compile(r"-?[0-9]{1,12}")
_LABEL = "[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_FLAGS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}
_WEB_ADDRESS = "give an address such as https://hooks.example.com"


def check_text(text: str) -> str:
    """The text without white space around it, as a shell, a file and a container's settings may
    leave it there. Raises ValueError for what no setting holds."""
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST:,} characters")
    if not text.isprintable():
        raise ValueError("it holds a line break, a control character or bytes that are not UTF-8")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        raise ValueError("leave out the quotes around it")
    return text


def without_passwords(text: str, given: str) -> str:
    """A text without the passwords of the addresses in what was `given`; examples stay whole."""
    for password in _PASSWORD_IN_URL.findall(given):
        text = text.replace(password, "…")
    return text


def plain(text: str) -> str:
    """Any text."""
    return text


def integer(low: int, high: int) -> Callable[[str], int]:
    """A whole number in ASCII digits, from `low` to `high`."""

    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return int(text)

    return read


def flag(text: str) -> bool:
    """1 or 0, and the words for them."""
    if text.lower() not in _FLAGS:
        raise ValueError("give 1 or 0")
    return _FLAGS[text.lower()]


def flag_or_none(text: str) -> bool | None:
    """The same; None for nothing."""
    return flag(text) if text else None


def level(text: str) -> str:
    """One of LEVELS."""
    if text.upper() not in LEVELS:
        raise ValueError("give DEBUG, INFO, WARNING or ERROR")
    return text.upper()


def host(text: str) -> str:
    """An address or a name to listen on."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not _is_host(bare):
        raise ValueError("give an address or a name of this machine, such as 127.0.0.1 or ::1")
    return bare


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(_NAME.fullmatch(text.lower())) and len(text) <= 253
    return True


def public_url(text: str) -> str:
    """Scheme, name and perhaps a port, in their plain form: the portal has a name of its own."""
    if not text:
        return ""
    address = _address(text, _WEB_ADDRESS)
    scheme, name = address.scheme.lower(), (address.hostname or "").rstrip(".")
    if scheme not in DEFAULT_PORTS or not name:
        raise ValueError(_WEB_ADDRESS)
    try:
        name = wire_name(name)
    except Lookalike as error:
        raise ValueError(f"write the name as {error.punycode}") from None
    if not _is_host(name):
        raise ValueError(f"{name!r} is no name; {_WEB_ADDRESS}")
    if "@" in address.netloc:
        raise ValueError("leave out user and password")
    if address.path not in ("", "/"):
        raise ValueError(
            "leave out the path: the portal is not served under one, so give it a name of its own"
        )
    if "?" in text or "#" in text:
        raise ValueError("leave out what begins with ? or #")
    port = address.port
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{shown}" + (f":{port}" if port not in (None, DEFAULT_PORTS[scheme]) else "")


def _address(text: str, wrong: str) -> SplitResult:
    """A URL whose port is one. Raises ValueError(wrong)."""
    try:
        address = urlsplit(text)
        port = address.port
    except ValueError:
        raise ValueError(wrong) from None
    if " " in text or port == 0 or address.netloc.endswith(":"):
        raise ValueError(wrong)
    return address


def networks(text: str) -> tuple[Network, ...]:
    """Networks, separated by commas or spaces."""
    found = []
    for part in text.replace(",", " ").split():
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise ValueError(f"give networks such as 10.1.0.0/16, not {part!r} ({error})") from None
    return tuple(found)


def nat64_prefixes(text: str) -> tuple[ipaddress.IPv6Network, ...]:
    """Prefixes of NAT64 (RFC 6052, 2.2), separated by commas or spaces."""
    found = []
    for part in text.replace(",", " ").split():
        try:
            prefix = ipaddress.IPv6Network(part)
        except ValueError as error:
            wanted = "give prefixes such as 64:ff9b::/96"
            raise ValueError(f"{wanted}, not {part!r} ({error})") from None
        if prefix.prefixlen not in NAT64_LENGTHS:
            lengths = ", ".join(f"/{length}" for length in NAT64_LENGTHS)
            raise ValueError(f"{part!r} has not one of the lengths of RFC 6052: {lengths}")
        if int(prefix.network_address) >> 56 & 0xFF:
            raise ValueError(f"bits 64 to 71 of {part!r} are not zero, as RFC 6052 has them")
        found.append(prefix)
    return tuple(found)


def names(text: str) -> frozenset[str]:
    """Names of hosts, separated by commas or spaces."""
    found = frozenset(text.lower().replace(",", " ").split())
    for name in found:
        if name != "*" and not _NAME.fullmatch(name):
            raise ValueError(f"give names such as portal.internal, without a port, not {name!r}")
    return found


def cron_line(text: str) -> str:
    """A cron line that comes round; croniter would read a sixth field as seconds."""
    try:
        if len(text.split()) == 6:
            raise ValueError
        croniter(text).get_next(datetime)
    except (ValueError, KeyError, OverflowError):
        raise ValueError("give a cron line such as '17 3 * * *'") from None
    return text


def schedule(text: str) -> tuple[int, ...]:
    """Delays in seconds, separated by commas or spaces."""
    parts = text.replace(",", " ").split()
    delays = tuple(int(part) for part in parts if _INTEGER.fullmatch(part))
    if (
        len(delays) != len(parts)
        or not 1 <= len(delays) <= 20
        or any(not 0 <= delay <= 7 * 86_400 for delay in delays)
    ):
        raise ValueError("give 1 to 20 delays in seconds, each from 0 to 604800")
    return delays


def database_url(text: str) -> str:
    """SQLAlchemy's address of a database; SQLite's file by its whole path."""
    if not text:
        return ""
    for scheme in ("postgres://", "postgresql://"):
        if text.startswith(scheme):
            text = "postgresql+psycopg://" + text.removeprefix(scheme)
    wrong = "give a sqlite:////whole/path or postgresql://user:password@host/name address"
    if text.startswith("postgresql+psycopg://"):
        _address(text, wrong)
    elif not text.startswith("sqlite:///"):
        raise ValueError(wrong)
    try:
        address = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError(wrong) from None
    if address.get_backend_name() == "sqlite" and not (address.database or "").startswith("/"):
        raise ValueError("give the whole path of the file, as in sqlite:////var/lib/portal.db")
    if address.get_backend_name() == "sqlite" and address.query:
        raise ValueError("leave out what begins with ?: the portal opens the file in its own way")
    if not address.database:
        raise ValueError("name the database, as in postgresql://user:password@host/portal")
    return text


def redis_url(text: str) -> str:
    """redis-py's address of a server."""
    wrong = "give a redis://, rediss:// or unix:// address, such as redis://127.0.0.1:6379/0"
    if text.startswith(("redis://", "rediss://")):
        address = _address(text, wrong)
        if not address.hostname or not re.fullmatch(r"(/[0-9]{0,4})?", address.path):
            # redis-py takes what is no number for database 0.
            raise ValueError(wrong)
    elif text and not text.startswith("unix:///") and not text.startswith("unix://:"):
        raise ValueError(wrong)
    try:
        pool = ConnectionPool.from_url(text or "redis://")
        # Nothing is connected; what is not understood in the address is refused here.
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError):
        raise ValueError(
            "what stands behind ? is not understood; leave it out, or write it as in "
            "?socket_timeout=5"
        ) from None
    return text


def program(text: str) -> str:
    """The path of a program that can be started."""
    path = shutil.which(text) if text else ""
    if path is None:
        raise ValueError("give the path of a server that can be started")
    return path


def smtp_url(text: str) -> str:
    """Checked here, taken apart where mail is sent (portal.notices.mail)."""
    wrong = "give smtp://user:password@host:587 or smtps://user:password@host:465"
    address = _address(text, wrong)
    if text and (
        address.scheme not in ("smtp", "smtps")
        or not address.hostname
        or address.query
        or address.path not in ("", "/")
        or (address.password and not address.username)
    ):
        raise ValueError(wrong)
    return text


def mail_from(text: str) -> str:
    """The sender of mail."""
    if len(getaddresses([text])) > 1:
        raise ValueError("give one address; mail has one sender")
    name, address = parseaddr(text)
    address = clean_email(address)
    if text and not address:
        raise ValueError("give an address such as hooks@example.com, or Name <address>")
    if text and (fault := email_fault(address)):
        raise ValueError(fault[0].lower() + fault[1:].removesuffix("."))
    return formataddr((name, address)) if text else ""
