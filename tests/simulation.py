"""A receiver that comes and goes, and the drain that delivers to it, in a time of their own.

Everything is the portal's own, database and recorder included, but the clock, which jumps to the
next moment at which anything happens, and the transport, which asks a script what comes back.
"""

from __future__ import annotations

import heapq
import select
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, cast

import pytest
import sqlalchemy as sa
from flask import Flask, current_app

from portal import clock
from portal.clock import MINUTE, SECOND
from portal.composing.compose import Outgoing
from portal.db.session import db
from portal.delivery import attempts, drain, handover, line, lines, reading, turns, wakes
from portal.delivery.health import FIRST_PAUSE, LONGEST_ASKED_PAUSE, LONGEST_PAUSE
from portal.delivery.paces import Paces
from portal.delivery.recorder import Batch, Recorder, Written
from portal.delivery.requests import DeliveryRequest
from portal.delivery.silence import PATIENCE_SECONDS
from portal.events import ingest
from portal.models import Attempt, Delivery, Event, EventPayload, Merchant, Notice, Webhook
from portal.outbound import outcome
from portal.outbound.response import Response
from portal.outbound.transport import Look
from tests.factories import make_webhook

NOBODY, SILENCE = "nobody listens", "no answer"
Said = int | str
"""What comes back: a status, NOBODY, or SILENCE until the deadline."""
TYPES = ("order.created", "order.updated", "customer.created", "customer.updated", "refund.created")
TAKES = dict.fromkeys(TYPES, 200)
START = 1_800_000_000 * SECOND
TIMEOUT_SECONDS = 15
LOOP_SECONDS = 0.2
ASKING = SECOND // 10
"""What a probe that is answered at once takes, beside recording it (µs)."""
PACES = Paces(linger_seconds=1e9, heartbeat_seconds=86_400.0, adopt_seconds=1e9)
"""One drain for the whole story, which looks for no lanes: the time jumps over its leases."""
QUIET_RUNS = 4
"""After so many looks at nothing the time may jump: every interval of the loop has passed."""


@dataclass(frozen=True)
class Period:
    """How a receiver is for so many seconds: what it says to everything, or to each type. Of each
    type it takes one of every `takes_each`, that at `takes_from`, whatever it says to the others.
    """

    seconds: int
    says: Said | dict[str, Said]
    retry_after: int = 0
    takes_each: int = 0
    takes_from: int = 0

    @property
    def is_up(self) -> bool:
        """Whether it tells types apart."""
        return isinstance(self.says, dict)

    def answer(self, kind: str, number: int) -> Said:
        """What comes back to an event, the so-manieth of its type."""
        if not isinstance(self.says, dict):
            return self.says
        if self.takes_each and number % self.takes_each == self.takes_from % self.takes_each:
            return 200
        return self.says[kind]


@dataclass(frozen=True)
class Arrival:
    """So many events of a type that come in at a second of the story."""

    second: int
    kind: str
    count: int


@dataclass(frozen=True)
class Story:
    """What happens to one webhook; in the end its receiver takes everything."""

    periods: list[Period]
    arrivals: list[Arrival]
    schedule: list[int]
    max_in_flight: int = 10
    recording_ms: int = 20

    @property
    def seconds(self) -> int:
        """How long it lasts until the receiver takes everything."""
        return sum(period.seconds for period in self.periods)


@dataclass
class Promise:
    """A delivery that must have arrived `by` a moment, unless the receiver goes before it."""

    event_id: str
    since: int
    by: int
    lost_before: int
    """What had been lost before (World.lost)."""


@dataclass
class Clock:
    """The time of a story; also what modules take for `time`."""

    moment: int = START

    def time_ns(self) -> int:
        """As time.time_ns()."""
        return self.moment * 1_000

    def monotonic(self) -> float:
        """As time.monotonic()."""
        return self.moment / SECOND

    def thread_time(self) -> float:
        """As time.thread_time(): in a story work takes no time of its own."""
        return self.monotonic()

    def sleep(self, seconds: float) -> None:
        """As time.sleep()."""
        self.moment += int(seconds * SECOND)


