"""The portal's secret keys: given as a setting, or kept in a file of the data directory."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from portal.settings import plain_files

SHORTEST = 32
_NAME = "secret_key"
_DRAFT = f"{_NAME}."
"""What a draft's name begins with, before the number of the process that writes it."""


def new() -> str:
    """A fresh key for PORTAL_SECRET_KEY: 48 random bytes."""
    return secrets.token_urlsafe(48)


def path_in(data_dir: Path) -> Path:
    """Where the key is kept that was not given as a setting."""
    return data_dir / _NAME


def is_draft(path: Path) -> bool:
    """Whether `keep` writes a key into such a file first; one that is killed leaves it behind."""
    return path.name.startswith(_DRAFT) and path.name.removeprefix(_DRAFT).isdecimal()


def read_all(text: str) -> tuple[str, ...]:
    """Keys that are separated by commas, the newest first. Raises ValueError."""
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if not keys or any(len(key) < SHORTEST for key in keys):
        raise ValueError(f"give {SHORTEST} or more characters")
    return keys


def read_file(path: Path) -> tuple[str, ...] | None:
    """The keys in a file; None when there is no such file. Raises ValueError with a sentence."""
    try:
        return read_all(plain_files.read(path)[0].decode().strip())
    except FileNotFoundError:
        if path.is_symlink():
            raise ValueError(
                f"The secret key {path} is a link to {path.readlink()}, where there is none: put "
                "the key back there, or delete the link."
            ) from None
        return None
    except OSError as error:
        raise ValueError(
            f"The secret key in {path} cannot be read ({error.strerror}): let this user read it."
        ) from None
    except ValueError:
        raise ValueError(
            f"The file {path} holds no secret key of {SHORTEST} or more characters: put the right "
            "one back from your backup."
        ) from None


def keep(key: str, path: Path) -> None:
    """Keep a new key, for its owner alone. Raises FileExistsError when another process has made
    one meanwhile, and other OSErrors."""
    draft = path.with_name(f"{_DRAFT}{os.getpid()}")
    # One of its own, whatever somebody has put there.
    draft.unlink(missing_ok=True)
    number = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    try:
        with os.fdopen(number, "w") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        # link() fails when the file is there: of two that start at once, one makes the key.
        os.link(draft, path)
    finally:
        draft.unlink()
