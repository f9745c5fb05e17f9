"""Several machines on one: each a network namespace with its own hostname and data directory, on a
bridge. So a machine can be unplugged, and lose its power without anybody being told.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

WORLD, STORE, FRONT = "world", "store", "front"
"""Where the receiver is, where PostgreSQL and Valkey are, and where the web is."""
HOMES = {"valkey": STORE, "postgres": STORE, "web": FRONT}


def missing() -> str:
    """Why there can be no machines here; "" when there can."""
    if os.geteuid() != 0:
        return "machines need root, for network namespaces"
    for program in ("ip", "unshare", "setpriv"):
        if shutil.which(program) is None:
            return f"machines need the program {program}"
    tried = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True)
    return "" if tried.returncode == 0 else f"machines need namespaces: {tried.stderr.decode()}"


class Machines:
    """`store`, `front` and those that are named, on one bridge; a part runs on the machine that
    its own name ends with: `worker-east`."""

    def __init__(self, directory: Path, *names: str):
        self._directory = directory
        self._tag = f"wp{os.getpid() % 100_000}"
        third = os.getpid() % 250
        self.network = f"10.83.{third}.0/24"
        self._addresses = {
            name: f"10.83.{third}.{place}"
            for place, name in enumerate((WORLD, STORE, FRONT, *names), 1)
        }
        self._names = (STORE, FRONT, *names)
        try:
            _ip("link", "add", self._tag, "type", "bridge")
            _ip("addr", "add", f"{self._addresses[WORLD]}/24", "dev", self._tag)
            _ip("link", "set", self._tag, "up")
            for name in self._names:
                self._add(name)
        except subprocess.CalledProcessError:
            self.close()
            raise

    def _add(self, name: str) -> None:
        (self._directory / name).mkdir()
        space, plug = self._space(name), self._plug(name)
        _ip("netns", "add", space)
        _ip("link", "add", plug, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", plug, "master", self._tag, "up")
        _ip("-n", space, "addr", "add", f"{self._addresses[name]}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", space, "link", "set", "lo", "up")

    def address(self, name: str) -> str:
        """The address of a machine."""
        return self._addresses[name]

    def of(self, part: str) -> str:
        """The machine that a part runs on."""
        return HOMES.get(part) or part.partition("-")[2]

    def inside(self, part: str, command: list[str], user: str | None) -> list[str]:
        """A command as it runs on its part's machine, with that machine's hostname."""
        name = self.of(part)
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        return [
            "ip",
            "netns",
            "exec",
            self._space(name),
            "unshare",
            "--uts",
            "sh",
            "-c",
            'hostname "$0" && exec "$@"',
            name,
            *become,
            *command,
        ]

    def environment(self, part: str) -> dict[str, str]:
        """The settings that differ from machine to machine."""
        return {"PORTAL_DATA_DIR": str(self._directory / self.of(part))}

    def unplug(self, name: str) -> None:
        """Let nothing in or out any more; nobody is told."""
        _ip("link", "set", self._plug(name), "down")

    def plug_in(self, name: str) -> None:
        """Undo `unplug`."""
        _ip("link", "set", self._plug(name), "up")

    def close(self) -> None:
        """Take all of them away; their processes have ended."""
        links = [self._plug(name) for name in self._names] + [self._tag]
        for what in (
            *(["link", "del", link] for link in links),
            *(["netns", "del", self._space(name)] for name in self._names),
        ):
            subprocess.run(["ip", *what], capture_output=True)

    def _space(self, name: str) -> str:
        return f"{self._tag}-{name}"

    def _plug(self, name: str) -> str:
        # The name of a link has at most 15 characters.
        return f"{self._tag}{name[:7]}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
