"""`bin/test --chaos SECONDS [--seed N] [--database sqlite|postgresql]`: random faults under load.

Kills and stops processes, wipes, stops and kills Redis, restarts and kills the database, lets the
receiver fail, while a store sends all the time; then the ledgers are compared: lost must be 0.
SECONDS are for each database.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable

from redis.exceptions import RedisError

from tests.faults.world import Sender, World, passing_world

DATABASES = ("sqlite", "postgresql")
WORKERS = ("worker-1", "worker-2")
LEAST_ACCEPTED = 50
"""Events that a run must have to say anything."""


class Chaos:
    """Faults chosen by a seeded die."""

    def __init__(self, world: World, seed: int):
        self._world = world
        self._dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        self._faults: dict[str, Callable[[], None]] = {
            "kill a worker": lambda: self._kill(self._dice.choice(WORKERS)),
            "kill both workers": lambda: [self._kill(name) for name in WORKERS] and None,
            "kill the web": lambda: self._kill("web"),
            "kill maintenance": lambda: self._kill("maintenance"),
            "kill cron": lambda: self._kill("cron"),
            "stop a worker for a while": lambda: self._pause(self._dice.choice(WORKERS)),
            "stop a worker past its lease": lambda: self._pause(self._dice.choice(WORKERS), 12),
            "stop Redis for a while": lambda: self._pause("valkey"),
            "FLUSHALL": self._wipe,
            "kill Redis": self._kill_redis,
            "receiver answers 500": lambda: self._receiver(500),
            "receiver answers 503": lambda: self._receiver(503),
            "receiver is slow": self._slow,
        }
        if world.postgres:
            self._faults |= {
                "end every connection of the database": self._end_connections,
                "restart the database": lambda: self._restart_database(signal.SIGINT),
                "kill the database": lambda: self._restart_database(signal.SIGKILL),
            }

    def run(self, seconds: float) -> None:
        """One fault after another for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            name = self._dice.choice(list(self._faults))
            self._faults[name]()
            self.done[name] += 1
            time.sleep(self._dice.uniform(0.0, 0.5))
            self._revive()

    def _kill(self, name: str) -> None:
        self._world.kill(name)
        self._world.start(name)

    def _pause(self, name: str, seconds: float = 0.0) -> None:
        self._world.signal(name, signal.SIGSTOP)
        time.sleep(seconds or self._dice.uniform(0.2, 2.0))
        self._world.signal(name, signal.SIGCONT)

    def _wipe(self) -> None:
        try:
            self._world.redis.flushall()
        except RedisError:
            self._world.wait(lambda: bool(self._world.redis.ping()), 10)

    def _kill_redis(self) -> None:
        self._world.kill("valkey")
        time.sleep(self._dice.uniform(0.0, 2.0))
        self._world.start("valkey")

    def _receiver(self, status: int) -> None:
        self._world.receiver.always = status
        time.sleep(self._dice.uniform(0.2, 1.0))
        self._world.receiver.always = 200

    def _slow(self) -> None:
        self._world.receiver.delay = self._dice.uniform(0.1, 4.0)
        time.sleep(self._dice.uniform(0.2, 1.0))
        self._world.receiver.delay = 0.0

    def _end_connections(self) -> None:
        self._world.rows(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )

    def _restart_database(self, stop: signal.Signals) -> None:
        self._world.signal("postgres", stop)
        self._world.parts["postgres"].wait(30)
        time.sleep(self._dice.uniform(0.0, 3.0))
        self._world.start("postgres")

    def _revive(self) -> None:
        """What the supervisor does: start again what ended by itself."""
        for name, process in list(self._world.parts.items()):
            if process.poll() is not None:
                self._world.start(name)


def play(
    world: World, seconds: float, seed: int, per_second: float = 40
) -> tuple[int, Counter[str]]:
    """Faults for so long under load; how many events were accepted, and the faults. Raises
    AssertionError when one is lost."""
    world.webhook()
    world.webhook(ordered=True)
    chaos = Chaos(world, seed)
    with Sender(world, per_second, threads=4) as sender:
        chaos.run(seconds)
        # On a slow machine the web may hardly have been up: there must be something to judge.
        world.wait(lambda: len(sender.accepted) >= LEAST_ACCEPTED, 60)
    world.judge(sender.accepted, seconds=180)
    return len(sender.accepted), chaos.done


def main() -> int:
    """Play on one database or on both, print the seed, the faults and the verdict."""
    parser = argparse.ArgumentParser(prog="bin/test --chaos", description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--database", choices=DATABASES, action="append")
    arguments = parser.parse_args()
    for database in arguments.database or DATABASES:
        print(f"seed {arguments.seed}, {database}", flush=True)
        with passing_world(database) as world:
            accepted, faults = play(world, arguments.seconds, arguments.seed)
            received = Counter(world.receiver.ids())
        for name, count in faults.most_common():
            print(f"{count:5}  {name}")
        again = sum(count - 2 for count in received.values() if count > 2)
        print(
            f"{faults.total()} faults, {accepted} events accepted for two webhooks each, 0 lost, "
            f"{again} requests more than one for each delivery",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
