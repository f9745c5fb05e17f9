"""Keys, databases and settings files: what a start makes, what it refuses, and what it says."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from flask import Flask

from portal import create_app, vault
from portal.config import Config, SettingError, load_config
from portal.db import schema, snapshots
from portal.db.session import db
from portal.models import IdempotencyKey, Mail, Merchant, SealedWord
from portal.run import first_start, sealed_word
from tests.conftest import on_both_databases
from tests.factories import make_merchant, make_user, make_webhook

pytestmark = pytest.mark.whole

ROOT = Path(__file__).resolve().parents[2]
SQLITE = b"SQLite format 3\0"
PARTS = {
    "web": ["-c", "import wsgi"],
    "worker": ["worker.py", "--part", "deliver"],
    "cli": ["-m", "portal", "merchant", "list"],
}


def start(directory: Path, *arguments: str, cwd: Path = ROOT, **settings: str):
    """Run `python …` with these PORTAL_ settings alone."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PORTAL_")}
    settings = {"DATA_DIR": str(directory), "REDIS_URL": "unix:///nowhere/r.sock"} | settings
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment
        | {"PYTHONPATH": str(ROOT)}
        | {f"PORTAL_{name}": value for name, value in settings.items() if value},
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a start that was refused."""
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line]
    return line


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "data"
    done = start(directory, "-m", "portal", "migrate")
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def made(made_once: Path, tmp_path: Path) -> Path:
    """The data directory of a portal that was started before."""
    return Path(shutil.copytree(made_once, tmp_path / "made"))


@pytest.fixture
def new_config(environment: dict[str, str], tmp_path: Path) -> Callable[[], Config]:
    """The settings of a first start without a key."""
    del environment["PORTAL_SECRET_KEY"]
    return lambda: load_config(environment, first_start=True)


# ── Nothing is made silently ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("part", PARTS)
def test_no_part_makes_a_key_or_a_database_by_itself(tmp_path: Path, part: str):
    directory = tmp_path / "data"
    said = sentence(start(directory, *PARTS[part]))
    assert f"There is no database at {directory}/portal.db." in said
    assert "bin/portal migrate" in said
    assert not directory.exists()


def test_the_installation_has_its_name_before_many_processes_ask_for_it(made: Path):
    with sqlite3.connect(made / "portal.db") as connection:
        assert connection.execute("SELECT count(*) FROM installation").fetchone() == (1,)


@pytest.mark.parametrize("part", PARTS)
def test_a_lost_key_is_not_made_anew(made: Path, part: str):
    (made / "secret_key").unlink()
    said = sentence(start(made, *PARTS[part]))
    assert "Put it back from your backup" in said
    assert not (made / "secret_key").exists()


def test_nor_by_the_commands_that_make_a_new_portal(made: Path):
    (made / "secret_key").unlink()
    said = sentence(start(made, "-m", "portal", "migrate"))
    assert "No new one is made." in said
    assert not (made / "secret_key").exists()


@pytest.mark.parametrize("part", PARTS)
def test_a_key_of_another_portal_is_refused(made: Path, part: str):
    said = sentence(start(made, *PARTS[part], SECRET_KEY="another key " * 4))
    assert "is not the one that this database was filled with" in said
    assert str(made / "secret_key") in said


def test_the_old_key_beside_a_new_one_is_taken(made: Path):
    old = (made / "secret_key").read_text()
    done = start(made, *PARTS["cli"], SECRET_KEY=f"{'new key ' * 8},{old}")
    assert done.returncode == 0, done.stderr


def test_the_default_directory_does_not_depend_on_where_one_stands(tmp_path: Path):
    configs = [
        start(
            tmp_path,
            "-c",
            "from portal.config import *; print(load_config(first_start=True))",
            cwd=cwd,
            DATA_DIR="",
            SECRET_KEY="k" * 40,
            DATABASE_URL="postgresql://u@127.0.0.1:1/x",
        ).stdout
        for cwd in (ROOT, tmp_path)
    ]
    assert configs[0] == configs[1]
    assert f"PosixPath('{ROOT}/var')" in configs[0]
    assert list(tmp_path.iterdir()) == []


@on_both_databases
def test_a_first_start_keeps_its_key_to_its_owner(
    database: str, new_config: Callable[[], Config], tmp_path: Path
):
    config = new_config()
    path = tmp_path / "data" / "secret_key"
    assert config.key_is_new
    assert not path.exists()
    app = create_app(config)
    with app.app_context():
        db.drop_all()
        _drop_everything()
        first_start.prepare()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert new_config().secret_keys == config.secret_keys
        _drop_everything()


@on_both_databases
def test_a_new_key_is_refused_where_something_is_sealed_also_from_before_the_sealed_word(
    app: Flask, merchant: Merchant, new_config: Callable[[], Config], tmp_path: Path
):
    make_webhook(merchant)
    app.config["PORTAL"] = new_config()
    with pytest.raises(SettingError, match="The secret key is missing"):
        first_start.prepare()
    assert not (tmp_path / "data" / "secret_key").exists()


# ── The sealed word ───────────────────────────────────────────────────────────────────────


def use_keys(app: Flask, *keys: str) -> None:
    app.config["PORTAL"] = replace(app.config["PORTAL"], secret_keys=keys)
    db.session.expire_all()


@on_both_databases
def test_it_is_made_once_and_tells_another_key(app: Flask):
    sealed_word.check()
    sealed_word.check()
    assert len(db.session.scalars(sa.select(SealedWord)).all()) == 1
    use_keys(app, "another " * 5)
    with pytest.raises(SettingError, match="PORTAL_SECRET_KEY"):
        sealed_word.check()


@on_both_databases
def test_an_older_database_gets_one_only_with_a_key_that_opens_it(app: Flask, merchant: Merchant):
    make_webhook(merchant)
    own = app.config["PORTAL"].secret_keys
    use_keys(app, "another " * 5)
    lost = make_webhook(merchant)
    use_keys(app, "a third one " * 4)
    with pytest.raises(SettingError, match="is not the one"):
        sealed_word.check()
    assert db.session.scalars(sa.select(SealedWord)).all() == []
    use_keys(app, *own)
    sealed_word.check()
    assert not vault.opens(lost.secret_token), "one that was lost before keeps nobody from starting"


@on_both_databases
def test_a_portal_that_lost_its_key_once_and_was_given_its_secrets_anew_starts(
    app: Flask, merchant: Merchant
):
    own = app.config["PORTAL"].secret_keys
    use_keys(app, "a lost one " * 4)
    for number in range(40):
        lost = make_webhook(merchant)
        lost.deleted_at = number + 1
    for _ in range(25):
        make_webhook(merchant)
    db.session.commit()
    use_keys(app, *own)
    with pytest.raises(SettingError, match="is not the one"):
        sealed_word.check()
    make_webhook(merchant)
    sealed_word.check()
    assert len(db.session.scalars(sa.select(SealedWord)).all()) == 1


def _second_factor() -> None:
    make_user("ann@example.com").totp_token = vault.encrypt("code")


def _mail() -> None:
    db.session.add(Mail.make("ann@example.com", "Subject", "Body"))


def _answer() -> None:
    db.session.add(
        IdempotencyKey(
            merchant_id=make_merchant("bob").id,
            key="once",
            digest="d",
            status=201,
            answer_token=vault.encrypt("answer"),
        )
    )


@on_both_databases
@pytest.mark.parametrize("store", [_second_factor, _mail, _answer])
def test_every_kind_of_secret_tells_a_wrong_key_from_the_right_one(
    app: Flask, store: Callable[[], None]
):
    store()
    db.session.commit()
    own = app.config["PORTAL"].secret_keys
    use_keys(app, "another " * 5)
    with pytest.raises(SettingError, match="is not the one"):
        sealed_word.check()
    use_keys(app, *own)
    sealed_word.check()
    use_keys(app, "another " * 5)
    with pytest.raises(SettingError, match="is not the one"):
        sealed_word.check()


@on_both_databases
def test_secrets_of_deleted_webhooks_keep_nobody_from_starting(app: Flask, merchant: Merchant):
    make_webhook(merchant).deleted_at = 1
    db.session.commit()
    use_keys(app, "another " * 5)
    sealed_word.check()


def test_a_database_that_is_away_at_the_start_is_asked_before_the_first_request(
    environment: dict[str, str], tmp_path: Path, empty_sqlite: Path
):
    address = environment["PORTAL_DATABASE_URL"]
    path = Path(address.removeprefix("sqlite:///"))
    shutil.copyfile(empty_sqlite, path)
    right = load_config(environment)
    with create_app(right).app_context():
        sealed_word.check()
        db.engine.dispose()
    # Where its directory is not mounted yet.
    away = f"sqlite:///{tmp_path}/later/portal.db"
    app = create_app(replace(right, database_url=away))
    app.config["PORTAL"] = replace(right, secret_keys=("another " * 5,))
    first_start.guard(app)
    client = app.test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/sign-in").status_code == 503
    (tmp_path / "later").mkdir()
    shutil.copyfile(path, tmp_path / "later" / "portal.db")
    refused = client.get("/sign-in")
    assert refused.status_code == 503
    app.config["PORTAL"] = right
    assert client.get("/sign-in").status_code == 200


# ── What cannot be used is said ───────────────────────────────────────────────────────────


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "not_mounted")


WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "key is a directory": ("secret_key", as_directory, "cannot be read"),
    "key is empty": ("secret_key", lambda path: path.write_text(""), "holds no secret key"),
    "key is short": ("secret_key", lambda path: path.write_text("short"), "holds no secret key"),
    "key is binary": ("secret_key", lambda path: path.write_bytes(b"\xff" * 50), "holds no secret"),
    "key is a link to nothing": ("secret_key", as_link, "is a link to"),
    "database is a directory": ("portal.db", as_directory, "cannot be used"),
    "database is text": ("portal.db", lambda path: path.write_text("text " * 99), "is not an SQLi"),
    "database is damaged": (
        "portal.db",
        lambda path: path.write_bytes(SQLITE + b"\xff" * 9000),
        "restore it from a backup",
    ),
}


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        *((wrong, "cli") for wrong in WRONG),
        *(("database is damaged", part) for part in PARTS),
        ("database is damaged", "run"),
        ("key is a directory", "run"),
        ("key is a link to nothing", "run"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_named_in_a_sentence(
    made: Path, wrong: str, part: str
):
    name, spoil, words = WRONG[wrong]
    for rest in made.glob("portal.db-*"):
        rest.unlink()
    spoil(made / name)
    arguments = PARTS.get(part, ["-m", "portal", "run"])
    done = start(made, *arguments, REDIS_URL="")
    assert "Traceback" not in done.stderr + done.stdout
    assert words in done.stderr
    assert done.returncode == 1


# ── Upgrades ──────────────────────────────────────────────────────────────────────────────


def _drop_everything() -> None:
    db.session.rollback()
    with db.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
    db.drop_all()
    db.engine.dispose()
    if db.engine.dialect.name == "postgresql":
        db.engine.dispose()


def _versions(app: Flask) -> list[str]:
    directory = ScriptDirectory(app.extensions["migrate"].directory)
    return [script.revision for script in directory.walk_revisions()]


def _start_at_once(starts: list[tuple[Path, dict[str, str]]]) -> list[tuple[int, str]]:
    """Real processes that begin at the same moment; their exit codes and what they said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PORTAL_")}
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "portal", "migrate"],
            cwd=ROOT,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment
            | {"PORTAL_DATA_DIR": str(directory), "PORTAL_LOG_LEVEL": "ERROR"}
            | {f"PORTAL_{name}": value for name, value in settings.items()},
        )
        for directory, settings in starts
    ]
    return [(one.wait(60), one.stderr.read() if one.stderr else "") for one in begun]


