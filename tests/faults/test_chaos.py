"""A short, seeded piece of bin/test --chaos, in every run of bin/test --whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import on_both_databases
from tests.faults.chaos import LEAST_ACCEPTED, play
from tests.faults.world import World

pytestmark = pytest.mark.engine


@pytest.mark.whole
@on_both_databases
def test_some_seconds_of_random_faults_lose_nothing(world: Callable[..., World]):
    accepted, faults = play(world(), seconds=12, seed=1042, per_second=20)
    assert accepted >= LEAST_ACCEPTED
    assert faults.total() >= 3
