"""Every setting, typed, from environment variables with the prefix PORTAL_, and from the file that
PORTAL_ENV_FILE names.

The one table of them is portal.settings.table; a wrong value stops the start with a sentence
(`SettingError`).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from portal import installed
from portal.settings import env_file, secret_key, surroundings
from portal.settings.setting_values import Network, check_text, without_passwords
from portal.settings.surroundings import SettingError as SettingError
from portal.settings.table import SETTINGS as SETTINGS
from portal.settings.table import Setting as Setting

_SHOWN = 200
_ENV_FILE = next(setting for setting in SETTINGS if setting.name == "ENV_FILE")


@dataclass(frozen=True)
class Config:
    """The settings of one process, all validated."""

    env_file: str
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
    key_is_new: bool
    """Whether the key was drawn for a first start, and is kept nowhere yet."""
    egress_allow: tuple[Network, ...]
    nat64_prefixes: tuple[IPv6Network, ...]
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
    api_events: int
    api_deliveries: int
    disk_free_mb: int
    merchant_mb: int
    page_requests: int
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


def load_config(
    environ: Mapping[str, str] | None = None,
    *,
    first_start: bool = False,
    makes_directory: bool = True,
) -> Config:
    """Read every setting from `environ` and from the file that its PORTAL_ENV_FILE names.

    Without `environ` it is the process environment, to which what the file sets is added, for this
    process's children too. On a `first_start` the data directory is made, where `makes_directory`,
    and a missing secret key is drawn but not kept yet (`key_is_new`; portal.run.first_start keeps
    it); else what is missing is said, and how to make it. Raises SettingError, whose message names
    the variable and the remedy.
    """
    given: MutableMapping[str, str] = os.environ if environ is None else dict(environ)
    _add_file(given, environ is None)
    surroundings.check_zone(given.get("TZ", ""), given.get("TZDIR", ""))
    known = {f"PORTAL_{setting.name}" for setting in SETTINGS}
    for name in sorted(given):
        if name.startswith("PORTAL_") and name not in known:
            raise SettingError(f"{name} is not a setting; docs/settings.md lists them.")
    values = {setting.name.lower(): _read(setting, given) for setting in SETTINGS}
    values["public_url"] = (
        values["public_url"] or f"http://{_in_url(values['host'])}:{values['port']}"
    )
    is_secure = values["public_url"].startswith("https://")
    if values["secure_cookies"] is None:
        values["secure_cookies"] = is_secure
    _check_together(values, is_secure)
    data_dir = _data_directory(values.pop("data_dir"))
    if first_start and makes_directory:
        _make_directory(data_dir)
    database = values.pop("database_url") or f"sqlite:///{data_dir / 'portal.db'}"
    surroundings.check_database(database, first_start)
    keys, key_is_new = _secret_keys(values.pop("secret_key"), data_dir, first_start)
    if not key_is_new:
        surroundings.refuse_lost(database)
    redis = values.pop("redis_url")
    socket = surroundings.embedded_redis_socket(data_dir)
    if not redis and socket.parent != data_dir:
        surroundings.refuse_others(socket.parent)
    return Config(
        data_dir=data_dir,
        database_url=database,
        redis_url=redis or f"unix://{socket}",
        redis_is_embedded=not redis,
        secret_keys=keys,
        key_is_new=key_is_new,
        **values,
    )


def _add_file(given: MutableMapping[str, str], is_process: bool) -> None:
    name = _read(_ENV_FILE, given)
    if not name:
        return
    path = Path(name).absolute()
    # Children are started in another directory.
    given[env_file.NAME] = str(path)
    try:
        found = env_file.read(path)
    except env_file.WrongFile as error:
        raise SettingError(str(error)) from None
    for variable, text in found.items():
        given.setdefault(variable, text)
    if is_process:
        time.tzset()


def _read(setting: Setting, given: Mapping[str, str]) -> Any:
    text = given.get(f"PORTAL_{setting.name}", "")
    try:
        return setting.read(check_text(text) or setting.default)
    except ValueError as error:
        given_text = without_passwords(text, text)[:_SHOWN]
        shown = "" if setting.name == "SECRET_KEY" else f"={given_text!r}"
        why = without_passwords(str(error), text)[:_SHOWN]
        raise SettingError(f"PORTAL_{setting.name}{shown} cannot be used: {why}.") from None


def _check_together(values: Mapping[str, Any], is_secure: bool) -> None:
    if values["payload_days"] > values["event_days"]:
        raise SettingError(
            "PORTAL_PAYLOAD_DAYS cannot be more than PORTAL_EVENT_DAYS: payloads are not kept "
            "longer than their events."
        )
    if values["smtp_url"] and not values["mail_from"]:
        raise SettingError(
            "PORTAL_MAIL_FROM is needed with PORTAL_SMTP_URL: give the address mail comes from."
        )
    if values["secure_cookies"] and not is_secure:
        raise SettingError(
            "PORTAL_SECURE_COOKIES=1 cannot be used with PORTAL_PUBLIC_URL="
            f"{values['public_url']}: "
            "over plain HTTP browsers send no such cookie back, and nobody could sign in. Give the "
            "https:// address that people use, or leave PORTAL_SECURE_COOKIES out."
        )


def _in_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _data_directory(text: str) -> Path:
    if text.startswith("~"):
        # Another directory for each user, and so another database.
        raise SettingError(
            f"PORTAL_DATA_DIR={text!r} cannot be used: ~ stands for nothing here. Give the whole "
            "path."
        )
    if text:
        return Path(text).absolute()
    try:
        return installed.data_directory()
    except RuntimeError:
        raise SettingError(
            "This user has no home directory: say where the data is to lie, as in "
            "PORTAL_DATA_DIR=/var/lib/webhook-portal."
        ) from None


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise SettingError(
            f"PORTAL_DATA_DIR={str(path)[:_SHOWN]!r} cannot be written ({error.strerror}): "
            "give a directory that this user may write."
        ) from None


def _secret_keys(text: str, data_dir: Path, first_start: bool) -> tuple[tuple[str, ...], bool]:
    """The keys, and whether they are new."""
    if text:
        try:
            return secret_key.read_all(text), False
        except ValueError as error:
            raise SettingError(f"PORTAL_SECRET_KEY cannot be used: {error}.") from None
    path = secret_key.path_in(data_dir)
    try:
        keys = secret_key.read_file(path)
    except ValueError as error:
        raise SettingError(str(error)) from None
    if keys is not None:
        return keys, False
    if not first_start:
        raise SettingError(
            f"There is no secret key: {path} is missing. Put it back from your backup, or give the "
            f"key as PORTAL_SECRET_KEY. {surroundings.NOT_YET}"
        )
    return (secret_key.new(),), True