class SlowRecorder:
    """The real recorder, whose commits take the story's time."""

    def __init__(self, world: World, recorder: Recorder):
        self._world = world
        self._recorder = recorder
        self._waiting: list[tuple[int, Batch]] = []
        self.bell = recorder.bell

    @property
    def is_busy(self) -> bool:
        """As Recorder's."""
        return bool(self._waiting)

    @property
    def holds_results(self) -> bool:
        """Whether the result of an attempt is not recorded yet."""
        return any(batch.results for _, batch in self._waiting)

    @property
    def next_at(self) -> int | None:
        """When the next commit is done."""
        return self._waiting[0][0] if self._waiting else None

    def put(self, batch: Batch) -> None:
        """As Recorder's."""
        self._world.quiet = 0
        ready_at = self._world.clock.moment + self._world.story.recording_ms * 1_000
        self._waiting.append((ready_at, batch))

    def collect(self) -> list[Written]:
        """As Recorder's."""
        found = []
        while self._waiting and self._waiting[0][0] <= self._world.clock.moment:
            self._recorder.put(self._waiting.pop(0)[1])
            while self._recorder.is_busy:
                select.select([self.bell], [], [], 10.0)
                found += self._recorder.collect()
        return found

    def close(self) -> None:
        """As Recorder's."""
        for _, batch in self._waiting:
            self._recorder.put(batch)
        self._recorder.close()


class ScriptedTransport:
    """A transport that asks the world what comes back, and moves its time on."""

    woken = False
    waited_seconds = 0.0

    def __init__(self, world: World):
        self._world = world
        self._under_way: list[tuple[int, int, Any, Response]] = []
        self._count = 0

    @property
    def in_flight(self) -> int:
        """As Transport's."""
        return len(self._under_way)

    def submit(
        self, what: Outgoing | Look, timeout_seconds: float, tag: Any, _whose: int | None = None
    ) -> None:
        """As Transport's."""
        if isinstance(what, Look):
            self._world.sends(tag.line, None)
            refused = self._world.period.says == NOBODY
            error = "connection_refused" if refused else None
            self._start(Response(error=error, duration_us=1_000), tag)
            return
        event_id = tag.trying.due.event_id
        self._world.sends(tag.trying.line, event_id)
        self._start(self._world.answer(event_id, timeout_seconds), tag)

    def _start(self, answer: Response, tag: Any) -> None:
        self._count += 1
        ends_at = self._world.clock.moment + answer.duration_us
        heapq.heappush(self._under_way, (ends_at, self._count, tag, answer))

    def run(self, seconds: float, _at_once_seconds: float = 0.0) -> list[tuple[Any, Response]]:
        """As Transport's."""
        self._world.move_on(seconds, self._under_way[0][0] if self._under_way else None)
        found = []
        while self._under_way and self._under_way[0][0] <= self._world.clock.moment:
            _, _, tag, answer = heapq.heappop(self._under_way)
            self._world.quiet = 0
            if isinstance(tag, DeliveryRequest):
                trying = tag.trying
                self._world.came(trying.line, trying.due.event_id, answer, trying.moment)
            elif answer.error is not None:
                self._world.found_nobody(tag.line, self._world.clock.moment)
            found.append((tag, answer))
        return found

    def started(self) -> dict[str, int]:
        """The events of its requests, each with the moment at which it was sent."""
        return {
            tag.trying.due.event_id: tag.trying.moment
            for _, _, tag, _ in self._under_way
            if isinstance(tag, DeliveryRequest)
        }

    def watch(self, fd: int) -> None:
        """As Transport's; nothing is waited for."""

    def unwatch(self, fd: int) -> None:
        """As Transport's."""

    def close(self) -> None:
        """As Transport's."""


