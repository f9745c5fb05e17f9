"""A small disk of a test's own, to be filled up."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


def missing() -> str:
    """Why there can be no small disk here; "" when there can."""
    if os.geteuid() != 0:
        return "a disk to fill up needs root, to mount it"
    tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
    return "" if tried.returncode == 0 else "a disk to fill up cannot be mounted here"


@contextlib.contextmanager
def mounted(directory: Path, mebibytes: int) -> Iterator[None]:
    """A file system of that size at a directory."""
    options = f"size={mebibytes}m,mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(path: Path) -> None:
    """Let a file take all the room that is left."""
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 4_096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
