"""A file of settings has one meaning, whoever reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from portal.config import SettingError, load_config
from portal.settings import env_file

ROOT = Path(__file__).resolve().parents[2]
URL = "postgresql://portal:p$a%26ss@127.0.0.1:1/portal?sslmode=disable&application_name=$HOME#1"


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "portal.env"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_what_a_shell_would_expand_or_cut_stands_for_itself(tmp_path: Path):
    text = (
        f"""# the portal
; another comment

PORTAL_DATABASE_URL={URL}
  PORTAL_CONTACT = """.replace(" = ", "=")
        + """help@example.com  \r
PORTAL_MAIL_FROM="Ann's Hooks <hooks@example.com>"
PORTAL_SECRET_KEY='a key with spaces and a # that is quoted'
TZ=Europe/Berlin
"""
    )
    assert env_file.read(written(tmp_path, text)) == {
        "PORTAL_DATABASE_URL": URL,
        "PORTAL_CONTACT": "help@example.com",
        "PORTAL_MAIL_FROM": "Ann's Hooks <hooks@example.com>",
        "PORTAL_SECRET_KEY": "a key with spaces and a # that is quoted",
        "TZ": "Europe/Berlin",
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("export PORTAL_PORT=1", "leave out the word export"),
        ("PORTAL_PORT", "write NAME=value"),
        ("PORTAL_PORT = 1", "without a space"),
        ("PORTAL_PORT=8000 # the port", "a line of its own"),
        ("PORTAL_CONTACT=a\\", "backslash"),
        ("PORTAL_CONTACT='a' b", "begins and ends it"),
        ('PORTAL_CONTACT="a', "begins and ends it"),
        ("PORTAL_ENV_FILE=/x", "names this file"),
        ("PORTAL_DATA_DIR=var", "give the whole path"),
        ("PORTAL_PORT=1\nPORTAL_PORT=2", "second time"),
    ],
)
def test_what_others_read_differently_is_refused_by_its_line(tmp_path: Path, line: str, words: str):
    path = written(tmp_path, f"# first\n{line}\n")
    with pytest.raises(env_file.WrongFile) as caught:
        env_file.read(path)
    assert str(caught.value).startswith(f"{path}, line ")
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "none" if content is None else written(tmp_path, content)
    with pytest.raises(SettingError, match="PORTAL_ENV_FILE"):
        load_config({"PORTAL_ENV_FILE": str(path)})


def test_a_byte_order_mark_is_named(tmp_path: Path):
    with pytest.raises(env_file.WrongFile, match="byte order mark"):
        env_file.read(written(tmp_path, "\N{BOM}PORTAL_PORT=8001\n"))


def test_the_environment_goes_before_the_file(tmp_path: Path):
    path = written(tmp_path, f"PORTAL_PORT=8001\nPORTAL_WORKERS=3\nPORTAL_DATA_DIR={tmp_path}\n")
    environ = {"PORTAL_ENV_FILE": str(path), "PORTAL_PORT": "8002"}
    config = load_config(environ, first_start=True)
    assert (config.port, config.workers, config.data_dir) == (8002, 3, tmp_path)


def test_every_command_reads_the_same_file_from_wherever_it_is_started(tmp_path: Path):
    path = written(tmp_path, f"PORTAL_DATABASE_URL={URL}\nPORTAL_SECRET_KEY={'k' * 40}\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PORTAL_")}
    environment["PYTHONPATH"] = str(ROOT)
    show = "import json; from portal.config import load_config; print(load_config().database_url)"
    for arguments, extra in (
        (["-m", "portal", "--env-file", "portal.env", "settings"], {}),
        (["-m", "portal", "settings"], {"PORTAL_ENV_FILE": str(path)}),
        (["-c", show], {"PORTAL_ENV_FILE": "portal.env"}),
    ):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment | extra,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "application_name=$HOME#1" in done.stdout


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path):
    path = written(tmp_path, "PORTAL_PORT=8001\n")
    path.chmod(0o666)
    with pytest.raises(SettingError, match="everybody on this machine may write it") as caught:
        load_config({"PORTAL_ENV_FILE": str(path)})
    assert f"chmod o-w {path}" in str(caught.value)
    path.chmod(0o664)
    assert env_file.read(path) == {"PORTAL_PORT": "8001"}
    assert env_file.read(Path("/dev/null")) == {}


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str):
    path = tmp_path / "pipe" if kind == "a pipe" else Path("/dev/zero")
    if kind == "a pipe":
        os.mkfifo(path, 0o600)
    for module, function in (("env_file", "read"), ("secret_key", "read_file")):
        ended = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from pathlib import Path\n"
                f"from portal.settings import {module}\n"
                f"{module}.{function}(Path(sys.argv[1]))",
                str(path),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert "it is a pipe, a device or a socket, and no file" in ended.stderr
        assert "cannot be read" in ended.stderr


def test_a_file_in_whose_place_everybody_may_put_another_is_refused(tmp_path: Path):
    shared = tmp_path / "shared"
    inner = shared / "inner"
    inner.mkdir(parents=True)
    path = written(inner, "PORTAL_PORT=8001\n")
    link = tmp_path / "link.env"
    link.symlink_to(path)
    shared.chmod(0o777)
    for way in (path, link):
        with pytest.raises(env_file.WrongFile, match=f"since they may write {shared}"):
            env_file.read(way)
    # As in /tmp, where nobody takes away what is another's.
    shared.chmod(0o1777)
    assert env_file.read(path) == env_file.read(link) == {"PORTAL_PORT": "8001"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_somebody_else_has_put_into_a_shared_directory_is_refused(tmp_path: Path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    path = written(shared, "PORTAL_PORT=8001\n")
    os.chown(path, 12_345, 12_345)
    with pytest.raises(env_file.WrongFile, match="may put a file there"):
        env_file.read(path)
    shared.chmod(0o755)
    assert env_file.read(path) == {"PORTAL_PORT": "8001"}
