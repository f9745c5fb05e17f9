"""The programs of examples/verify, which verify a signature: pages show them as they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from portal import installed

_LANGUAGES = {
    "python": ("Python", "verify.py"),
    "node": ("Node.js", "verify.mjs"),
    "php": ("PHP", "verify.php"),
    "ruby": ("Ruby", "verify.rb"),
    "go": ("Go", "verify.go"),
}


@dataclass(frozen=True)
class Snippet:
    """A language's key, its name for people, and the program."""

    key: str
    title: str
    code: str


@lru_cache(maxsize=1)
def verify() -> list[Snippet]:
    """The programs that verify a request, in the order in which pages show them."""
    folder = installed.folder("examples/verify")
    return [
        Snippet(key, title, (folder / file).read_text())
        for key, (title, file) in _LANGUAGES.items()
    ]