@on_both_databases
@pytest.mark.parametrize("kept", ["one key", "keys of their own", "one directory"])
def test_of_three_starts_at_once_one_migrates_and_no_key_stays_that_is_not_the_databases(
    environment: dict[str, str], tmp_path: Path, kept: str
):
    app = create_app(load_config(environment, first_start=True))
    address = environment["PORTAL_DATABASE_URL"]
    for number in range(3):
        with app.app_context():
            db.drop_all()
            _drop_everything()
        directories = [tmp_path / f"{number}-{of}" for of in "abc"]
        if kept == "one directory":
            directories = directories[:1] * 3
        settings = {"DATABASE_URL": address}
        if kept == "one key":
            settings["SECRET_KEY"] = "one key for all of them " * 2
        done = _start_at_once([(directory, settings) for directory in directories])
        assert all("Traceback" not in said for _, said in done), done
        assert [code for code, _ in done].count(0) >= 1, done
        refused = [said for code, said in done if code]
        keys = {path.read_text() for path in map(_key_of, directories) if path.exists()}
        if kept == "one key":
            assert refused == []
            continue
        assert len(keys) == 1, done
        if kept == "one directory":
            assert refused == [], done
            assert not list(directories[0].glob("secret_key.*"))
        for said in refused:
            assert "opy" in said
        for directory in directories:
            if _key_of(directory).exists():
                again = start(directory, "-m", "portal", "merchant", "list", **settings)
                assert again.returncode == 0, again.stderr
    with app.app_context():
        _drop_everything()


