"""What a first start makes and every later one brings up to date: the secret key and the database.

`bin/run` and `bin/portal migrate` come this way, and nothing else makes either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flask import Flask, current_app, request
from sqlalchemy.exc import DBAPIError

from portal import queues, runtime
from portal.api.door import Door
from portal.config import Config, SettingError
from portal.database_errors import DAMAGED, FULL, is_temporary, trouble_of
from portal.db import schema
from portal.db.session import db
from portal.errors import Unavailable
from portal.run import sealed_word
from portal.settings import private_files, secret_key

_REMEDIES = {
    DAMAGED.name: "restore it from a backup, as docs/operators.md says",
    FULL.name: "make room on its disk",
}


class KeyIsThere(Exception):
    """Another start has kept its new key in the data directory since this one read its settings:
    read them again, and begin anew with that key."""


def prepare(tell: Callable[[str], None] = lambda _: None, *, with_copy: bool = True) -> None:
    """Close to others what an earlier version left open, keep a new key, migrate the database, see
    that the two belong together, and name the installation; `tell` gets a line about what was done.
    Raises KeyIsThere, SettingError, and Unavailable when the database is away."""
    config: Config = current_app.config["PORTAL"]
    private_files.close(config.data_dir, _sqlite_file())
    if config.key_is_new:
        _refuse_new_key(config)
        _keep(config)
    schema.upgrade(tell, with_copy=with_copy)
    try:
        sealed_word.check()
    except SettingError:
        if config.key_is_new:
            _refuse_own_key(config)
        raise
    # Here, before many processes ask for it at once.
    queues.installation()


def check() -> None:
    """See that this version and this key are those of the database, as every process does at its
    start. Raises SettingError, and Unavailable or DBAPIError when the database is away."""
    schema.refuse_newer()
    sealed_word.check()


def check_current() -> None:
    """The same, and that the schema is this version's, for those who cannot do without. Raises
    SettingError, and Unavailable or DBAPIError when the database is away."""
    check()
    if trouble := schema.trouble():
        raise SettingError(trouble.sentence)


def guard(app: Flask) -> None:
    """Have a web process `check`: now, or while the database is away before its first
    request. Raises SettingError."""
    try:
        with app.app_context():
            check()
            return
    except Unavailable:
        pass
    except DBAPIError as error:
        if not is_temporary(error):
            raise SettingError(unusable(error)) from None
    door = runtime.of(app).part(Door)
    door.is_closed = True

    def check_first() -> None:
        if not door.is_closed or request.blueprint == "health":
            return
        try:
            check()
        except SettingError as error:
            app.logger.error("%s", error)
            raise Unavailable("The portal is not set up rightly; its log says how.") from None
        door.is_closed = False

    app.before_request(check_first)


def unusable(error: Exception) -> str:
    """A sentence for a database that cannot be used, which shows no password of its address."""
    cause = error if isinstance(error, DBAPIError) else error.__cause__
    first_line = str(getattr(cause, "orig", error)).strip().partition("\n")[0]
    trouble = trouble_of(cause) if isinstance(cause, DBAPIError) else None
    remedy = _REMEDIES.get(
        trouble.name if trouble else "",
        "look at that server or file, or change PORTAL_DATABASE_URL",
    )
    return f"The database cannot be used ({first_line}): {remedy}."


def _sqlite_file() -> Path | None:
    address = db.engine.url
    is_file = address.get_backend_name() == "sqlite" and address.database
    return Path(str(address.database)) if is_file else None


def _refuse_own_key(config: Config) -> None:
    """Take back the key that this start has made: another one, which began at the same moment, was
    first to fill the database."""
    path = secret_key.path_in(config.data_dir)
    path.unlink(missing_ok=True)
    raise SettingError(
        "Another machine has made this database at the same moment, under a secret key of its own: "
        f"copy its file secret_key to {path}, or give that key as PORTAL_SECRET_KEY, and start "
        "again. No key is kept here."
    ) from None


def _refuse_new_key(config: Config) -> None:
    try:
        sealed_word.refuse_new_key()
    except SettingError:
        # What is sealed may be another start's, which was quicker.
        if secret_key.path_in(config.data_dir).exists():
            raise KeyIsThere from None
        raise


def _keep(config: Config) -> None:
    path = secret_key.path_in(config.data_dir)
    try:
        secret_key.keep(config.secret_keys[0], path)
    except FileExistsError:
        raise KeyIsThere from None
    except OSError as error:
        raise SettingError(
            f"The secret key {path} cannot be written ({error.strerror}): give a PORTAL_DATA_DIR "
            "that this user may write, or the key as PORTAL_SECRET_KEY."
        ) from None
