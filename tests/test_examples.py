"""The four stories of examples/, each played by its own programs against a running portal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask

from portal.events import catalogue
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

pytestmark = [pytest.mark.engine, pytest.mark.whole]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LANES": "1", "SWEEP_SECONDS": "1"}


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Stage:
    """A portal with a web process and a worker, and the programs of the examples before it."""

    def __init__(
        self,
        key: str,
        start: Callable[..., Any],
        wait_for: Callable[..., None],
        environment: pytest.MonkeyPatch,
    ):
        self._start, self._wait_for, self._environment = start, wait_for, environment
        port = free_port()
        self._api = f"http://127.0.0.1:{port}/api/v1"
        environment.setenv("API", self._api)
        environment.setenv("KEY", key)
        self._key = key
        start("-m", "flask", "--app", "wsgi", "run", "--port", str(port))
        start("worker.py", "--part", "deliver")
        wait_for(lambda: listens(port))

    def set_up(
        self, folder: str, file: str = "webhook.json", *, receiver: bool = True, is_up: bool = True
    ) -> None:
        """Make the example's webhook by its setup, then start its receiver with the secret, unless
        that is to come later."""
        if receiver:
            self._port = free_port()
            self._environment.setenv("PORT", str(self._port))
        made = subprocess.run(
            [sys.executable, "-m", "examples.setup", str(EXAMPLES / folder / file)],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        self._environment.setenv("SECRET", made.stdout.strip().removeprefix("export SECRET="))
        if receiver and is_up:
            self.start_receiver(folder)

    def start_receiver(self, folder: str) -> None:
        """Start the receiver of an example that is set up."""
        self._start("-m", f"examples.{folder}.receiver")
        self._wait_for(lambda: listens(self._port))

    def call(self, path: str, content: Any = None) -> Any:
        """The API's answer."""
        request = urllib.request.Request(
            self._api + path,
            data=None if content is None else json.dumps(content).encode(),
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def send(self, event_type: str, object_id: str, data: dict[str, Any], **fields: Any) -> str:
        """Send an event of the store; its ID."""
        event = {
            "type": event_type,
            "object_id": object_id,
            "source_user_type": "storefront",
            "data": data,
        }
        return str(self.call("/events", event | fields)["id"])

    def answers(self, event_id: str, count: int = 1) -> list[str]:
        """What the receivers answered to an event, oldest first, once `count` have."""
        attempts = self.attempts(event_id, count)
        assert {attempt["status"] for attempt in attempts} == {200}
        ids = [attempt["request_id"] for attempt in reversed(attempts)]
        return [self.call(f"/attempts/{one}")["response"]["body"] for one in ids]

    def attempts(self, event_id: str, count: int) -> list[Any]:
        """The attempts at an event, newest first, once there are `count`."""

        def found() -> list[Any]:
            return list(self.call(f"/attempts?event_id={event_id}")["data"])

        self._wait_for(lambda: len(found()) == count)
        return found()

    def record(self, event_type: str) -> dict[str, Any]:
        """The catalogue's example of a type's record."""
        examples = {kind["name"]: kind["example"] for kind in self.call("/event-types")["data"]}
        return dict(examples[event_type])


@pytest.fixture
def stage(
    app: Flask,
    api_key: str,
    processes: Callable[..., Any],
    wait_for: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    return Stage(api_key, processes, wait_for, monkeypatch)


def test_the_erp_gets_a_business_customer_and_its_own_id_does_not_come_back(stage: Stage):
    stage.set_up("erp")
    customer = stage.record("customer.created")
    event_id = stage.send("customer.created", "1000", customer, correlation_id="signup-1")
    assert stage.answers(event_id) == ["Customer 1000 is ERP-10001 now."]

    written = stage.call(f"/events/{event_id}-erp")
    assert written["source_user_type"] == "erp"
    assert written["data"]["erp_id"] == "ERP-10001"
    assert written["deliveries"] == 0
    related = stage.call(f"/events/{event_id}/related")["data"]
    assert f"{event_id}-erp" in {event["id"] for event in related}

    # What someone else changes still arrives.
    edited = stage.send("customer.updated", "1000", customer, source_user_type="admin")
    assert stage.answers(edited) == ["Customer 1000 is ERP-10001 and up to date."]
    assert stage.call(f"/attempts?event_id={event_id}-erp")["data"] == []


def test_a_newsletter_sign_up_is_on_the_list_once(stage: Stage):
    stage.set_up("mailing-list")
    person = stage.record("user.subscribed")
    event_id = stage.send("user.subscribed", person["id"], person, occurred_at=1763930000)
    assert stage.answers(event_id) == [f"{person['email']} is on the list of 1."]

    (delivery,) = stage.call(f"/events/{event_id}/deliveries")["data"]
    stage.call(f"/deliveries/{delivery['id']}/resend", {})
    assert stage.answers(event_id, 2)[1] == "This event was handled before."

    off = stage.send("user.unsubscribed", person["id"], person, occurred_at=1763930100)
    assert stage.answers(off) == [f"{person['email']} is off the list of 0."]
    # The store's clock was set back: what it sent later is what holds.
    again = stage.send("user.subscribed", person["id"], person, occurred_at=1763930050)
    assert stage.answers(again) == [f"{person['email']} is on the list of 1."]


def test_a_sign_up_that_is_overtaken_changes_nothing(stage: Stage):
    stage.set_up("mailing-list", is_up=False)
    person = stage.record("user.subscribed")
    overtaken = stage.send("user.subscribed", person["id"], person)
    assert [attempt["status"] for attempt in stage.attempts(overtaken, 1)] == [None]
    stage.start_receiver("mailing-list")
    off = stage.send("user.unsubscribed", person["id"], person)
    assert stage.answers(off) == [f"{person['email']} is off the list of 0."]
    newest = stage.attempts(overtaken, 2)[0]
    assert stage.call(f"/attempts/{newest['request_id']}")["response"]["body"] == (
        f"{person['email']} has decided anew since; nothing was changed."
    )


def test_an_order_becomes_a_pick_list_unless_it_is_cancelled(stage: Stage):
    stage.set_up("fulfilment")
    order = stage.record("order.created")
    event_id = stage.send("order.created", "1042", order)
    assert stage.answers(event_id) == [
        "Order SO-1042: pick 2 × BELL-01, 1 × LOCK-07; send to Rostock."
    ]
    (attempt,) = stage.call(f"/attempts?event_id={event_id}")["data"]
    sent = stage.call(f"/attempts/{attempt['request_id']}")["request"]
    assert sent["headers"]["X-Warehouse"] == "DE"
    other = order | {"id": "1043", "number": "SO-1043"}
    assert stage.answers(stage.send("order.cancelled", "1043", other)) == [
        "Order SO-1043 will not be picked."
    ]
    assert stage.answers(stage.send("order.created", "1043", other)) == [
        "Order SO-1043 was cancelled already."
    ]


def test_a_new_order_is_announced_by_a_speaker_and_in_three_chats(stage: Stage):
    stage.set_up("announcement", "speaker.json")
    for chat in ("slack", "teams", "discord"):
        stage.set_up("announcement", f"{chat}.json", receiver=False)
    event_id = stage.send("order.created", "1042", stage.record("order.created"))
    assert stage.answers(event_id, 4) == ["Announced: New order SO-1042 for 99.50 EUR"] * 4
    attempts = stage.call(f"/attempts?event_id={event_id}")["data"]
    methods = sorted(attempt["method"] for attempt in attempts)
    assert methods == ["GET", "POST", "POST", "POST"]


FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/receiver.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_example_says_how_to_run_it(folder: str):
    text = (EXAMPLES / folder / "README.md").read_text()
    assert f"python3 -m examples.{folder}.receiver" in text
    files = set(re.findall(rf"examples/{folder}/([a-z]+\.json)", text))
    assert files == {path.name for path in (EXAMPLES / folder).glob("*.json")}


def test_each_example_has_a_port_of_its_own():
    ports = {}
    for folder in FOLDERS:
        (ports[folder],) = {
            urlsplit(json.loads(path.read_text())["url"]).port
            for path in (EXAMPLES / folder).glob("*.json")
        }
        assert f"port={ports[folder]})" in (EXAMPLES / folder / "receiver.py").read_text()
    assert len(set(ports.values())) == len(FOLDERS), ports


def said_by(folder: str) -> list[str]:
    """What an example's page lets its receiver say."""
    email = (catalogue.built_in()["user.subscribed"].example or {})["email"]
    return {
        "announcement": ["New order SO-1042 for 99.50 EUR"] * 4,
        "erp": ["200 Customer 1000 is ERP-10001 now."],
        "fulfilment": ["200 Order SO-1043: pick 2 × BELL-01, 1 × LOCK-07; send to Rostock."],
        "mailing-list": [f"200 {email} is on the list of 1.", f"200 {email} is off the list of 0."],
    }[folder]


class Reader:
    """Someone who follows an example's page word by word, in two terminals."""

    def __init__(self, folder: str, environment: dict[str, str], wait_for: Callable[..., None]):
        text = (EXAMPLES / folder / "README.md").read_text()
        self._set_up, self._send, self._remove = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        self._promised = said_by(folder)
        self._wait_for = wait_for
        self._port = free_port()
        self._heard: list[str] = []
        python = Path(sys.executable).parent
        self._environment = (
            os.environ
            | environment
            | {"PATH": f"{python}:{os.environ['PATH']}", "PORT": str(self._port)}
        )

    def set_up(self) -> None:
        """Make the webhooks, and start the receiver in this terminal."""
        first, _, rest = self._set_up.partition("\n")
        assert first == "export KEY=whp_…"
        self._receiver = subprocess.Popen(
            ["/bin/sh", "-euc", rest],
            cwd=ROOT,
            env=self._environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        Thread(target=self._listen, daemon=True).start()
        self._wait_for(lambda: listens(self._port))

    def _listen(self) -> None:
        assert self._receiver.stdout is not None
        self._heard.extend(line.rstrip() for line in self._receiver.stdout)

    def send(self) -> None:
        """What the other terminal is told."""
        command = self._send.replace("bin/portal", "python3 -m portal")
        self._run(command.replace("--merchant demo", "--merchant alice"))

    def hears(self) -> None:
        """Until the receiver has said what the page promises."""
        self._wait_for(lambda: not Counter(self._promised) - Counter(self._heard))

    def heard(self) -> list[str]:
        """All that the receiver said."""
        return sorted(self._heard)

    def end(self) -> None:
        """Ctrl-C, which says nothing, and delete what was made."""
        os.killpg(self._receiver.pid, signal.SIGINT)
        self._receiver.wait(10)
        assert self._receiver.stderr is not None
        assert "Traceback" not in self._receiver.stderr.read()
        self._run(self._remove)

    def _run(self, command: str) -> None:
        subprocess.run(
            ["/bin/sh", "-euc", command], cwd=ROOT, env=self._environment, check=True, timeout=60
        )


@pytest.fixture
def readers(
    stage: Stage, environment: dict[str, str], wait_for: Callable[..., None]
) -> list[Reader]:
    return [Reader(folder, environment, wait_for) for folder in FOLDERS]


def test_the_pages_can_be_followed_one_after_another_and_again(stage: Stage, readers: list[Reader]):
    for reader in [*readers, readers[0]]:
        reader.set_up()
        reader.send()
        reader.hears()
        reader.end()
        assert stage.call("/webhooks")["data"] == []
    announcement, _, fulfilment, _ = readers
    # Twice its own order, nothing of the warehouse's, and the other way round.
    assert announcement.heard() == said_by("announcement") * 2
    assert fulfilment.heard() == said_by("fulfilment")
    assert {one["status"] for one in stage.call("/attempts?limit=100")["data"]} == {200}


def test_the_pages_can_be_followed_all_at_once(stage: Stage, readers: list[Reader]):
    for step in (Reader.set_up, Reader.send, Reader.hears):
        for reader in readers:
            step(reader)
    assert {one["status"] for one in stage.call("/attempts?limit=100")["data"]} == {200}
    for reader in readers:
        reader.end()
    assert stage.call("/webhooks")["data"] == []


def test_a_webhook_that_is_set_up_again_takes_the_place_of_the_earlier_one(stage: Stage):
    stage.set_up("erp")
    made = stage.call("/webhooks")["data"]
    stage.set_up("erp", receiver=False)
    (again,) = stage.call("/webhooks")["data"]
    assert [again["url"]] == [webhook["url"] for webhook in made]
    assert again["id"] != made[0]["id"]
