"""The application as Flask has it, but for how it writes down its own defects."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from flask import Flask, request

from portal.journal.seldom import DEFECT_SECONDS, Seldom
from portal.web.http_methods import PortalRequest

_log = logging.getLogger(__name__)
_tracebacks = Seldom(_log, DEFECT_SECONDS)


class Portal(Flask):
    """A Flask application whose log holds no address: share links and inspectors are keys."""

    request_class = PortalRequest

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Flask's, which asks of some twenty functions in every request whether one is a coroutine:
        none is here."""
        return func

    def log_exception(
        self, exc_info: tuple[type, BaseException, TracebackType] | tuple[None, None, None]
    ) -> None:
        """Flask's; a defect that many requests meet has one traceback a minute, and a line for each
        of them: its page and its answer name the ID that stands there."""
        route = request.url_rule.rule if request.url_rule else "an address without a route"
        frames = traceback.extract_tb(exc_info[2])
        where = (frames[-1].filename, frames[-1].lineno) if frames else None
        text = f"{request.method} {route} failed."
        if not _tracebacks.warn((exc_info[0], where), text, exc_info=exc_info):
            name = exc_info[0].__name__ if exc_info[0] else "unknown"
            _log.error("%s Its traceback stands above (%s).", text, name)
