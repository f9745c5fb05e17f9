"""Schemathesis on the running portal: requests that the OpenAPI document allows, requests that it
forbids, and chains of them along its links, each answer judged by the same document.

    bin/test --api                          200 examples an operation, with seed 1
    bin/test --api --examples 1000 --seed 7

A run with the same seed and examples sends the same requests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.browser.live import LivePortal, running, wait_for
from tests.receiver import Receiver

CONFIG = Path(__file__).with_name("fuzzer.toml")
HOOKS = Path(__file__).with_name("fuzzer_hooks.py")
LONGEST_SECONDS = 1_500
"""A run ends by itself far earlier: this is for one that hangs."""


def fuzz(
    examples: int, seed: int, phases: str = "examples,coverage,fuzzing,stateful"
) -> tuple[bool, str]:
    """Start a portal in which something has happened, and send what `examples` says for each
    operation; whether no check failed, and what schemathesis printed."""
    receiver = Receiver()
    try:
        # Without limits, which tests/api/test_limits.py tries: each wrong key is to hear 401.
        with running(TIMEOUT_SECONDS="2", API_WRONG_KEYS="0", API_REQUESTS="0") as portal:
            key = _something_happened(portal, receiver)
            return _run(portal.url, key, examples, seed, phases)
    finally:
        receiver.close()


def _something_happened(portal: LivePortal, receiver: Receiver) -> str:
    """A merchant with a webhook, events and their attempts; its key."""
    store = portal.store()
    portal.make_webhook(store, receiver.url())
    for number in range(5):
        portal.send_order(store, str(number))
    wait_for(lambda: len(receiver.ledger) >= 5)
    return store.key


def _run(url: str, key: str, examples: int, seed: int, phases: str) -> tuple[bool, str]:
    with tempfile.TemporaryDirectory(prefix="portal-fuzz-") as directory:
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "--config-file",
                str(CONFIG),
                "run",
                f"{url}/api/v1/openapi.json",
                "--max-examples",
                str(examples),
                "--seed",
                str(seed),
                "--phases",
                phases,
                "--continue-on-failure",
                "--suppress-health-check",
                "all",
                "--request-timeout",
                "20",
                "--no-color",
            ],
            env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS), "FUZZED_KEY": key},
            cwd=directory,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LONGEST_SECONDS,
            check=False,
        )
    return ended.returncode == 0, ended.stdout


def main() -> int:
    """Run it, and print what was found."""
    parser = argparse.ArgumentParser(prog="bin/test --api", description=__doc__)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    passed, report = fuzz(arguments.examples, arguments.seed)
    print(report)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
