"""Every setting, typed, from environment variables with the prefix PORTAL_.

`SETTINGS` is the one table: docs/settings.md is checked against it, and a wrong value
stops the start with a sentence (`SettingError`).
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formataddr, parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from croniter import croniter

from portal.addresses import clean_email, email_fault

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_PASSWORD_IN_URL = re.compile(r"//.*@")


class SettingError(Exception):
    """A setting cannot be used; the message is a sentence for the operator."""


@dataclass(frozen=True)
class Setting:
    """One PORTAL_ variable: its name without the prefix, default text, reader and meaning."""

    name: str
    default: str
    read: Callable[[str], Any]
    help: str


def _integer(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"give a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return value

    return read


def _text(text: str) -> str:
    return text.strip()


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in known:
        raise ValueError("give 1 or 0")
    return known[text.lower()]


def _networks(text: str) -> tuple[Network, ...]:
    networks = []
    for part in text.replace(",", " ").split():
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise ValueError(f"give networks such as 10.1.0.0/16, not {part!r} ({error})") from None
    return tuple(networks)


def _names(text: str) -> frozenset[str]:
    names = frozenset(text.lower().replace(",", " ").split())
    for name in names:
        if name != "*" and not _NAME.fullmatch(name):
            raise ValueError(f"give names such as portal.internal, without a port, not {name!r}")
    return names


def _cron_line(text: str) -> str:
    if not croniter.is_valid(text):
        raise ValueError("give a cron line such as '17 3 * * *'")
    return text


def _schedule(text: str) -> tuple[int, ...]:
    try:
        delays = tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        delays = ()
    if not 1 <= len(delays) <= 20 or any(not 0 <= delay <= 7 * 86_400 for delay in delays):
        raise ValueError("give 1 to 20 delays in seconds, each from 0 to 604800")
    return delays


def _database_url(text: str) -> str:
    if text.startswith("postgres://"):
        text = "postgresql://" + text.removeprefix("postgres://")
    if text.startswith("postgresql://"):
        text = "postgresql+psycopg://" + text.removeprefix("postgresql://")
    if text and not text.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError("give a sqlite:///… or postgresql://… address")
    return text


def _redis_url(text: str) -> str:
    if text and not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("give a redis://, rediss:// or unix:// address")
    return text


def _program(text: str) -> str:
    path = shutil.which(text) if text else ""
    if path is None:
        raise ValueError("give the path of a server that can be started")
    return path


def _smtp_url(text: str) -> str:
    """Checked here, taken apart where mail is sent (portal.people.mail)."""
    wrong = "give smtp://user:password@host:587 or smtps://user:password@host:465"
    address = urlsplit(text)
    try:
        address.port  # noqa: B018  (raises for what is no port)
    except ValueError:
        raise ValueError(wrong) from None
    if text and (
        address.scheme not in ("smtp", "smtps") or not address.hostname or address.query
        or address.path not in ("", "/") or (address.password and not address.username)
    ):
        raise ValueError(wrong)
    return text


def _mail_from(text: str) -> str:
    name, address = parseaddr(text)
    address = clean_email(address)
    if text and (not text.isprintable() or not address):
        raise ValueError("give an address such as hooks@example.com, or Name <address>")
    if text and (fault := email_fault(address)):
        raise ValueError(fault[0].lower() + fault[1:].removesuffix("."))
    return formataddr((name, address)) if text else ""


SETTINGS: tuple[Setting, ...] = (
    Setting("HOST", "127.0.0.1", _text, "Address the web server listens on."),
    Setting("PORT", "8000", _integer(1, 65_535), "Port the web server listens on."),
    Setting(
        "PUBLIC_URL", "", _text, "Address people use, such as https://hooks.example.com; "
        "needed behind a proxy. Default: http://HOST:PORT."
    ),
    Setting(
        "PROXIES", "0", _integer(0, 5), "Proxies in front of the portal whose X-Forwarded-For "
        "and X-Forwarded-Proto are believed; 1 behind one nginx or Caddy."
    ),
    Setting(
        "HOSTS", "", _names, "Further names under which the portal is reached, such as "
        "portal.internal, separated by commas; * for any. Those of PORTAL_PUBLIC_URL and of this "
        "machine, localhost and IP addresses are known."
    ),
    Setting("DATA_DIR", "var", _text, "Directory for the database, the queue and the secret key."),
    Setting(
        "DATABASE_URL", "", _database_url, "sqlite:///… or postgresql://…; "
        "default: portal.db in the data directory."
    ),
    Setting(
        "REDIS_URL", "", _redis_url, "redis://, rediss:// or unix://; default: a server that "
        "bin/run starts, on a socket in the data directory."
    ),
    Setting("REDIS_SERVER", "", _program, "Server that bin/run starts where PORTAL_REDIS_URL is "
            "empty, such as /usr/bin/valkey-server. Default: the portal's own Valkey."),
    Setting(
        "SECRET_KEY", "", _text, "Signs sessions and encrypts secrets; 32 or more characters, "
        "several separated by commas while rotating, the newest first. "
        "Default: made once and kept in the data directory."
    ),
    Setting(
        "EGRESS_ALLOW", "", _networks, "Private networks that webhooks may reach, such as "
        "10.1.0.0/16, separated by commas; none by default."
    ),
    Setting("WEB_PROCESSES", "2", _integer(1, 64), "Processes that answer HTTP."),
    Setting("WEB_THREADS", "8", _integer(1, 256), "Threads in each web process."),
    Setting("WORKERS", "2", _integer(1, 64), "Processes that deliver."),
    Setting(
        "LANES", "4", _integer(1, 256), "Parts into which webhooks are divided; at least as many "
        "as delivering processes on all machines together. The same on every machine."
    ),
    Setting("SWEEP_SECONDS", "5", _integer(1, 300), "How often cron looks for forgotten work."),
    Setting(
        "RETRY_SCHEDULE", "0 5 300 1800 7200 18000 36000 50400 72000 86400", _schedule,
        "Delay before each attempt in seconds, each after the one before."
    ),
    Setting("TIMEOUT_SECONDS", "15", _integer(1, 120), "Deadline of one attempt, first to last."),
    Setting("MAX_IN_FLIGHT", "20", _integer(1, 1_000), "Requests at once to one webhook."),
    Setting(
        "HOLD_AFTER_FAILURES", "20", _integer(2, 10_000), "Attempts in a row without an answer, "
        "or with 408, 429 or 5xx, after which a webhook's deliveries are held and only probes are "
        "sent."
    ),
    Setting(
        "DISABLE_AFTER_DAYS", "5", _integer(1, 60), "Days of nothing but failures after which a "
        "webhook is disabled."
    ),
    Setting("EVENT_DAYS", "60", _integer(1, 3_650), "Days to keep events and header logs."),
    Setting(
        "PAYLOAD_DAYS", "15", _integer(1, 3_650), "Days to keep payload logs and record data."
    ),
    Setting(
        "RETENTION_CRON", "17 3 * * *", _cron_line, "When the nightly clean-up runs, as a cron "
        "line in the server's local time."
    ),
    Setting(
        "CONTACT", "", _text, "Whom merchants ask to have the feature activated: a name, an "
        "address or a link, shown in the portal."
    ),
    Setting(
        "SMTP_URL", "", _smtp_url, "Server that sends notices by mail: "
        "smtp://user:password@host:587 (TLS by STARTTLS) or smtps://…:465. Empty: no mail."
    ),
    Setting(
        "MAIL_FROM", "", _mail_from, "Sender of mail: an address, or Name <address>; needed with "
        "PORTAL_SMTP_URL."
    ),
    Setting(
        "API_REQUESTS", "1000", _integer(0, 1_000_000), "Requests a second that each web process "
        "takes with one API key; 0: any number."
    ),
    Setting(
        "API_WRONG_KEYS", "30", _integer(0, 1_000_000), "Wrong API keys a minute that each web "
        "process looks up for one address; 0: any number."
    ),
    Setting("SESSION_HOURS", "12", _integer(1, 720), "Hours after which a sign-in ends."),
    Setting("LOG_LEVEL", "INFO", _text, "DEBUG, INFO, WARNING or ERROR."),
    Setting("SECURE_COOKIES", "0", _flag, "1 behind TLS: cookies are sent over HTTPS only."),
)


@dataclass(frozen=True)
class Config:
    """The settings of one process, all validated."""

    host: str
    port: int
    public_url: str
    proxies: int
    hosts: frozenset[str]
    data_dir: Path
    database_url: str
    redis_url: str
    redis_is_embedded: bool
    redis_server: str
    secret_keys: tuple[str, ...]
    egress_allow: tuple[Network, ...]
    web_processes: int
    web_threads: int
    workers: int
    lanes: int
    sweep_seconds: int
    retry_schedule: tuple[int, ...]
    timeout_seconds: int
    max_in_flight: int
    hold_after_failures: int
    disable_after_days: int
    event_days: int
    payload_days: int
    retention_cron: str
    contact: str
    smtp_url: str
    mail_from: str
    api_requests: int
    api_wrong_keys: int
    session_hours: int
    log_level: str
    secure_cookies: bool

    @property
    def local_url(self) -> str:
        """Where the web server is reached on this machine."""
        return f"http://{_in_url(self.host)}:{self.port}"

    @property
    def inspect_url(self) -> str:
        """How the URL of every inspector begins, with a token after it; scheme and host in small
        letters, as portal.webhooks.url_rules keeps them."""
        public = urlsplit(self.public_url)
        return public._replace(netloc=public.netloc.lower()).geturl() + "/inspect/"


def load_config(environ: Mapping[str, str] | None = None) -> Config:
    """Read every setting from `environ` (default: the process environment).

    Makes the data directory and, once, its secret key. Raises SettingError, whose message
    names the variable and the remedy.
    """
    environ = os.environ if environ is None else environ
    known = {f"PORTAL_{setting.name}" for setting in SETTINGS}
    for name in sorted(environ):
        if name.startswith("PORTAL_") and name not in known:
            raise SettingError(f"{name} is not a setting; docs/settings.md lists them.")
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = environ.get(f"PORTAL_{setting.name}", "") or setting.default
        try:
            values[setting.name.lower()] = setting.read(text)
        except ValueError as error:
            shown = _PASSWORD_IN_URL.sub("//…@", text)
            raise SettingError(
                f"PORTAL_{setting.name}={shown!r} cannot be used: {error}."
            ) from None
    if values["log_level"] not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise SettingError("PORTAL_LOG_LEVEL cannot be used: give DEBUG, INFO, WARNING or ERROR.")
    if values["payload_days"] > values["event_days"]:
        raise SettingError(
            "PORTAL_PAYLOAD_DAYS cannot be used: payloads cannot be kept longer than events."
        )
    if values["smtp_url"] and not values["mail_from"]:
        raise SettingError(
            "PORTAL_MAIL_FROM is needed with PORTAL_SMTP_URL: give the address mail comes from."
        )
    data_dir = _data_directory(values.pop("data_dir"))
    secret_key = values.pop("secret_key")
    redis_url = values.pop("redis_url")
    database_url = values.pop("database_url")
    public_url = values.pop("public_url") or f"http://{_in_url(values['host'])}:{values['port']}"
    if not public_url.startswith(("http://", "https://")):
        raise SettingError("PORTAL_PUBLIC_URL cannot be used: give http://… or https://….")
    return Config(
        data_dir=data_dir,
        database_url=database_url or f"sqlite:///{data_dir / 'portal.db'}",
        redis_url=redis_url or f"unix://{embedded_redis_socket(data_dir)}",
        redis_is_embedded=not redis_url,
        secret_keys=_secret_keys(secret_key, data_dir),
        public_url=public_url.rstrip("/"),
        **values,
    )


def _in_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _data_directory(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SettingError(
            f"PORTAL_DATA_DIR={str(path)!r} cannot be written ({error.strerror}): "
            "give a directory that this user may write."
        ) from None
    return path


def _secret_keys(text: str, data_dir: Path) -> tuple[str, ...]:
    if not text:
        path = data_dir / "secret_key"
        if not path.exists():
            draft = data_dir / f"secret_key.{os.getpid()}"
            draft.touch(mode=0o600)
            draft.write_text(new_secret_key())
            # link() fails when the file is there: of two processes that start at once,
            # one makes the key and both read the same.
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
            draft.unlink()
        text = path.read_text().strip()
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if not keys or any(len(key) < 32 for key in keys):
        raise SettingError("PORTAL_SECRET_KEY cannot be used: give 32 or more characters.")
    return keys


def new_secret_key() -> str:
    """A fresh key for PORTAL_SECRET_KEY: 48 random bytes."""
    return secrets.token_urlsafe(48)


def embedded_redis_socket(data_dir: Path) -> Path:
    """Where the server that bin/run starts listens; the same for every process of a data_dir.

    A Unix socket path holds at most 107 bytes, so a deep directory gets one elsewhere.
    """
    path = data_dir / "valkey.sock"
    if len(os.fsencode(path)) <= 100:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(f"/tmp/webhook-portal-{os.getuid()}/{digest}.sock")
