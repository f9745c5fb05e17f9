"""What the portal itself fails at, by a defect or by what is stored: one attempt's failure."""

from __future__ import annotations

import logging
import traceback

from portal.journal.seldom import DEFECT_SECONDS, Seldom
from portal.outbound.outcome import INTERNAL_ERROR
from portal.outbound.response import Response

_log = logging.getLogger(__name__)
told = Seldom(_log, DEFECT_SECONDS)
"""What the log has of them."""


def noted(error: BaseException, what: str, whose: str = "") -> None:
    """Write down that something failed, as a sentence, with its traceback and `whose` it was. The
    same on the same line of code stands in the log once a minute, whoever brings it about, and
    however often."""
    frames = traceback.extract_tb(error.__traceback__)
    source_line = (frames[-1].filename, frames[-1].lineno) if frames else None
    said = f"{what} ({whose})" if whose else what
    told.warn((type(error), source_line, what), said, exc_info=error)


def answer(error: BaseException, what: str) -> Response:
    """The failure of an attempt whose step raised this; it is noted in the log. `what` says what
    the portal could not do, and goes on “The portal could not …”. The error's own words may hold a
    secret, so the attempt names its kind alone."""
    said = f"The portal could not {what}"
    noted(error, f"{said}. It is that attempt's failure; the others go on.")
    return Response(error=INTERNAL_ERROR, error_detail=f"{said} ({type(error).__name__}).")
