"""The package: what its wheel holds, and a portal that is installed from it, away from the code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from portal import installed
from portal.config import SettingError, load_config
from tests.ports import free_port
from tests.receiver import Receiver

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [
    line.removesuffix(" \\")
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line[:1].isalnum()
]
LOCKED = {pin.partition("==")[0]: pin.partition("==")[2].partition(" ")[0] for pin in PINS}
PLACES = {
    "portal": "portal",
    "static": "portal/_brought/static",
    "migrations": "portal/_brought/migrations",
    "examples/verify": "portal/_brought/examples/verify",
}
"""What the wheel brings, and where."""
READY = "Ctrl-C stops everything in order."


# ── What does not need a wheel ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", PROJECT["dependencies"])
def test_what_is_locked_is_what_the_package_asks_for(text: str):
    wanted = Requirement(text)
    assert wanted.specifier.contains(LOCKED[canonicalize_name(wanted.name)])


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", "/home/ann/.local/share/webhook-portal"),
        ("/srv/data", "/srv/data/webhook-portal"),
        ("relative", "/home/ann/.local/share/webhook-portal"),
    ],
)
def test_an_installed_portal_keeps_its_data_where_no_upgrade_touches_it(
    monkeypatch: pytest.MonkeyPatch, given: str, found: str
):
    monkeypatch.setattr(installed, "IS_WHEEL", True)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("XDG_DATA_HOME", given)
    assert installed.data_directory() == Path(found)


def test_a_user_without_a_home_is_asked_where_the_data_is_to_lie(monkeypatch: pytest.MonkeyPatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(installed, "IS_WHEEL", True)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(SettingError, match="PORTAL_DATA_DIR=/var/lib/webhook-portal"):
        load_config({}, first_start=True)


# ── The wheel, and what is installed from it ──────────────────────────────────────────────


def pip(*arguments: object, within: Path | None = None) -> None:
    """Pip as an operator calls it; in another environment than this one."""
    chosen = [] if within is None else ["--python", str(within / "bin" / "python")]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *chosen, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the working tree."""
    directory = tmp_path_factory.mktemp("wheel")
    try:
        # What the build is made with, and what is installed with it.
        pip(
            "download",
            "--retries",
            0,
            "--timeout",
            20,
            "--no-deps",
            "--dest",
            directory / "seen",
            f"idna=={LOCKED['idna']}",
        )
    except AssertionError:
        pytest.skip("needs a package registry")
    pip("wheel", "--no-deps", "--wheel-dir", directory, ROOT)
    (made,) = directory.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment_of_its_own(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment into which the wheel was installed, with the versions that are locked:
    the test is to say the same tomorrow."""
    directory = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", directory / "venv"], check=True, timeout=60
    )
    versions = directory / "versions.txt"
    versions.write_text("\n".join(PINS))
    pip("install", "--no-compile", "--constraint", versions, wheel, within=directory / "venv")
    return directory / "venv"


@pytest.mark.whole
def test_the_wheel_holds_every_file_that_is_needed_and_none_besides(wheel: Path):
    there = {
        f"{inside}/{path.relative_to(ROOT / folder)}"
        for folder, inside in PLACES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == there
    assert "portal/py.typed" in held


class Portal:
    """`webhook-portal run` of a user with an empty home, started in an empty directory."""

    def __init__(self, environment: Path, directory: Path):
        self.bin = environment / "bin"
        self.home, self.empty = directory / "home", directory / "empty"
        self.port = free_port()
        for made in (self.home, self.empty):
            made.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PORTAL_PORT": str(self.port),
            "PORTAL_EGRESS_ALLOW": "127.0.0.1/32",
            "PORTAL_WORKERS": "1",
            "PORTAL_WEB_PROCESSES": "1",
        }
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [self.bin / "webhook-portal", "run"],
                cwd=self.empty,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def printed(self) -> str:
        return self._log.read_text()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.printed
        return READY in self.printed

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def post(self, path: str, content: object) -> requests.Response:
        key = re.search(r"^  API key +(\S+)", self.printed, re.MULTILINE)
        assert key is not None, self.printed
        return requests.post(
            f"http://127.0.0.1:{self.port}/api/v1{path}",
            json=content,
            timeout=10,
            headers={"Authorization": f"Bearer {key[1]}"},
        )


@pytest.fixture
def running(
    environment_of_its_own: Path, tmp_path: Path, wait_for: Callable[..., None]
) -> Iterator[Portal]:
    portal = Portal(environment_of_its_own, tmp_path)
    try:
        wait_for(portal.is_ready, seconds=120)
        yield portal
    finally:
        if portal.process.poll() is None:
            portal.process.send_signal(signal.SIGTERM)
        try:
            portal.process.wait(60)
        finally:
            portal.process.kill()


@pytest.mark.whole
@pytest.mark.engine
def test_an_installed_portal_serves_pages_takes_events_and_delivers_them(
    running: Portal, receiver: Receiver, wait_for: Callable[..., None]
):
    page = running.get("/sign-in")
    assert page.status_code == 200
    sheet = re.search(r'href="(/static/app\.css[^"]*)"', page.text)
    assert sheet is not None, page.text
    assert running.get(sheet[1]).content == (ROOT / "static" / "app.css").read_bytes()
    made = running.post(
        "/webhooks", {"description": "ERP", "url": receiver.url(), "events": ["order.*"]}
    )
    assert made.status_code == 201, made.text
    sent = running.post("/events", {"type": "order.created", "object_id": "1042", "data": {}})
    assert (sent.status_code, sent.json()["deliveries"]) == (202, 1)
    wait_for(lambda: len(receiver.ledger) == 1)
    # Beside it, from anywhere, the same portal.
    listed = subprocess.run(
        [running.bin / "webhook-portal", "merchant", "list"],
        cwd="/",
        env=running.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "demo" in listed.stdout, listed.stderr
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == 0, running.printed
    assert list(running.empty.iterdir()) == []
    assert (running.home / ".local" / "share" / "webhook-portal" / "portal.db").exists()


@pytest.mark.whole
def test_what_a_command_advises_is_what_this_user_can_call(
    environment_of_its_own: Path, tmp_path: Path
):
    done = subprocess.run(
        [environment_of_its_own / "bin" / "webhook-portal", "merchant", "list"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "made by webhook-portal run, or by webhook-portal migrate." in done.stderr
    assert list(tmp_path.iterdir()) == []
