"""Whose templates are filled next, beside the thread that sends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from portal.composing.cells import Cell
from portal.composing.compose import Composer, Payload, Target
from portal.delivery.filling import Filled, Filling
from portal.delivery.trying import Trying
from portal.outbound.libcurl import CurlTransport

SLOW = "{% for n in (1..1500) %}{% assign sorted = event.data.list | sort %}{% endfor %}"
QUICK = "{{ event.id }}"


class Merchants:
    """Attempts of several merchants, whose templates are filled in turn."""

    def __init__(self) -> None:
        self.transport = CurlTransport[Any](())
        self.filling = Filling(self.transport)
        self.last: Filled | None = None
        """What ended last."""

    def ask(self, merchant_id: int, template: str) -> None:
        """One attempt of a merchant."""
        composer = Composer(Target("POST", "https://shop.example/", body_template=template))
        line: Any = SimpleNamespace(merchant_id=merchant_id, composer=composer)
        payload = Payload('{"id":"evt_1"}', json.dumps({"list": list(range(4_000, 0, -1))}))
        self.filling.ask(Trying(line, SimpleNamespace(), "req_1", 0), payload)

    def until(self, merchant_id: int) -> list[int]:
        """Whose attempts end until one of that merchant does, which is the last."""
        ended: list[Filled] = self.filling.collect()
        began = time.monotonic()
        while not any(one.trying.line.merchant_id == merchant_id for one in ended):
            assert time.monotonic() - began < 60
            self.transport.run(1.0)
            ended += self.filling.collect()
        self.last = ended[-1]
        return [one.trying.line.merchant_id for one in ended]


@pytest.fixture
def merchants() -> Iterator[Merchants]:
    made = Merchants()
    yield made
    made.filling.close()
    made.transport.close()


def test_merchants_with_slow_templates_keep_quick_ones_waiting_for_none_of_them(
    merchants: Merchants,
) -> None:
    for _ in range(40):
        for slow in (1, 2, 3):
            merchants.ask(slow, SLOW)
    # Until it is known whose templates are slow.
    for slow in (1, 2, 3):
        merchants.until(slow)
    waited_for = 0
    for _ in range(10):
        merchants.ask(4, QUICK)
        waited_for += len(merchants.until(4)) - 1
    # It took one of them at least for each while all had the same turns.
    assert waited_for < 7


def test_an_answer_that_cannot_be_read_is_not_taken_for_the_next_one(
    merchants: Merchants, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, failed = Cell.read, list[int]()

    def fails_once(cell: Cell, size: int) -> bytes:
        # Its length has been read; the answer itself is left in the pipe.
        if cell.is_ready and size > 4 and not failed:
            failed.append(size)
            raise OSError("failed")
        return read(cell, size)

    monkeypatch.setattr(Cell, "read", fails_once)
    merchants.ask(1, "{{ event.id }} of the first")
    merchants.until(1)
    assert merchants.last is not None
    assert isinstance(merchants.last.error, OSError)
    merchants.ask(2, QUICK)
    merchants.until(2)
    assert (merchants.last.error, merchants.last.texts) == (None, ["evt_1"])
