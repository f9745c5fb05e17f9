"""Who searches long rests, so that nobody else is kept waiting; and who does not, does not."""

from __future__ import annotations

import time

import pytest

from portal.clock import HOUR, now
from portal.delivery import due, probing, reading
from portal.delivery.lines import Lines
from portal.delivery.paces import Paces
from portal.models import Merchant
from tests.conftest import on_both_databases
from tests.factories import make_delivery, make_event, make_merchant, make_webhook
from tests.working import work


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1"}


@on_both_databases
def test_after_a_choice_of_a_probe_its_merchants_other_choices_wait(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
):
    hour_ago, other = now() - HOUR, make_merchant("other")
    held = {
        "held_at": hour_ago,
        "next_probe_at": hour_ago,
        "failing_since": hour_ago,
        "failures": 20,
    }
    hooks = [make_webhook(merchant, **held) for _ in range(4)]
    # Those that are held already keep nobody else, nor what their merchant sends elsewhere.
    others = [make_webhook(merchant), make_webhook(other, **held)]
    for webhook in (*hooks, *others):
        owner = other if webhook.merchant_id == other.id else merchant
        make_delivery(make_event(owner), webhook)
    candidates = due.candidates

    def slowly(*args: object, **kwargs: object) -> list[due.Candidate]:
        work(0.005)
        return candidates(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(probing.due, "candidates", slowly)
    # For five seconds, and no time for more than one thing after another.
    some = Lines(Paces(read_rests=1_000.0, slice_seconds=0.0))
    some.read([0], None)
    for _ in range(20):
        some.read(None, None)
    read = {line.webhook_id for line in some if line.buffer}
    assert len(read & {hook.id for hook in hooks}) == 1
    assert {hook.id for hook in others} <= read


@pytest.mark.parametrize("ordered", [False, True])
def test_a_read_that_waited_for_a_processor_keeps_its_merchants_next_delivery_from_nothing(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch, ordered: bool
):
    webhook = make_webhook(merchant, ordered=ordered)
    make_delivery(make_event(merchant), webhook)
    read = due.read

    def late(*args: object, **kwargs: object) -> object:
        time.sleep(0.02)
        return read(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(reading.due, "read", late)
    some = Lines(Paces(read_rests=1_000.0))
    some.read([0], None)
    (line,) = some
    sent = some.pop(line)
    # It is still due in the database, and nothing else is.
    some.read([0], None)
    assert not line.buffer
    make_delivery(make_event(merchant), webhook)
    some.read([0], None)
    assert [one.id for one in line.buffer] != [sent.id]
    assert len(line.buffer) == 1