@dataclass
class World:
    """A story while it is told: what came in, what was sent, and what was promised."""

    story: Story
    merchant: Merchant
    clock: Clock = field(default_factory=Clock)
    quiet: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    """How often each event was sent."""
    kinds: dict[str, str] = field(default_factory=dict)
    """The type of each event."""
    numbers: dict[str, int] = field(default_factory=dict)
    """How many of its type came before each event."""
    arrived: dict[str, int] = field(default_factory=dict)
    """When each event was taken first."""
    last: dict[str, outcome.Outcome] = field(default_factory=dict)
    """What the last attempt of each event says."""
    outcomes: dict[str, list[outcome.Outcome]] = field(default_factory=lambda: defaultdict(list))
    broken: list[str] = field(default_factory=list)
    """What should never have happened, in words."""
    lost: int = 0
    """What pauses after 408 and 429 have cost so far (µs); and where the webhook takes one request
    at a time, those that hang."""
    lost_by_type: Counter[str] = field(default_factory=Counter)
    """What requests that hang have cost others of their own type."""
    asked_until: int = 0

    def __post_init__(self) -> None:
        ends = list(accumulate(period.seconds for period in self.story.periods))
        self._changes = [START, *(START + end * SECOND for end in ends)]
        self._periods = [*self.story.periods, Period(10**9, cast(Any, TAKES))]
        self._arrivals = sorted(self.story.arrivals, key=lambda one: one.second)
        self._promises: list[Promise] = []
        self._seen = -1
        self._rests_until = 0
        self.ends_at = self._changes[-1] + self._patience()
        self.recorder: SlowRecorder
        self.transport = ScriptedTransport(self)

    def _patience(self) -> int:
        """Within which everything has arrived once the receiver takes everything."""
        longest = max(self.story.schedule) * SECOND
        return int(longest * 1.2) + LONGEST_ASKED_PAUSE + 10 * MINUTE

    @property
    def period(self) -> Period:
        """How the receiver is now."""
        return self._periods[max(0, self._seen)]

    # -- what the drain does ------------------------------------------------------------------

    def sends(self, line: Any, event_id: str | None) -> None:
        """Note that something goes out; a held webhook is asked one thing at a time."""
        self.quiet = 0
        if line.health.held_at is not None:
            self._judge_probe(event_id)
        if event_id is not None:
            self.sent[event_id] += 1

    def _judge_probe(self, event_id: str | None) -> None:
        """A held webhook is asked one thing at a time: beside a probe, only while that one hangs,
        with another type and within the webhook's limit."""
        moment, under_way = self.clock.moment, self.transport.started()
        kinds = {self.kinds[other] for other in under_way}
        hang = all(began <= moment - PATIENCE_SECONDS * SECOND for began in under_way.values())
        has_room = len(under_way) < self.story.max_in_flight
        if not hang or not has_room or self.recorder.holds_results:
            self.broken.append("a probe went out beside something else")
        if event_id is not None and self.kinds[event_id] in kinds:
            self.broken.append("a type was asked with while another of it hangs")
        if moment < self._rests_until:
            self.broken.append("one that is away was asked again at once")

    def answer(self, event_id: str, timeout_seconds: float) -> Response:
        """What the receiver gives to an event now."""
        said = self._answer(event_id)
        if said == NOBODY:
            return Response(error="connection_refused", duration_us=1_000)
        if said == SILENCE:
            return Response(error="timeout", sends=1, duration_us=int(timeout_seconds * SECOND))
        headers = []
        if self.period.retry_after:
            headers = [("Retry-After", str(self.period.retry_after))]
        return Response(status=cast(int, said), headers=headers, sends=1, duration_us=20_000)

    def found_nobody(self, line: Any, started_at: int) -> None:
        """Note that one that was held when it was asked gave no answer: it is left alone then."""
        if line.health.held_at is not None and line.health.held_at < started_at:
            self._rests_until = self.clock.moment + FIRST_PAUSE

    def came(self, line: Any, event_id: str, answer: Response, started_at: int) -> None:
        """Note what came back of what was sent at a moment."""
        found = outcome.of(answer.status, answer.error)
        if found in (outcome.Outcome.BUSY, outcome.Outcome.UNREACHABLE):
            self.found_nobody(line, started_at)
        self.last[event_id] = found
        self.outcomes[event_id].append(found)
        reached = sum(one is not outcome.Outcome.UNREACHABLE for one in self.outcomes[event_id])
        if reached > len(self.story.schedule):
            self.broken.append("a delivery was sent more often than its schedule says")
        if found is outcome.Outcome.DELIVERED:
            self.arrived.setdefault(event_id, self.clock.moment)
        elif found is outcome.Outcome.BUSY and line.health.held_at is not None:
            self.lost += LONGEST_PAUSE
        elif found is outcome.Outcome.SILENT:
            self.lost_by_type[self.kinds[event_id]] += answer.duration_us + LONGEST_PAUSE
            if self.story.max_in_flight == 1:
                self.lost += answer.duration_us
        if answer.headers:
            asked = min(self.period.retry_after * SECOND, LONGEST_ASKED_PAUSE)
            self.asked_until = max(self.asked_until, self.clock.moment + asked)

    # -- time ---------------------------------------------------------------------------------

    def move_on(self, seconds: float, next_answer: int | None) -> None:
        """Let time pass, and happen what the story says."""
        moment = self.clock.moment
        target = moment + max(1_000, int(min(seconds, LOOP_SECONDS) * SECOND))
        self.quiet += 1
        if self.quiet > QUIET_RUNS and next_answer is None and not self.recorder.is_busy:
            self.quiet = 0
            target = max(target, self._next_moment(moment))
        for other in (next_answer, self.recorder.next_at, self._next_in_story()):
            if other is not None:
                target = min(target, max(other, moment + 1))
        self.clock.moment = target
        self._tell()

    def _next_moment(self, moment: int) -> int:
        """When something comes due, a few seconds ahead at most while something is due already."""
        db.session.rollback()
        due_at, probe_at = db.session.execute(
            sa.select(
                sa.select(sa.func.min(Delivery.next_attempt_at))
                .where(Delivery.next_attempt_at > moment)
                .scalar_subquery(),
                sa.select(sa.func.min(Webhook.next_probe_at))
                .where(Webhook.next_probe_at > moment)
                .scalar_subquery(),
            )
        ).one()
        is_due = db.session.scalar(
            sa.select(Delivery.id)
            .join(Webhook, Webhook.id == Delivery.webhook_id)
            .where(Delivery.next_attempt_at <= moment, Webhook.held_at.is_(None))
            .limit(1)
        )
        ahead = [one for one in (due_at, probe_at) if one is not None]
        if is_due:
            ahead.append(moment + 5 * SECOND)
        return min(ahead, default=self.ends_at)

    def _next_in_story(self) -> int | None:
        moments = []
        if self._seen + 1 < len(self._changes):
            moments.append(self._changes[self._seen + 1])
        if self._arrivals:
            moments.append(START + self._arrivals[0].second * SECOND)
        return min(moments, default=None)

    def _tell(self) -> None:
        """Let happen what the story says of this moment."""
        moment = self.clock.moment
        while self._seen + 1 < len(self._changes) and self._changes[self._seen + 1] <= moment:
            was_up = self._seen >= 0 and self.period.is_up
            self._keep_promises()
            self._seen += 1
            self.quiet = 0
            if self._seen == len(self.story.periods):
                # Something new, for a receiver that has used up all but last attempts.
                self._come_in(Arrival(0, TYPES[0], 1))
            if self.period.is_up and not was_up:
                self._promise(moment, None)
        while self._arrivals and START + self._arrivals[0].second * SECOND <= moment:
            fresh = self._come_in(self._arrivals.pop(0))
            if self.period.is_up:
                self._promise(moment, fresh)

    def _come_in(self, arrival: Arrival) -> set[str]:
        self.quiet = 0
        answers = ingest.ingest_events(
            self.merchant.id,
            [
                {"type": arrival.kind, "object_id": str(number), "data": {}}
                for number in range(arrival.count)
            ],
            batch=True,
        )
        before = Counter(self.kinds.values())[arrival.kind]
        for number, one in enumerate(answers, before):
            self.kinds[one.id] = arrival.kind
            self.numbers[one.id] = number
        return {one.id for one in answers}

    # -- promises -----------------------------------------------------------------------------

    def _promise(self, moment: int, fresh: set[str] | None) -> None:
        """Note what must arrive within a minute: of what is owed, or of what is `fresh`."""
        db.session.rollback()
        webhook = db.session.scalars(sa.select(Webhook)).one()
        owed = db.session.scalars(sa.select(Delivery).where(Delivery.state == "pending")).all()
        busy = self.transport.started()
        if not webhook.enabled or self.recorder.holds_results:
            return
        is_found = webhook.held_at is None or self._will_find(webhook, owed, moment)
        all_take = {self._says(one) for one in owed} <= {200}
        # Of a type it takes some and breaks on others: what was never sent is asked with, all of
        # it one at a time; what was sent before waits for its turn or its own time.
        is_mixed = self.period.takes_each > 0
        for one in owed:
            if (
                self._says(one) != 200
                or one.event_id in busy
                or (fresh is not None and one.event_id not in fresh)
            ):
                continue
            # The events of a batch have consecutive moments.
            is_due = (one.next_attempt_at or 0) < moment + SECOND
            waits_for_it = (
                webhook.held_at is not None
                and one.hurries < 2
                and self.last.get(one.event_id) is not None
                and self.last[one.event_id].is_away
            )
            is_kept = one.step > 0 and self._is_last(one) and not all_take
            if is_mixed:
                is_owed_soon = is_due and one.step == 0
            else:
                is_owed_soon = is_found and (is_due or waits_for_it) and not is_kept
            if is_owed_soon:
                by = max(moment, self.asked_until) + MINUTE
                if is_mixed:
                    by += self._all_one_at_a_time()
                if len(self.story.schedule) == 1:
                    # Probes spend deliveries, and pause longer between.
                    by += LONGEST_ASKED_PAUSE
                self._promises.append(Promise(one.event_id, moment, by, self._lost(one.event_id)))

    def _lost(self, event_id: str) -> int:
        """What an event may have been kept back by so far, beside what is promised."""
        return self.lost + self.lost_by_type[self.kinds[event_id]]

    def _all_one_at_a_time(self) -> int:
        """How long it takes to ask with all of the story's events, beside the pauses (µs)."""
        count = sum(arrival.count for arrival in self.story.arrivals)
        return count * (self.story.recording_ms * 1_000 + ASKING)

    def _answer(self, event_id: str) -> Said:
        return self.period.answer(self.kinds[event_id], self.numbers[event_id])

    def _says(self, one: Delivery) -> Said:
        return self._answer(one.event_id)

    def _is_last(self, one: Delivery) -> bool:
        return one.step + 1 >= len(self.story.schedule)

    def _will_find(self, webhook: Webhook, owed: Sequence[Delivery], moment: int) -> bool:
        """Whether a held webhook may find out that its receiver is back: docs/design.md names when
        not, where nothing is left to ask with but last attempts and waits that were cut short."""
        fit = [
            one
            for one in owed
            if (one.step == 0 or not self._is_last(one))
            and (
                (one.next_attempt_at or 0) <= moment
                or (
                    one.hurries < 1
                    and one.event_id in self.last
                    and self.last[one.event_id].is_away
                )
            )
        ]
        said = {self._says(one) for one in owed}
        return any(self._says(one) in (200, 422) for one in fit) or (
            webhook.unreachable and said <= {200, 422}
        )

    def _keep_promises(self) -> None:
        """Look at what was promised up to now: what is over is judged, what is not is dropped."""
        moment = self.clock.moment
        for one in self._promises:
            arrived = self.arrived.get(one.event_id)
            by = one.by + self._lost(one.event_id) - one.lost_before
            if (arrived is None and by < moment) or (arrived is not None and arrived > by):
                took = "never" if arrived is None else f"{(arrived - one.since) / SECOND:.0f} s"
                self.broken.append(
                    f"{self.kinds[one.event_id]} was to arrive within "
                    f"{(by - one.since) / SECOND:.0f} s: {took}"
                )
        self._promises.clear()

    def is_over(self) -> bool:
        """Whether all has been told, and all has arrived or the time is up; or something broke."""
        if self.broken:
            return True
        if self._seen < len(self.story.periods) or self._arrivals:
            return False
        if self.clock.moment >= self.ends_at:
            return True
        return self.quiet == QUIET_RUNS and not self.pending()

    def pending(self) -> int:
        """How many deliveries are owed still."""
        db.session.rollback()
        return (
            db.session.scalar(
                sa.select(sa.func.count(Delivery.id)).where(Delivery.state == "pending")
            )
            or 0
        )

    def end(self) -> None:
        """Judge what was promised to the end."""
        self._keep_promises()


@contextmanager
def _in_time_of(clock_of_story: Clock) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (attempts, clock, drain, line, lines, reading, handover, turns, wakes):
            patch.setattr(module, "time", clock_of_story)
        yield


def tell(story: Story, app: Flask, merchant: Merchant) -> World:
    """Let a story happen to a webhook of its own; what came of it."""
    for model in (Attempt, Delivery, Event, EventPayload, Notice, Webhook):
        db.session.execute(sa.delete(model))
    db.session.commit()
    world = World(story, merchant)
    with _in_time_of(world.clock):
        make_webhook(
            merchant,
            "http://127.0.0.1:9/hook",
            retry_schedule=story.schedule,
            max_in_flight=story.max_in_flight,
            timeout_seconds=TIMEOUT_SECONDS,
        )
        recorder = Recorder(app, current_app.config["PORTAL"])
        world.recorder = SlowRecorder(world, recorder)
        run = drain.Drain(0, world.transport, cast(Any, world.recorder), PACES)
        run.run(world.is_over)
    world.end()
    return world
