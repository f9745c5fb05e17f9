"""Where the portal's files lie, and how it is called: in a working tree, or installed as a package.

`static`, `migrations` and `examples` are at the top of a working tree, where people look for them;
pyproject.toml has the wheel bring them within the package.
"""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_BROUGHT = _PACKAGE / "_brought"
IS_WHEEL = _BROUGHT.is_dir()
"""Whether it was installed from a wheel, without a working tree around it."""
COMMAND = "webhook-portal" if IS_WHEEL else "bin/portal"
"""The command line, as the operator calls it."""
START = "webhook-portal run" if IS_WHEEL else "bin/run"
"""What starts everything, as the operator calls it."""


def folder(name: str) -> Path:
    """A folder of files that are not code: `static`, `migrations`, `examples/verify`."""
    return (_BROUGHT if IS_WHEEL else _PACKAGE.parent) / name


def data_directory() -> Path:
    """Where the data lies unless a setting says so: beside the code of a working tree. Where a
    package is installed is no place for data, since an upgrade may make that anew; so it is this
    user's directory for data (XDG Base Directory Specification, XDG_DATA_HOME), wherever the
    portal is started. Raises RuntimeError for a user without a home directory."""
    if not IS_WHEEL:
        return _PACKAGE.parent / "var"
    given = Path(os.environ.get("XDG_DATA_HOME", ""))
    # One that is relative is to be passed over, says the specification.
    home = given if given.is_absolute() else Path.home() / ".local" / "share"
    return home / "webhook-portal"
