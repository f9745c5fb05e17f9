"""The attempts of a drain. Each goes from a delivery that is due to a result, by way of its
templates, an access token where it needs one, and the request itself. Whatever a step of an attempt
raises is the failure of that attempt alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from portal.clock import now
from portal.composing.cells import NotFilled
from portal.composing.compose import ComposeError, Composer, Payload
from portal.delivery.due import DueDelivery
from portal.delivery.filling import Filling
from portal.delivery.line import Line
from portal.delivery.recording import FinishedAttempt
from portal.delivery.requests import DeliveryRequest, Request, TokenRequest
from portal.delivery.retry import IN_TROUBLE, SLOW_DOWN, UNAUTHORIZED
from portal.delivery.trying import Result, Trying
from portal.ids import new_id
from portal.outbound import access_tokens
from portal.outbound.outcome import PAYLOAD_EXPIRED
from portal.outbound.response import Response
from portal.outbound.transport import Transport

LONGEST_PAUSE_SECONDS = 60.0
RECORD_COUNT = 500
"""So many results are written at once, however short a time the oldest has waited."""
MOST_UNRECORDED, MOST_UNWRITTEN = 2_000, 64 * 1024 * 1024
"""How many results may wait for the database, which may be locked or full for a long time, and how
many bytes of them."""
SHARE = 3
"""How many times what is left of these one merchant may have: what it has sent keeps nobody else's
deliveries waiting until that is written."""
_MAKE, _TAKE = "make the request", "take the answer"


class Attempts:
    """The attempts under way, and the results that have not been handed to the recorder yet.
    `is_ours` says whether a line still belongs to this drain: an attempt whose lane was lost is
    made again by the next owner."""

    def __init__(self, transport: Transport[Request], is_ours: Callable[[Line], bool]) -> None:
        self._transport = transport
        self._is_ours = is_ours
        self._filling = Filling(transport)
        self._results: list[Result] = []
        self._oldest_result = 0.0
        self._unwritten = Counter[int]()
        """How many bytes of results are not recorded yet, by merchant."""
        self._unwritten_bytes = 0

    @property
    def in_flight(self) -> int:
        """How many are under way, looks included."""
        return self._transport.in_flight + self._filling.in_flight

    @property
    def results(self) -> int:
        """How many results there are."""
        return len(self._results)

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest result has been there."""
        return time.monotonic() - self._oldest_result

    def take_results(self) -> list[Result]:
        """Give the results to the caller, and forget them."""
        taken, self._results = self._results, []
        return taken

    def forget(self, lanes: set[int]) -> None:
        """Forget the results of lanes that were lost."""
        lost = [one for one in self._results if one.line.lane in lanes]
        self._results = [one for one in self._results if one.line.lane not in lanes]
        self.written(lost)

    def written(self, results: Iterable[Result]) -> None:
        """Note that results which were taken are no longer in memory, whatever became of them."""
        for result in results:
            self._count(result.tried, -1)

    def have_too_much(self) -> set[int]:
        """The merchants that may not begin more until some of their results are recorded."""
        found, left = set[int](), MOST_UNWRITTEN - self._unwritten_bytes
        if SHARE * left < self._unwritten_bytes:
            found |= _beyond_share(self._unwritten, left)
        left = MOST_UNRECORDED - self.results
        if SHARE * left < self.results:
            found |= _beyond_share(
                Counter(result.tried.due.merchant_id for result in self._results), left
            )
        return found

    @property
    def is_full(self) -> bool:
        """Whether nobody may begin anything until some results are recorded."""
        return self.results >= 2 * MOST_UNRECORDED

    def _count(self, tried: FinishedAttempt, sign: int) -> None:
        whose, change = tried.due.merchant_id, sign * _size(tried)
        self._unwritten_bytes += change
        self._unwritten[whose] += change
        if not self._unwritten[whose]:
            del self._unwritten[whose]

    def begin(self, line: Line, due: DueDelivery) -> None:
        """Begin an attempt."""
        trying = Trying(line, due, new_id("req"), now())
        line.start(due)
        try:
            if due.payload is None:
                answer = Response(
                    error=PAYLOAD_EXPIRED, error_detail="The event's record data is past its days."
                )
                self._end(trying.ended(None, answer))
            else:
                self._request(trying, due.payload)
        except Exception as error:  # noqa: BLE001 - no drain ends because of a delivery
            self._fail(trying, error, _MAKE)

    def begin_no_more(self) -> None:
        """Leave what waits for its templates to the next owner: it is still due."""
        self._filling.forget_waiting()

    def go_on(self) -> None:
        """Send the requests whose templates have been filled meanwhile."""
        for filled in self._filling.collect():
            trying = replace(filled.trying, moment=now())
            if not self._is_ours(trying.line):
                continue
            try:
                if isinstance(filled.error, NotFilled):
                    self._refuse(trying, filled.composer.failure(filled.error))
                elif filled.error is not None:
                    raise filled.error
                else:
                    self._send(trying, filled.payload, filled.composer, filled.texts)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(trying, error, _MAKE)

    def on_response(self, request: DeliveryRequest, response: Response) -> None:
        """End an attempt with the response to its request."""
        trying, outgoing = request.trying, request.outgoing
        try:
            client = trying.line.client
            if response.status == UNAUTHORIZED and client is not None:
                access_tokens.forget(client, trying.moment)
            self._end(trying.ended(outgoing, response))
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(trying, error, _TAKE)

    def on_token(self, request: TokenRequest, response: Response) -> None:
        """Go on with an attempt that has waited for an access token."""
        trying, client = request.trying, request.client
        line, due = trying.line, trying.due
        line.waits_for_token = False
        try:
            try:
                access_tokens.read_token(client, response, now())
            except access_tokens.TokenRefused as error:
                failed = Response(error=error.code, error_detail=str(error))
                self._end(trying.ended(None, failed))
                return
            if self._is_ours(line) and due.payload is not None:
                self._request(replace(trying, moment=now()), due.payload)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(trying, error, _TAKE)

    def close(self) -> None:
        """End the cells that work on its templates."""
        self._filling.close()

    def _fail(self, trying: Trying, error: Exception, what: str) -> None:
        self._end(trying.failed(error, what))

    def _request(self, trying: Trying, payload: Payload) -> None:
        """Start an attempt's request, or first the one for an access token where it needs that."""
        line, client = trying.line, trying.line.client
        if client is not None and line.lacks_token(trying.moment):
            outgoing = access_tokens.request(client)
            asked = TokenRequest(trying, client)
            self._transport.submit(outgoing, access_tokens.SECONDS, asked, line.merchant_id)
            line.waits_for_token = True
        elif line.composer.templates:
            self._filling.ask(trying, payload)
        else:
            self._send(trying, payload, line.composer, ())

    def _send(
        self, trying: Trying, payload: Payload, composer: Composer, texts: Sequence[str]
    ) -> None:
        try:
            outgoing = composer.compose(trying.due.event_id, payload, trying.moment, texts)
        except ComposeError as error:
            self._refuse(trying, error)
            return
        line = trying.line
        sent = DeliveryRequest(trying, outgoing)
        self._transport.submit(outgoing, line.timeout_seconds, sent, line.merchant_id)

    def _refuse(self, trying: Trying, error: ComposeError) -> None:
        answer = Response(error=error.code, error_detail=error.detail)
        self._end(trying.ended(None, answer))

    def _end(self, result: Result) -> None:
        line, tried = result.line, result.tried
        if not self._is_ours(line):
            # The lane was lost meanwhile; whoever owns it now makes this attempt again.
            return
        line.end(
            tried.due,
            tried.attempted_at,
            tried.outcome,
            tried.answer.status in SLOW_DOWN or tried.answer.error in IN_TROUBLE,
            min(tried.retry_after() or 0, LONGEST_PAUSE_SECONDS),
        )
        if not self._results:
            self._oldest_result = time.monotonic()
        self._results.append(result)
        self._count(tried, 1)


def _beyond_share(taken: Counter[int], left: int) -> set[int]:
    return {whose for whose, size in taken.items() if size > SHARE * max(0, left)}


def _size(tried: FinishedAttempt) -> int:
    sent = tried.outgoing.body if tried.outgoing is not None else None
    return tried.due.size + len(sent or b"") + tried.answer.came
