"""Templates are filled in processes of their own: bounded, without secrets, and in nobody's way."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from portal.composing import cells, in_cell
from portal.composing.cell_limits import (
    CPU_SECONDS,
    MAX_MEMORY,
    RECORD_TOO_LARGE,
    RECORD_TOO_LONG,
    TOO_LONG,
)
from portal.composing.cells import Cell, Cells, NotFilled, TookTooLong
from portal.composing.compose import Composer, Payload, Target
from portal.composing.in_cell import NICE
from portal.db.session import db
from portal.delivery import drain
from portal.delivery.filling import Filling
from portal.delivery.paces import Paces
from portal.delivery.trying import Trying
from portal.errors import Invalid
from portal.fairness import places
from portal.models import Attempt, Merchant
from portal.outbound.libcurl import CurlTransport
from portal.webhooks import checking, previews, setup
from tests.factories import make_delivery, make_event, make_merchant, make_webhook
from tests.receiver import Receiver

PACES = Paces(linger_seconds=0.5)

EVENT = '{"id":"evt_1","data":{"total":1.50}}'
LIST = "[" + ",".join(map(str, range(9_000))) + "]"
SLOW = "{% for i in (1..50) %}{{ event.data.list | uniq | size }}{% endfor %}"
SLOW_ALONE = (
    f"{{% assign all = '{','.join(map(str, range(400)))}' | split: ',' %}}"
    "{% for i in (1..1000) %}{% assign some = all | uniq %}{% endfor %}"
)
SLOW_EVENT = f'{{"id":"evt_1","data":{{"list":{LIST}}}}}'


@pytest.fixture
def own() -> Iterator[Cells]:
    """Cells of the test's own, ended with it."""
    own = Cells()
    yield own
    while own._idle:
        own._idle.pop().kill()


def gone(pid: int, within: float = 5.0) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


def test_what_templates_make_comes_in_their_order(own: Cells) -> None:
    assert own.fill(EVENT, ["{{ event.data.total }}", "a", "{{ event.id }}"]) == [
        "1.50",
        "a",
        "evt_1",
    ]


def test_a_template_that_cannot_be_filled_is_named(own: Cells) -> None:
    with pytest.raises(NotFilled, match="unknown filter") as failed:
        own.fill(EVENT, ["{{ event.id }}", "{{ event.id | nonsense }}"])
    assert failed.value.template == 1
    assert own.fill(EVENT, ["{{ event.id }}"]) == ["evt_1"]


@pytest.mark.parametrize(
    "template",
    [
        SLOW,
        "{% for i in (1..5000) %}{% for j in (1..1) %}{{ event.data.list | sort | reverse | size }}"
        "{% endfor %}{% endfor %}",
        "{% for i in (1..4000) %}{{ event.data.list | json | size }}{% endfor %}",
        "{% for i in (1..1000) %}{{ event.data.list | join: ',' | split: ',' | size }}{% endfor %}",
    ],
)
def test_one_that_takes_long_is_stopped_and_the_cell_goes_on(own: Cells, template: str) -> None:
    with own.borrowed() as cell:
        pid = cell._process.pid
    with pytest.raises(NotFilled) as stopped:
        own.fill(SLOW_EVENT, [template])
    assert str(stopped.value) == TOO_LONG or "too much" in str(stopped.value)
    assert own.fill(EVENT, ["{{ event.id }}"]) == ["evt_1"]
    with own.borrowed() as cell:
        assert cell._process.pid == pid


def test_one_that_uses_up_its_memory_says_so_however_its_process_ends(own: Cells) -> None:
    event = json.dumps({"data": {"list": ["x" * 100_000]}})
    doubled = "{% assign l = event.data.list %}" + "{% assign l = l | concat: l %}" * 12
    with pytest.raises(NotFilled, match="takes too much memory"):
        own.fill(event, [doubled + "{{ l | json }}"])
    assert own.fill(EVENT, ["{{ event.id }}"]) == ["evt_1"]


