"""What one process of the portal remembers: whom it answers now, what it has counted, what it found
out last. It is one object for each application, `app.extensions["portal"]`, which is made with it
(portal.application). A subject has its part there, of a class of its own, and asks for it by that.

A process has one application. Tests make many, and each begins with nothing remembered.
"""

from __future__ import annotations

from typing import TypeVar

from flask import Flask, current_app

NAME = "portal"
"""What it is called among an application's extensions."""
_Part = TypeVar("_Part")


class Runtime:
    """The parts of one application, one of each class."""

    def __init__(self, *parts: object):
        self._parts = {type(one): one for one in parts}

    def part(self, kind: type[_Part]) -> _Part:
        """The part of a class."""
        found = self._parts[kind]
        assert isinstance(found, kind)
        return found

    def put(self, kind: type[_Part], part: _Part) -> None:
        """Have another part of a class from now on."""
        self._parts[kind] = part


def of(app: Flask) -> Runtime:
    """What the process remembers that runs an application."""
    found: Runtime = app.extensions[NAME]
    return found


def part(kind: type[_Part]) -> _Part:
    """The part of a class, of the application that is at work here."""
    found: Runtime = current_app.extensions[NAME]
    return found.part(kind)
