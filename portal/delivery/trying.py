"""An attempt under way, and its result, whatever happens on the way."""

from __future__ import annotations

from dataclasses import dataclass

from portal.clock import now
from portal.composing.compose import Outgoing
from portal.delivery import recording
from portal.delivery.due import DueDelivery
from portal.delivery.line import Line
from portal.delivery.recording import Change, FinishedAttempt
from portal.outbound import defects
from portal.outbound.response import Response


@dataclass(slots=True)
class Result:
    """An attempt that has ended, and what becomes of its delivery."""

    line: Line
    tried: FinishedAttempt
    change: Change


@dataclass(slots=True, eq=False)
class Trying:
    """An attempt at a delivery, which began at `moment` (Unix µs)."""

    line: Line
    due: DueDelivery
    request_id: str
    moment: int

    def ended(self, outgoing: Outgoing | None, answer: Response) -> Result:
        """The result; `outgoing` is None where no request was made, and `answer` says why."""
        tried = self._tried(outgoing, answer)
        return Result(self.line, tried, recording.settle(tried, self.line.schedule))

    def failed(self, error: Exception, what: str) -> Result:
        """The same where the portal itself could not do `what` (defects.answer)."""
        tried = self._tried(None, defects.answer(error, what))
        return Result(self.line, tried, recording.settle_by_schedule(tried, self.line.schedule))

    def _tried(self, outgoing: Outgoing | None, answer: Response) -> FinishedAttempt:
        return FinishedAttempt(
            self.request_id,
            self.due,
            self.line.method,
            self.line.url,
            outgoing,
            answer,
            self.moment,
            now(),
            self.line.schedule,
        )
