"""Code that verifies a signature, for receivers in five languages: shown on pages, quoted by
the docs, run by tests. One text file each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_LANGUAGES = {
    "python": "Python", "node": "Node.js", "php": "PHP", "ruby": "Ruby", "go": "Go",
}


@dataclass(frozen=True)
class Snippet:
    """A language's key (also the file's name), its name for people, and the code."""

    key: str
    title: str
    code: str


@lru_cache(maxsize=1)
def verify() -> list[Snippet]:
    """The snippets that verify a request, in the order in which pages show them."""
    folder = Path(__file__).parent
    return [
        Snippet(key, title, (folder / f"{key}.txt").read_text())
        for key, title in _LANGUAGES.items()
    ]
