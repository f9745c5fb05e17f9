"""`bin/test --hostile [SECONDS] [--seed N] [--database sqlite|postgresql]`: one merchant attacks
all the time, in every way of tests/hostile/attacks.py, while another one's store sends events.

What may not happen: an event of the other is refused, late or lost; a part ends; anything is
answered 500; a traceback; something inside is reached. SECONDS are for each database, 150 by
default.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import requests

from tests.faults.world import Crowd, Sender, World, passing_world
from tests.hostile.attacks import Attacker

DATABASES = ("sqlite", "postgresql")
MOST_SECONDS = 10.0
"""What is answered or delivered later than this was kept waiting by somebody; speed itself is
measured by bin/bench."""
MOST_MEMORY = 1024 * 1024 * 1024
"""Bytes that a part may have (RSS)."""
SETTINGS = {
    "HOLD_AFTER_FAILURES": "5",
    "RETRY_SCHEDULE": "0 1 2",
    "TIMEOUT_SECONDS": "2",
    "WEB_THREADS": "8",
    "API_EVENTS": "10000",
    "API_DELIVERIES": "5000",
}


class Attack(Crowd):
    """Attackers in threads of their own, each with its die."""

    def __init__(self, attacker: Attacker, seed: int, threads: int):
        self.done: Counter[str] = Counter()
        self.through: list[str] = []
        """What should not have happened."""
        self._attacker = attacker
        super().__init__(
            partial(self._run, random.Random(seed + number)) for number in range(threads)
        )

    def _run(self, dice: random.Random) -> None:
        self._attacker.throw(dice)
        names = list(self._attacker.attacks)
        while not self._stop.is_set():
            name = dice.choice(names)
            try:
                self._attacker.attacks[name]()
            except requests.ConnectionError:
                # The server hung up, as on whom it does not let in.
                self.done["hung up on"] += 1
            except Exception as error:  # noqa: BLE001 - told at the end, with what was tried
                self.through.append(f"{name}: {type(error).__name__}: {error}"[:600])
            self.done[name] += 1


def play(world: World, seconds: float, seed: int, threads: int = 3) -> tuple[int, Counter[str]]:
    """Attacks for so long; how many events of the other merchant were accepted, and the attacks.
    Raises AssertionError when the other one noticed, or something got through."""
    attacker = Attacker(world)
    world.wait_for_workers(2)
    parts = {name: process.pid for name, process in world.parts.items()}
    browser = world.sign_in()
    pages: list[float] = []
    with Sender(world, 10, threads=2) as sender, Attack(attacker, seed, threads) as attack:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            answer = browser.get(f"{world.url}/m/alice/", timeout=60)
            assert answer.status_code == 200, answer.text[:300]
            pages.append(time.monotonic() - began)
            time.sleep(0.5)
    problems = attack.through[:20]
    problems += [f"an event was refused: {name} {count}" for name, count in sender.refused.items()]
    slowest = {"an event": max(sender.seconds, default=99), "a page": max(pages, default=99)}
    problems += [
        f"{what} took {took:.1f} s" for what, took in slowest.items() if took > MOST_SECONDS
    ]
    received = world.receiver.ids
    world.wait(lambda: sender.accepted <= set(received()), MOST_SECONDS, "events are late")
    problems += [
        f"{name} ended"
        for name, pid in parts.items()
        if world.parts[name].pid != pid or world.parts[name].poll() is not None
    ]
    problems += [
        f"{name} has {used >> 20:,} MiB"
        for name, pid in parts.items()
        if name != "postgres" and (used := _memory(pid)) > MOST_MEMORY
    ]
    problems += [
        f"{path.name}: {line}"
        for path in world.directory.glob("*.log")
        for line in _tracebacks(path)
    ]
    if attacker.marker.exists():
        problems.append("a job of a stranger was run")
    ready = requests.get(f"{world.url}/readyz", timeout=10)
    if ready.status_code != 200:
        problems.append(f"not ready: {ready.text}")
    assert not problems, "\n".join(problems)
    return len(sender.accepted), attack.done


def _memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4_096


def _tracebacks(path: Path) -> list[str]:
    lines = path.read_text(errors="replace").splitlines()
    return [
        " / ".join(lines[number : number + 40])[-900:]
        for number, line in enumerate(lines)
        if line.startswith("Traceback")
    ][:3]


def main() -> int:
    """Play on one database or on both, print the seed, the attacks and the verdict."""
    parser = argparse.ArgumentParser(prog="bin/test --hostile", description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=150)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--database", choices=DATABASES, action="append")
    arguments = parser.parse_args()
    for database in arguments.database or DATABASES:
        print(f"seed {arguments.seed}, {database}", flush=True)
        with passing_world(database, **SETTINGS) as world:
            accepted, attacks = play(world, arguments.seconds, arguments.seed)
        for name, count in attacks.most_common():
            print(f"{count:5}  {name}")
        print(f"{accepted} events of another merchant, none refused, late or lost", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