def _key_of(directory: Path) -> Path:
    return directory / "secret_key"


def test_a_start_that_waited_for_anothers_migration_makes_no_copy_of_what_came_of_it(
    environment: dict[str, str], tmp_path: Path
):
    app = create_app(load_config(environment, first_start=True))
    with app.app_context():
        import flask_migrate

        flask_migrate.upgrade(revision=_versions(app)[1])
        db.engine.dispose()
    settings = {name: environment[f"PORTAL_{name}"] for name in ("DATABASE_URL", "SECRET_KEY")}
    done = _start_at_once([(tmp_path / "data", settings)] * 3)
    assert [code for code, _ in done] == [0, 0, 0], done
    assert len(list(tmp_path.glob("portal.db.before-*"))) == 1


@on_both_databases
def test_a_database_of_a_newer_version_is_told_from_one_to_migrate(environment: dict[str, str]):
    app = create_app(load_config(environment, first_start=True))
    with app.app_context():
        db.drop_all()
        schema.upgrade()
        with db.engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        try:
            for refused in (schema.upgrade, schema.refuse_newer):
                with pytest.raises(SettingError, match="newer than this version") as caught:
                    refused()
            assert "9999" in str(caught.value)
        finally:
            _drop_everything()


@on_both_databases
def test_a_database_from_before_the_first_release_says_what_to_do(environment: dict[str, str]):
    app = create_app(load_config(environment, first_start=True))
    with app.app_context():
        db.drop_all()
        schema.upgrade()
        with db.engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '0017'"))
        try:
            for refused in (schema.upgrade, schema.refuse_newer):
                with pytest.raises(SettingError, match="upgrades from 0031 on") as caught:
                    refused()
            assert "0017" in str(caught.value)
        finally:
            _drop_everything()