def test_the_thread_that_sends_does_not_wait_for_one_that_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = Cell()
    os.kill(cell._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(cells.cells, "take", lambda: cell)
    transport = CurlTransport[Any](())
    filling = Filling(transport)
    template = "{{ event.data.text | size }}"
    header = {"name": "X-Size", "value": template, "secret": False}
    composer = Composer(Target("POST", "https://shop.example/", headers=[header]))
    line: Any = SimpleNamespace(merchant_id=1, composer=composer)
    # More than a pipe takes while nobody reads it.
    payload = Payload('{"id":"evt_1"}', json.dumps({"text": "x" * 500_000}))
    filling.ask(Trying(line, SimpleNamespace(), "req_1", 0), payload)
    began = time.monotonic()
    assert filling.collect() == []
    assert time.monotonic() - began < cells.KILL_SECONDS
    os.kill(cell._process.pid, signal.SIGCONT)
    filled: list[Any] = []
    while not filled and time.monotonic() - began < 60:
        transport.run(1.0)
        filled = filling.collect()
    assert [one.texts for one in filled] == [["500000"]]
    cell.kill()
    transport.close()


def test_one_that_nothing_stops_is_killed_and_another_takes_its_place(
    own: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.fill(EVENT, ["{{ event.id }}"])
    with own.borrowed() as cell:
        pid = cell._process.pid
    monkeypatch.setattr(cells, "KILL_SECONDS", 0.3)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(NotFilled, match="takes too long"):
        own.fill(EVENT, ["{{ event.id }}"])
    assert gone(pid)
    assert own.fill(EVENT, ["{{ event.id }}"]) == ["evt_1"]


def test_one_that_stands_still_keeps_nobody_at_handing_it_a_large_event(
    own: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own.borrowed() as cell:
        pid = cell._process.pid
        cell.ask(EVENT, ["a"])
        assert cell.wait() == ["a"]
    monkeypatch.setattr(cells, "KILL_SECONDS", 0.3)
    os.kill(pid, signal.SIGSTOP)
    # More than a pipe takes.
    large = f'{{"data":"{"x" * 200_000}"}}'
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(own.fill, large, ["a"])
        try:
            with pytest.raises(TookTooLong):
                filling.result(5)
        finally:
            cell._process.kill()
    assert own.fill(large, ["{{ event.data | size }}"]) == ["200000"]


def test_one_that_stands_still_keeps_nobody_at_what_it_is_given_and_has_made(own: Cells) -> None:
    """Each of them more than any pipe takes at once, while the other side does nothing."""
    large = json.dumps({"data": {"text": "é" * 1_000_000}}, ensure_ascii=False)
    with own.borrowed() as cell:
        pid = cell._process.pid
        cell.ask(EVENT, ["a"])
        assert cell.wait() == ["a"]
        os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            try:
                half = "{{ event.data.text | slice: 0, 500000 }}"
                pool.submit(cell.ask, large, [half]).result(60)
                os.kill(pid, signal.SIGCONT)
                poll = select.poll()
                poll.register(cell.fileno(), select.POLLIN)
                assert poll.poll(60_000)
                os.kill(pid, signal.SIGSTOP)
                made = pool.submit(cell.answer).result(60)
            except BaseException:
                cell._process.kill()
                raise
        os.kill(pid, signal.SIGCONT)
    assert made == ["é" * 500_000]


def test_nothing_of_what_was_given_stays_for_whoever_comes_next(own: Cells) -> None:
    with own.borrowed() as cell:
        cell.ask('{"id":"a secret"}', ["{{ event.id }}"])
        assert cell.wait() == ["a secret"]
        assert os.fstat(cell._memory).st_size == 0


def test_what_takes_long_to_read_is_no_fault_of_the_template(
    own: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "KILL_SECONDS", 60.0)

    def event(numbers: int) -> str:
        return f'{{"id":"evt_1","data":[{",".join(["1.5"] * numbers)}]}}'

    # It takes longer to read than a template may take.
    assert own.fill(event(300_000), ["{{ event.id }}"]) == ["evt_1"]
    with pytest.raises(TookTooLong) as failed:
        own.fill(event(3_000_000), ["{{ event.id }}"])
    assert str(failed.value) == RECORD_TOO_LONG
    with pytest.raises(NotFilled) as failed_by_memory:
        own.fill(f'{{"data":[{",".join(["[1]"] * 6_000_000)}]}}', ["{{ event.id }}"])
    assert str(failed_by_memory.value) in (RECORD_TOO_LARGE, RECORD_TOO_LONG)
    assert own.fill(EVENT, ["{{ event.id }}"]) == ["evt_1"]


def test_what_the_machine_has_no_time_for_is_no_fault_of_the_template(
    own: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.fill(EVENT, ["{{ event.id }}"])
    with own.borrowed() as cell:
        os.kill(cell._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(cells, "KILL_SECONDS", 0.3)
    with pytest.raises(TookTooLong, match="not by its own fault"):
        own.fill(EVENT, ["{{ event.id }}"])


def test_a_library_that_takes_the_end_of_the_time_for_its_own_failure_does_not_go_on(
    own: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """orjson makes an error of its own of what is raised while it asks how a number is written."""
    row = f"[{','.join(['1.5'] * 9_000)}]"
    event = f'{{"data":[{",".join([row] * 28)}]}}'
    monkeypatch.setattr(cells, "KILL_SECONDS", 60.0)
    # Sums between the texts: a fast machine would be through with as much text as is allowed
    # before its time is over.
    sums = "{% for j in (1..48) %}{% assign n = j" + " | plus: 1" * 140 + " %}{% endfor %}"
    text = "{% assign text = event.data | json %}"
    many = "{% for i in (1..100) %}" + text + sums + "{% endfor %}"
    own.fill(EVENT, ["{{ event.id }}"])
    with own.borrowed() as cell:
        pid = cell._process.pid
    for _ in range(5):
        with pytest.raises(TookTooLong) as failed:
            own.fill(event, [many])
        assert str(failed.value) == TOO_LONG
    with own.borrowed() as cell:
        assert cell._process.pid == pid, "the kernel did not have to end it"


def test_what_is_made_in_time_counts_though_the_time_ends_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def in_time(_seconds: float, do: Callable[..., Any], *given: Any) -> Any:
        made = do(*given)
        if do is in_cell._fill_each:
            raise in_cell._TimeIsOver
        return made

    monkeypatch.setattr(in_cell, "_in_time", in_time)
    monkeypatch.setattr(in_cell, "_read", lambda *_: (["{{ event.id }}"], {"id": "evt_1"}))
    monkeypatch.setattr(in_cell.os, "pwrite", lambda *_: 1)
    assert in_cell.fill(0, 0) == (["evt_1"], None, 0)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (signal.SIGVTALRM, "takes too long"),
        (signal.SIGKILL, "too much memory"),
        (signal.SIGTERM, "the portal could not"),
    ],
)
def test_one_that_ends_in_the_middle_fails_that_template_alone(
    own: Cells, number: signal.Signals, why: str
) -> None:
    with own.borrowed() as cell:
        cell.ask(EVENT, ["{{ event.id }}"])
        cell.wait()
        os.kill(cell._process.pid, signal.SIGSTOP)
        cell.ask(EVENT, ["{{ event.id }}"])
        os.kill(cell._process.pid, number)
        os.kill(cell._process.pid, signal.SIGCONT)
        with pytest.raises(NotFilled, match=why):
            cell.wait()
    assert own.fill(EVENT, ["{{ event.id }}"]) == ["evt_1"]


def test_a_cell_that_was_stopped_fills_what_it_had_kept_before(own: Cells) -> None:
    wanted = [f"{{{{ event.id }}}}{number}" for number in range(50)]
    for _ in range(3):
        assert own.fill(EVENT, wanted) == [f"evt_1{number}" for number in range(50)]
        with pytest.raises(TookTooLong):
            own.fill(SLOW_EVENT, [SLOW])


def test_half_a_character_in_a_template_fails_that_template_alone(own: Cells) -> None:
    with pytest.raises(NotFilled):
        own.fill(EVENT, ["{{ event.id }}\ud800"])
    with pytest.raises(NotFilled):
        own.fill(EVENT, ["{{ event.id | \ud800 }}"])
    assert own.fill(EVENT, ["{{ event.id }}"]) == ["evt_1"]


def test_a_machine_without_room_for_a_process_fails_it_and_says_so(
    own: Cells, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", refuse)
        for _ in range(cells.MOST + 1):
            with pytest.raises(NotFilled, match="its log says why"):
                own.fill(EVENT, ["{{ event.id }}"])
    assert "Resource temporarily unavailable" in caplog.text
    assert own.fill(EVENT, ["{{ event.id }}"]) == ["evt_1"]


def test_the_first_webhook_that_is_saved_waits_for_its_cell(
    own: Cells, monkeypatch: pytest.MonkeyPatch, merchant: Merchant
) -> None:
    """To start a cell takes longer than a template may."""
    monkeypatch.setattr(previews, "cells", own)
    fields = {
        "url": "https://8.8.8.8/",
        "events": ["order.created"],
        "headers": {"X-One": "{{ event.id }}", "X-Two": "{{ event.type }}"},
    }
    assert setup.create_webhook(merchant.id, fields, "test").headers
    own._idle.pop().kill()
    fields["headers"] = {"X-One": SLOW_ALONE, "X-Two": "{{ event.type }}"}
    with pytest.raises(Invalid) as refused:
        setup.create_webhook(merchant.id, fields, "test")
    told = {one.pointer: one.message for one in refused.value.errors}
    assert "takes too long" in told["/headers/X-One"]
    assert "not tried" in told["/headers/X-Two"]


def test_what_templates_make_is_bounded_together(own: Cells) -> None:
    text = "{% for i in (1..100) %}" + "x" * 10_000 + "{% endfor %}"
    with pytest.raises(NotFilled, match="2 MiB together") as failed:
        own.fill(EVENT, [f"{text}{{{{ {number} }}}}" for number in range(9)])
    assert failed.value.template == 2


def test_a_cell_has_no_secret_no_connection_and_bounded_memory(
    own: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTAL_SECRET_KEY", "a secret")
    with own.borrowed() as cell:
        cell.ask(EVENT, ["{{ event.id }}"])
        cell.wait()
        process = Path(f"/proc/{cell._process.pid}")
        assert os.getpriority(os.PRIO_PROCESS, cell._process.pid) > os.getpriority(
            os.PRIO_PROCESS, os.getpid()
        ), "it yields to whoever answers and delivers"
        assert (process / "environ").read_bytes() == b""
        assert sorted(one.name for one in (process / "fd").iterdir()) == ["0", "1", "2"]
        limits = (process / "limits").read_text()
    assert f"Max address space         {MAX_MEMORY}" in limits


GROUP = "/proc/{}/autogroup"


@pytest.mark.skipif(not Path(GROUP.format("self")).exists(), reason="a kernel without autogroups")
def test_a_cell_yields_to_all_parts_of_the_portal_and_not_to_its_own_alone(own: Cells) -> None:
    own.fill(EVENT, ["{{ event.id }}"])
    (cell,) = own._idle
    group, _, nice = Path(GROUP.format(cell._process.pid)).read_text().partition(" nice ")
    assert int(nice) == NICE
    assert group != Path(GROUP.format("self")).read_text().partition(" nice ")[0]


def test_a_cell_ends_with_the_process_that_uses_it() -> None:
    script = (
        "import sys, time; from portal.composing.cells import Cell; cell = Cell(); "
        "cell.ask('{}', ['a']); cell.wait(); print(cell._process.pid, flush=True); time.sleep(60)"
    )
    user = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    pid = int(user.stdout.readline())
    user.kill()
    user.wait()
    user.stdout.close()
    assert gone(pid)


def test_a_child_of_a_fork_has_cells_of_its_own() -> None:
    cells.cells.fill(EVENT, ["{{ event.id }}"])
    if (child := os.fork()) == 0:
        status = 1
        try:
            status = int(bool(cells.cells._idle) or cells.cells.fill(EVENT, ["x"]) != ["x"])
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_many_threads_get_what_is_theirs(own: Cells) -> None:
    def fill(number: int) -> list[str]:
        return own.fill(f'{{"id":"evt_{number}"}}', ["{{ event.id }}"])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(fill, range(200))) == [[f"evt_{number}"] for number in range(200)]
    assert len(own._idle) <= cells.MOST


def test_while_one_is_stopped_others_threads_run(own: Cells) -> None:
    """The interpreter is not held meanwhile, whatever the template does."""
    turns = 0
    stop = threading.Event()

    def work() -> None:
        nonlocal turns
        while not stop.wait(0.005):
            turns += 1

    worker = threading.Thread(target=work)
    worker.start()
    with pytest.raises(NotFilled):
        own.fill(SLOW_EVENT, [SLOW])
    stop.set()
    worker.join()
    assert turns > CPU_SECONDS / 0.005 / 5


class TestInADrain:
    """One merchant's slow templates, and another's deliveries with templates and without."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"LANES": "1", "RETRY_SCHEDULE": "0 86400"}

    def test_slow_templates_of_one_merchant_delay_nobody_else(
        self, merchant: Merchant, receiver: Receiver
    ) -> None:
        slow = [
            make_webhook(
                merchant,
                receiver.url("/slow"),
                headers=[{"name": "X-Slow", "value": SLOW, "secret": False}],
            )
            for _ in range(3)
        ]
        for _ in range(4):
            event = make_event(merchant, data=f'{{"list":{LIST}}}')
            for webhook in slow:
                make_delivery(event, webhook)
        bob = make_merchant("bob")
        plain = make_webhook(bob, receiver.url("/plain"))
        filled = make_webhook(
            bob,
            receiver.url("/filled"),
            headers=[{"name": "X-Event", "value": "{{ event.id }}", "secret": False}],
        )
        good = set()
        for _ in range(30):
            event = make_event(bob)
            good |= {make_delivery(event, plain).id, make_delivery(event, filled).id}
        drain.drain(slow[0].lane, paces=PACES)

        db.session.rollback()
        attempts = db.session.scalars(sa.select(Attempt).order_by(Attempt.attempted_at)).all()
        places = {attempt.delivery_id: place for place, attempt in enumerate(attempts)}
        failed = [one for one in attempts if one.merchant_id == merchant.id]
        assert len(failed) == 12
        assert {one.error for one in failed} == {"template_error"}
        assert all("takes too long" in (one.error_detail or "") for one in failed)
        assert {one.delivery_id for one in attempts if one.ok} == good
        # All of the others' are there before a quarter of the slow ones have failed.
        assert max(places[one] for one in good) < len(good) + 4
        assert len(receiver.ledger) == 60

    def test_what_no_cell_can_be_asked_with_ends_no_drain(
        self, merchant: Merchant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hooks = [
            make_webhook(
                merchant,
                receiver.url(),
                headers=[{"name": "X-Event", "value": value, "secret": False}],
            )
            for value in ("{{ event.id }}\ud800", "{{ event.id }}", "plain")
        ]
        event = make_event(merchant)
        owed = [make_delivery(event, webhook).id for webhook in hooks]
        asked = Cell.ask

        def ask(cell: Cell, record: str, templates: Sequence[str]) -> None:
            if templates == ["{{ event.id }}"]:
                raise RuntimeError
            asked(cell, record, templates)

        monkeypatch.setattr(Cell, "ask", ask)
        drain.drain(hooks[0].lane, paces=PACES)
        db.session.rollback()
        errors = {one.delivery_id: one.error for one in db.session.scalars(sa.select(Attempt))}
        assert errors == {owed[0]: "template_error", owed[1]: "internal_error", owed[2]: None}

    def test_one_that_is_asked_to_end_does_not_begin_what_waits(
        self, merchant: Merchant, receiver: Receiver
    ) -> None:
        webhook = make_webhook(
            merchant,
            receiver.url("/slow"),
            headers=[{"name": "X-Slow", "value": SLOW, "secret": False}],
        )
        event = make_event(merchant, data=f'{{"list":{LIST}}}')
        for _ in range(20):
            make_delivery(event, webhook)
        started = time.monotonic()
        stopping: Callable[[], bool] = lambda: time.monotonic() > started + 1.5  # noqa: E731
        drain.drain(webhook.lane, paces=PACES, should_stop=stopping)
        db.session.rollback()
        count = db.session.scalar(sa.select(sa.func.count()).select_from(Attempt)) or 0
        assert 0 < count < 20


def test_a_cell_that_is_gone_is_not_given_to_anybody(own: Cells) -> None:
    cell = Cell()
    own.give_back(cell)
    os.kill(cell._process.pid, signal.SIGKILL)
    assert gone(cell._process.pid)
    assert own.fill(EVENT, ["{{ event.id }}"]) == ["evt_1"]


def test_a_merchants_templates_are_tried_few_at_a_time(merchant: Merchant):
    fields = {"url": "https://8.8.8.8/", "events": ["*"], "body_template": "{{ event.type }}"}
    with places.held(places.TEMPLATE, merchant.id):
        with pytest.raises(Invalid) as caught:
            setup.create_webhook(merchant.id, fields, "test")
        (error,) = checking.preview(merchant.id, fields).errors
        made = checking.preview(make_merchant("other").id, fields)
    said = "The Liquid was not tried. Several templates are being tried. Try again in a moment."
    assert caught.value.errors[0].message == error.message == said
    assert not made.errors
    assert not checking.preview(merchant.id, fields).errors
