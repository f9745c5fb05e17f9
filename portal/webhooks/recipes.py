"""Recipes: webhooks of well-known kinds, for which people only need to give a URL.

All of them are in recipes.toml; the code knows none by name.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_MESSAGE = "@message@"


@dataclass(frozen=True)
class Recipe:
    """One recipe. `fields` are those of a webhook as the API takes them, except the URL; `url`
    shows what such a URL looks like; `steps` say what to paste where."""

    key: str
    title: str
    icon: str
    group: str
    summary: str
    url: str
    steps: tuple[str, ...]
    fields: dict[str, Any]


@lru_cache(maxsize=1)
def all_recipes() -> dict[str, Recipe]:
    """Every recipe by its key, in the order of the file."""
    text = (Path(__file__).parent / "recipes.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    message = tables.pop("message").strip()
    return {key: _recipe(key, entry, message) for key, entry in tables.items()}


def groups() -> dict[str, list[Recipe]]:
    """The recipes by the title of their group, as a page offers them."""
    found: dict[str, list[Recipe]] = {}
    for recipe in all_recipes().values():
        found.setdefault(recipe.group, []).append(recipe)
    return found


def _recipe(key: str, entry: dict[str, Any], message: str) -> Recipe:
    fields = dict(entry["fields"])
    if "body_template" in fields:
        fields["body_template"] = fields["body_template"].strip().replace(_MESSAGE, message)
    return Recipe(
        key=key,
        title=entry["title"],
        icon=entry["icon"],
        group=entry["group"],
        summary=entry["summary"],
        url=entry["url"],
        steps=tuple(entry["steps"]),
        fields=fields,
    )
