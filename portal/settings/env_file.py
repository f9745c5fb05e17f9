"""Settings in a file, in a grammar that has one meaning.

A line is `NAME=value`, empty, or a comment that begins with `#` or `;`. The value goes to the end
of the line, without white space around it; quotes around the whole of it are taken off. Nothing is
expanded, so `$`, `&`, `#` and `%` stand for themselves. What systemd (EnvironmentFile=) and a shell
would read in different ways, a backslash, a comment behind a value, `export`, is refused: whatever
is taken here means the same to systemd.

Who may write the file chooses what the portal trusts, and which programs it starts; so one that
everybody may write, or put another in place of, is refused, as by sudo and ssh. A group that may,
may on purpose.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from portal.settings import plain_files

NAME = "PORTAL_ENV_FILE"
_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")


class WrongFile(Exception):
    """The file cannot be used; the message is a sentence that names it and the line."""


def use(path: str) -> None:
    """Have this process and its children take settings from the file at `path`, where one is given
    (portal.config.load_config)."""
    if path:
        os.environ[NAME] = path


def read(path: Path) -> dict[str, str]:
    """The variables that a file sets. Raises WrongFile."""
    try:
        content, found_file = plain_files.read(path)
        _refuse_anybodys(path, found_file)
        text = content.decode()
    except UnicodeDecodeError:
        raise WrongFile(f"{NAME}={str(path)[:200]!r} cannot be used: it is not UTF-8.") from None
    except OSError as error:
        raise WrongFile(
            f"{NAME}={str(path)[:200]!r} cannot be read ({error.strerror}): give a file "
            "that this user may read."
        ) from None
    if text.startswith("\N{BOM}"):
        raise WrongFile(
            f"{path} begins with a byte order mark, which editors do not show: save it without one."
        )
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        try:
            name, value = _variable(line)
            if name in found:
                raise ValueError(f"{name} is set a second time")
        except ValueError as error:
            raise WrongFile(f"{path}, line {number}: {error}.") from None
        found[name] = value
    return found


def _refuse_anybodys(path: Path, found: os.stat_result) -> None:
    """Raises WrongFile for a file that everybody on this machine may write, or put another in place
    of."""
    if stat.S_ISCHR(found.st_mode):
        # Such as /dev/null.
        return
    shown = f"{NAME}={str(path)[:200]!r} cannot be used:"
    if found.st_mode & stat.S_IWOTH:
        raise WrongFile(
            f"{shown} everybody on this machine may write it, and so choose what the portal does. "
            f"Look at what it says, then run: chmod o-w {path}"
        )
    for step in (path.absolute(), path.resolve()):
        for inside, directory in zip((step, *step.parents), step.parents, strict=False):
            mode = directory.stat().st_mode
            # In one such as /tmp nobody takes away what is another's, and anybody may be first.
            is_safe = mode & stat.S_ISVTX and inside.lstat().st_uid in (0, os.geteuid())
            if mode & stat.S_IWOTH and not is_safe:
                raise WrongFile(
                    f"{shown} everybody on this machine may put a file there, since they may write "
                    f"{directory}. Keep it in a directory such as /etc."
                )


def _variable(line: str) -> tuple[str, str]:
    matched = _LINE.fullmatch(line)
    if matched is None:
        if line.startswith("export "):
            raise ValueError("leave out the word export")
        raise ValueError("write NAME=value, without a space around the first =")
    name, value = matched[1], matched[2].strip()
    if name == NAME:
        raise ValueError(f"{NAME} names this file, and is not set in it")
    if name == "PORTAL_DATA_DIR" and value.strip("'\"")[:1] not in ("", "/"):
        raise ValueError("give the whole path in PORTAL_DATA_DIR; a file has no current directory")
    return name, _value(value)


def _value(text: str) -> str:
    """Without the quotes around it. Raises ValueError, which does not show what may be secret."""
    if "\0" in text:
        raise ValueError("there is a NUL character in the value; take it out")
    if "\\" in text:
        raise ValueError("a backslash means different things to others; in a URL write %5C for it")
    if text[:1] in ("'", '"'):
        quote = text[0]
        if text.count(quote) != 2 or text[-1] != quote:
            raise ValueError(f"the quote {quote} around a value begins and ends it, once each")
        return text[1:-1]
    if re.search(r"\s[#;]", text):
        raise ValueError(
            "a comment has a line of its own; put the value into quotes where # belongs to it"
        )
    return text
