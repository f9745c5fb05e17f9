"""What everybody may open in the data directory is closed at the start; what was shared on purpose,
and what is not the portal's, stays as it is."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from portal.db import snapshots
from portal.settings import private_files, secret_key
from tests.run.test_first_start import start

ANOTHER_GROUP = 12_345
FILES = ("portal.db", "portal.db-wal", "portal.db-shm", "portal.db-turn", "secret_key")


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in directory.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The data directory of a portal from before it closed its files, as umask 022 left it."""
    directory = tmp_path / "old"
    directory.mkdir()
    for name in (*FILES, "portal.lock", "portal.db.before-0001-20261128T101112Z"):
        (directory / name).touch(mode=0o644)
    (directory / "redis").mkdir()
    directory.chmod(0o755)
    return directory


def test_a_key_that_a_killed_start_had_not_kept_yet_leaves_the_directory_closed(old: Path):
    (old / "secret_key.4711").touch(mode=0o644)
    private_files.close(old, old / "portal.db")
    assert mode(old / "secret_key.4711") == 0o600
    assert mode(old) == 0o700


@pytest.mark.whole
def test_an_old_portal_is_closed_by_its_next_start_which_says_so_once(tmp_path: Path):
    directory = tmp_path / "data"
    migrate = ("-m", "portal", "migrate")
    assert start(directory, *migrate).returncode == 0
    # A reader that keeps the database open, so that its -wal and -shm are there.
    with sqlite3.connect(directory / "portal.db") as reader:
        reader.execute("SELECT count(*) FROM merchant").fetchall()
        (directory / "portal.db-turn").touch()
        assert set(modes(directory)) >= set(FILES)
        for path in directory.iterdir():
            path.chmod(0o644)
        directory.chmod(0o755)
        done = start(directory, *migrate)
        assert done.returncode == 0, done.stderr
        assert modes(directory) == dict.fromkeys(modes(directory), 0o600)
        assert mode(directory) == 0o700
        (line,) = [line for line in done.stderr.splitlines() if "Everybody" in line]
        assert all(f"data/{name}" in line for name in FILES)
        assert "Everybody" not in start(directory, *migrate).stderr
    reader.close()


def test_everything_of_the_portals_is_closed_with_one_line(
    old: Path, caplog: pytest.LogCaptureFixture
):
    private_files.close(old, old / "portal.db")
    redis = modes(old).pop("redis")
    assert redis == 0o755, "it lies in a closed directory"
    assert {mode(path) for path in old.iterdir() if path.is_file()} == {0o600}
    assert mode(old) == 0o700
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING


def test_what_the_operator_put_there_stays_and_with_it_the_directory(old: Path):
    (old / "backup.sh").touch(mode=0o755)
    private_files.close(old, None)
    assert modes(old)["backup.sh"] == 0o755
    assert mode(old) == 0o755
    assert modes(old)["portal.db"] == modes(old)["secret_key"] == 0o600


def test_a_database_elsewhere_stays(old: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere" / "hooks.db"
    elsewhere.parent.mkdir(mode=0o755)
    for name in ("hooks.db", "hooks.db-turn"):
        elsewhere.with_name(name).touch(mode=0o644)
    linked = old / "portal.db"
    linked.unlink()
    linked.symlink_to(elsewhere)
    private_files.close(old, elsewhere)
    assert set(modes(elsewhere.parent).values()) == {0o644}
    assert mode(elsewhere.parent) == 0o755
    assert modes(old)["secret_key"] == 0o600


def test_a_database_of_another_name_in_the_directory_is_closed(old: Path):
    for name in ("hooks.db", "hooks.db-wal"):
        (old / name).touch(mode=0o644)
    private_files.close(old, old / "hooks.db")
    assert modes(old)["hooks.db"] == modes(old)["hooks.db-wal"] == modes(old)["portal.db"] == 0o600
    assert mode(old) == 0o700


def test_a_group_that_alone_may_read_was_given_on_purpose(old: Path):
    for name in FILES:
        (old / name).chmod(0o640)
    (old / "portal.db-turn").chmod(0o664)
    private_files.close(old, old / "portal.db")
    assert {modes(old)[name] for name in set(FILES) - {"portal.db-turn"}} == {0o640}
    assert modes(old)["portal.db-turn"] == 0o660, "who may use the database may use its turn"
    assert mode(old) == 0o755, "or the group could not come to it"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to any group")
def test_another_group_keeps_what_it_was_given(old: Path):
    os.chown(old / "portal.db", -1, ANOTHER_GROUP)
    private_files.close(old, old / "portal.db")
    assert modes(old)["portal.db"] == modes(old)["portal.db-wal"] == 0o640
    assert modes(old)["secret_key"] == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_what_is_another_users_stays(old: Path):
    for path in (old / "secret_key", old):
        os.chown(path, 12_345, -1)
    private_files.close(old, None)
    assert modes(old)["secret_key"] == 0o644
    assert modes(old)["portal.db"] == 0o600
    assert mode(old) == 0o755


def test_who_is_named_in_a_list_keeps_what_he_was_given(old: Path):
    path = old / "portal.db"
    nobody = 0xFFFF_FFFF
    # The owner, a user by name, the group, the mask, the others (linux/posix_acl_xattr.h).
    entries = ((1, 6, nobody), (2, 4, 12_345), (4, 4, nobody), (16, 4, nobody), (32, 4, nobody))
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"this file system has no lists ({error.strerror})")
    private_files.close(old, path)
    assert modes(old)["portal.db"] == 0o640, "the group's bits are the list's mask"
    assert "system.posix_acl_access" in os.listxattr(path)


def test_no_directory_is_no_matter(tmp_path: Path):
    private_files.close(tmp_path / "none", None)


def test_a_directory_that_everybody_may_write_is_said(old: Path, caplog: pytest.LogCaptureFixture):
    # What somebody else keeps there leaves it open.
    (old / "others.txt").touch()
    old.chmod(0o777)
    private_files.close(old, old / "portal.db")
    assert f"may put files into {old}" in caplog.text
    old.chmod(0o755)
    caplog.clear()
    private_files.close(old, old / "portal.db")
    assert "may put files" not in caplog.text


@pytest.mark.parametrize(
    "made",
    [
        lambda directory: secret_key.keep("k" * 40, directory / "secret_key"),
        lambda directory: snapshots.take(directory / "portal.db", "0001"),
    ],
)
def test_a_link_that_somebody_has_put_in_place_of_a_draft_leads_nowhere(
    tmp_path: Path, made: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(snapshots, "iso", lambda _: "now")
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with contextlib.closing(sqlite3.connect(tmp_path / "portal.db")) as database:
        database.execute("CREATE TABLE a (b)")
    precious = tmp_path / "precious"
    precious.write_text("stays")
    for name in ("secret_key.7", "portal.db.before-0001-now.part"):
        (tmp_path / name).symlink_to(precious)
    made(tmp_path)
    assert precious.read_text() == "stays"