@pytest.mark.parametrize("part", ["web", "worker", "cli"])
def test_every_part_says_so(made: Path, part: str):
    with sqlite3.connect(made / "portal.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    said = sentence(start(made, *PARTS[part]))
    assert "This database is newer than this version of the portal" in said


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("UPDATE alembic_version SET version_num = '0031'", "is not migrated to this version yet"),
        ("DELETE FROM alembic_version", "has no tables yet"),
    ],
)
@pytest.mark.parametrize("part", ["deliver", "maintenance", "cron", "cli"])
def test_who_cannot_do_without_says_what_to_do_about_the_schema(
    made: Path, part: str, version: str, said: str
):
    with sqlite3.connect(made / "portal.db") as connection:
        connection.execute(version)
    connection.close()
    arguments = PARTS[part] if part == "cli" else ["worker.py", "--part", part]
    line = sentence(start(made, *arguments))
    assert said in line
    assert "bin/portal migrate" in line


@pytest.mark.parametrize("part", ["deliver", "maintenance", "cron"])
def test_no_worker_works_with_a_key_of_another_portal(made: Path, part: str):
    refused = start(made, "worker.py", "--part", part, SECRET_KEY="another key " * 4)
    assert "is not the one that this database was filled with" in sentence(refused)


def test_an_upgrade_keeps_a_copy_for_its_owner_alone(environment: dict[str, str], tmp_path: Path):
    app = create_app(load_config(environment, first_start=True))
    told: list[str] = []
    with app.app_context():
        import flask_migrate

        flask_migrate.upgrade(revision=_versions(app)[1])
        with db.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO merchant (slug, name, active, created_at) VALUES ('a', 'A', 1, 0)"
                )
            )
        schema.upgrade(told.append)
        db.engine.dispose()
    (copy,) = tmp_path.glob("portal.db.before-*")
    assert str(copy) in told[0]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with sqlite3.connect(copy) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT slug FROM merchant").fetchall() == [("a",)]
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        assert found == (_versions(app)[1],)
    connection.close()


