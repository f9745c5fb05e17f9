"""Webhook Portal. An event's way: ingest → matching → delivery → browse → retention."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from portal.config import Config


def create_app(config: Config | None = None) -> Flask:
    """The portal as a WSGI application, on the process environment unless `config` is given.

    Raises portal.config.SettingError when a setting cannot be used.
    """
    # A cell (portal.composing.cells) starts in a fraction of the time that this takes.
    from portal.application import make

    return make(config)
