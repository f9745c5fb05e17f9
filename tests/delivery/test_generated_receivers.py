"""What holds for every receiver, whatever it does: properties over generated stories.

- While it takes any delivery that is owed to it, that one arrives within a minute of its coming
  up, also where it hangs on all other types. Time is added where docs/design.md says so: for pauses
  that it asks for (408, 429, `Retry-After`), for others of a delivery's own type that hang, for
  those that hang where one request at a time is allowed, and for many of a type that it takes some
  of.
- One that is held is asked one thing at a time, or with another type while the first hangs.
- Nothing is sent more often than its schedule says, or without a place in the log.

PORTAL_TEST_STORIES is how many are told; the same ones each time.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from portal.db.session import db
from portal.models import Attempt, Delivery, Merchant, Webhook
from portal.outbound.outcome import Outcome
from tests.simulation import NOBODY, SILENCE, TYPES, Arrival, Period, Said, Story, World, tell

STORIES = int(os.environ.get("PORTAL_TEST_STORIES", "20"))


@pytest.fixture(name="settings")
def _settings() -> dict[str, str]:
    return {"LANES": "1", "HOLD_AFTER_FAILURES": "5"}


_some = st.lists(
    st.builds(
        Arrival,
        second=st.integers(0, 1_200),
        kind=st.sampled_from(TYPES),
        count=st.one_of(st.integers(1, 4), st.integers(1, 60)),
    ),
    min_size=1,
    max_size=6,
)
_up = st.fixed_dictionaries(
    {kind: st.sampled_from((200, 200, 200, 422, 500, SILENCE, 429)) for kind in TYPES}
)
_says: st.SearchStrategy[Said | dict[str, Said]] = st.one_of(
    _up, st.sampled_from((NOBODY, NOBODY, SILENCE, 500, 503, 429, 404))
)
_periods = st.lists(
    st.builds(
        Period,
        seconds=st.sampled_from((1, 7, 40, 120, 300, 900)),
        says=_says,
        retry_after=st.sampled_from((0, 0, 0, 20, 600)),
        takes_each=st.sampled_from((0, 0, 0, 2, 20)),
        takes_from=st.integers(0, 19),
    ),
    min_size=1,
    max_size=5,
)
_schedules = st.lists(st.sampled_from((0, 5, 60, 300, 1_800)), min_size=0, max_size=9).map(
    lambda delays: [0, *delays]
)
stories = st.builds(
    Story,
    periods=_periods,
    arrivals=_some,
    schedule=_schedules,
    max_in_flight=st.sampled_from((1, 3, 10)),
    recording_ms=st.sampled_from((5, 50, 1_500)),
)


def needle(place: int) -> Story:
    """One event that is taken among 450 of its type that are not."""
    says: dict[str, Said] = dict.fromkeys(TYPES, 500)
    return Story(
        [Period(60, 500), Period(900, says, takes_each=451, takes_from=place)],
        [Arrival(0, TYPES[1], 10), Arrival(65, TYPES[0], 451)],
        [0, 1_800, 1_800],
    )


def hanging(away_seconds: int, max_in_flight: int) -> Story:
    """One type of event that is taken, behind many of four others that hang."""
    says: dict[str, Said] = dict.fromkeys(TYPES, SILENCE) | {TYPES[4]: 200}
    came = [Arrival(2 + place, kind, 30) for place, kind in enumerate(TYPES)]
    return Story(
        [Period(1 + away_seconds, SILENCE), Period(900, says)],
        [*came, Arrival(away_seconds + 100, TYPES[4], 20)],
        [0, 5, 60, 300, 1_800, 1_800, 1_800],
        max_in_flight,
    )


def judge(world: World) -> None:
    """Every property at once: a story is told but once."""
    assert world.broken == []
    assert world.pending() == 0, "it does not get stuck"
    schedule = world.story.schedule
    logged = Counter(db.session.scalars(sa.select(Attempt.event_id)))
    assert logged == world.sent, "nothing is sent that the log does not show"
    numbers: dict[str, list[int]] = defaultdict(list)
    for attempt in db.session.scalars(sa.select(Attempt)):
        numbers[attempt.event_id].append(attempt.number)
    assert all(sorted(found) == list(range(1, len(found) + 1)) for found in numbers.values()), (
        "each sending has a number of its own"
    )
    for one in db.session.scalars(sa.select(Delivery)):
        outcomes = world.outcomes[one.event_id]
        assert one.attempts == len(outcomes)
        reached = [found for found in outcomes if found is not Outcome.UNREACHABLE]
        assert len(reached) <= len(schedule), "manual resends apart, of which a story has none"
        assert (one.state == "succeeded") == (one.event_id in world.arrived)
        if one.state == "failed":
            assert reached, "nothing is given up because nobody answers"
    assert db.session.scalars(sa.select(Webhook)).one().held_at is None


@settings(
    max_examples=STORIES,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=stories)
# One that is taken among hundreds of its type that are not: the oldest, one between, the newest.
@example(story=needle(0))
@example(story=needle(200))
@example(story=needle(450))
# A single event, and a port that nobody listens on until its schedule is at its end.
@example(story=Story([Period(120, NOBODY)], [Arrival(0, TYPES[0], 1)], [0]))
@example(story=Story([Period(900, NOBODY)], [Arrival(3, TYPES[1], 4)], [0, 5, 60]))
# One type is taken, and all others hang: from the start, and after it was away altogether.
@example(story=hanging(0, 10))
@example(story=hanging(600, 10))
@example(story=hanging(600, 3))
def test_whatever_a_receiver_does_what_it_takes_arrives_and_nothing_is_lost_or_sent_too_often(
    app: Flask, merchant: Merchant, story: Story
) -> None:
    judge(tell(story, app, merchant))
