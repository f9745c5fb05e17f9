"""A short, seeded piece of bin/test --hostile, in every run of the tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.world import World
from tests.hostile.game import SETTINGS, play

pytestmark = pytest.mark.engine


def test_some_seconds_of_attacks_harm_nobody_else(world: Callable[..., World]):
    accepted, attacks = play(world(**SETTINGS), seconds=8, seed=1042, threads=2)
    assert accepted >= 20
    assert len(attacks) >= 5