def test_a_new_database_needs_no_copy(made: Path):
    assert list(made.glob("portal.db.before-*")) == []


def test_the_newest_copies_are_kept(tmp_path: Path):
    path = tmp_path / "portal.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE one (number INTEGER)")
    connection.close()
    copies = [snapshots.take(path, f"{number:04}") for number in range(5)]
    for number, copy in enumerate(copies):
        if copy.exists():
            os.utime(copy, (number, number))
    assert [copy.exists() for copy in copies] == [False, False, True, True, True]


def test_a_full_disk_keeps_the_schema_as_it_is(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    app = create_app(load_config(environment, first_start=True))
    with app.app_context():
        import flask_migrate

        before = _versions(app)[1]
        flask_migrate.upgrade(revision=before)
        monkeypatch.setattr(snapshots, "SPARE_BYTES", 10**18)
        with pytest.raises(SettingError, match="There is no room for a copy"):
            schema.upgrade()
        assert not schema.is_current()
        schema.upgrade(with_copy=False)
        assert schema.is_current()
        db.engine.dispose()
    assert list(tmp_path.glob("portal.db.before-*")) == []


@pytest.mark.parametrize("part", [*PARTS, "migrate"])
def test_an_empty_file_beside_a_key_is_a_database_that_was_lost(made: Path, part: str):
    for path in made.glob("portal.db*"):
        path.unlink()
    (made / "portal.db").touch()
    line = sentence(start(made, *(PARTS | {"migrate": ["-m", "portal", "migrate"]})[part]))
    assert str(made / "portal.db") in line
    assert "backup" in line
    assert (made / "portal.db").stat().st_size == 0
    (made / "portal.db").unlink()
    assert start(made, "-m", "portal", "migrate").returncode == 0


def test_a_first_start_that_was_killed_leaves_nothing_that_keeps_the_next_from_starting(
    tmp_path: Path,
):
    """Whatever it has made by then: only a file that is empty, or one with a key beside it."""
    (tmp_path / "portal.db").touch(0o600)
    assert start(tmp_path, "-m", "portal", "migrate").returncode == 0
    other = tmp_path / "other"
    killed = (
        "import os; from portal import cli; from portal.db import schema; "
        "schema.upgrade = lambda *_, **__: os._exit(9); cli.cli(['migrate'])"
    )
    assert start(other, "-c", killed).returncode == 9
    assert (other / "secret_key").exists()
    assert start(other, "-m", "portal", "migrate").returncode == 0


def test_asking_for_the_settings_makes_nothing(tmp_path: Path):
    done = start(tmp_path / "data", "-m", "portal", "settings")
    assert done.returncode == 0, done.stderr
    assert "PORTAL_PORT=8000" in done.stdout
    assert not (tmp_path / "data").exists()


def test_a_key_that_is_lost_for_good_is_followed_by_a_portal_of_its_own(made: Path):
    """The steps of the guide."""
    (made / "secret_key").unlink()
    (made / "lost").mkdir()
    for path in made.glob("portal.db*"):
        path.rename(made / "lost" / path.name)
    assert start(made, "-m", "portal", "migrate").returncode == 0
    assert start(made, "-m", "portal", "merchant", "list").returncode == 0
    with sqlite3.connect(made / "lost" / "portal.db") as old:
        assert old.execute("SELECT count(*) FROM event").fetchone() == (0,)
