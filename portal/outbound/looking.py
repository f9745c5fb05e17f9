"""How long answers are looked through for secrets. A merchant chooses its secrets, a hundred in a
webhook, and its receivers what comes back: so it might be seconds for one answer, in the thread
that sends for everybody."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from portal.composing.echoes import Echoes, TooLong
from portal.models.webhook import MASK
from portal.outbound.response import Response

SHARE = 0.05
"""Seconds of the processor that a process gives to each merchant for it in each second."""
MOST_SECONDS = 0.02
"""What it gives at once at most, and so what one answer takes at most."""
MOST_MERCHANTS = 10_000
NOT_KEPT = (
    b"The portal has not kept this answer: to look through it for the secrets of the webhook, "
    b"which it may repeat, takes too long. Fewer secret values, or a shorter answer, take less."
)


class Looking:
    """What each merchant has left; `clock` tells seconds that pass, `worked` seconds of the
    processor that this thread has used."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
    ):
        self._clock = clock
        self._worked = worked
        self._left: dict[int, tuple[float, float]] = {}
        """How many seconds at which moment."""

    def without_secrets(self, answer: Response, echoes: Echoes, whose: int) -> Response:
        """What may be logged of a merchant's answer: with the mask in place of each secret. Where
        that takes too long nothing is kept but its status and the names of its headers."""
        started = self._worked()
        left = self._left_of(whose)
        until = started + left
        packing = "".join(
            value for name, value in answer.headers if name.lower() == "content-encoding"
        )
        try:
            return replace(
                answer,
                headers=[(name, echoes.without(value, until)) for name, value in answer.headers],
                body=echoes.without_in_body(answer.body, packing, until),
            )
        except TooLong:
            headers = [(name, MASK) for name, _ in answer.headers]
            return replace(answer, headers=headers, body=NOT_KEPT if answer.body else b"")
        finally:
            self._left[whose] = left - (self._worked() - started), self._clock()

    def _left_of(self, whose: int) -> float:
        if len(self._left) > MOST_MERCHANTS:
            self._left.clear()
        clock = self._clock()
        left, at = self._left.get(whose, (MOST_SECONDS, clock))
        return min(MOST_SECONDS, left + SHARE * (clock - at))
