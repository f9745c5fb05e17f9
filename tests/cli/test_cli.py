"""bin/portal as people and scripts call it: in a process of its own, beside everything else."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from portal.cli import cli

ROOT = Path(__file__).resolve().parents[2]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def portal(environment: dict[str, str]) -> Call:
    """`portal("merchant", "list", stdin="")`: one call of the command line."""

    def call(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "portal", *arguments],
            cwd=ROOT,
            input=stdin,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call


@pytest.fixture
def migrated(portal: Call) -> Call:
    """The same, on a migrated database."""
    done = portal("migrate")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return portal


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, each as the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def refusal(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one sentence of a call that was refused."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if code == 1:
        assert done.stderr.startswith("Error: ")
        assert len(done.stderr.splitlines()) == 1
    return done.stderr


@pytest.mark.parametrize("words", list(commands(cli)), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...]):
    from click.testing import CliRunner

    answer = CliRunner().invoke(cli, [*words, "--help"])
    assert answer.exit_code == 0
    assert answer.output.startswith("Usage: ")
    explained = answer.output.splitlines()[2].strip()
    assert len(explained) > 15


@pytest.mark.whole
def test_a_store_is_set_up_from_a_script(migrated: Call):
    assert migrated("merchant", "create", "alice", "--active").stdout == "alice\n"
    key = migrated("api-key", "create", "--merchant", "alice", "--scope", "write").stdout
    assert key.startswith("whp_")
    assert len(key.split()) == 1
    (listed,) = json.loads(migrated("api-key", "list", "--merchant", "alice", "--json").stdout)
    assert listed["scope"] == "write"
    assert key.strip() not in json.dumps(listed)
    user = migrated(
        "user",
        "create",
        "--email",
        "robin@example.com",
        "--merchant",
        "alice",
        "--role",
        "owner",
        "--password",
        "-",
        stdin="correct horse battery\n",
    )
    assert user.stdout == "robin@example.com\n"
    (member,) = json.loads(migrated("member", "list", "--merchant", "alice", "--json").stdout)
    assert member["role"] == "owner"
    sent = migrated(
        "event",
        "send",
        "--merchant",
        "alice",
        "--type",
        "order.created",
        "--id",
        "mine-1",
        "--data",
        "-",
        "--json",
        stdin='{"total": "99.50"}',
    )
    assert json.loads(sent.stdout) == {"id": "mine-1", "deliveries": 0}
    assert json.loads(migrated("webhook", "list", "--merchant", "alice", "--json").stdout) == []
    removed = json.loads(migrated("retention", "run", "--dry-run", "--json").stdout)
    assert set(removed.values()) == {0}


@pytest.mark.whole
def test_what_is_refused_is_one_sentence_on_standard_error(migrated: Call):
    assert "no merchant with the slug nobody" in refusal(migrated("merchant", "activate", "nobody"))
    assert "slug" in refusal(migrated("merchant", "create", "Not A Slug"))
    migrated("merchant", "create", "alice")
    assert "already a merchant" in refusal(migrated("merchant", "create", "alice"))
    assert "order.created" in refusal(
        migrated("event", "send", "--merchant", "alice", "--type", "order.creatd")
    )
    refusal(
        migrated("event", "send", "--merchant", "alice", "--type", "order.created", "--data", "{")
    )


def test_wrong_usage_answers_2(portal: Call):
    assert "--merchant" in refusal(portal("webhook", "list"), 2)
    assert "No such command" in refusal(portal("webhok"), 2)


def test_arguments_that_are_no_text_are_refused_with_a_sentence(migrated: Call):
    wrong = os.fsdecode(b"a\xff\xfeb")
    for words in (
        ("merchant", "create", wrong),
        ("user", "create", "--email", f"{wrong}@example.com"),
        ("merchant", "create", "alice", "--name", wrong),
        (wrong,),
    ):
        said = refusal(migrated(*words), 2)
        assert "The argument “a\\xff\\xfeb" in said, words
        assert "is not UTF-8." in said


def test_a_database_that_is_not_migrated_names_the_command(portal: Call):
    assert "bin/portal migrate" in refusal(portal("merchant", "list"))


def test_a_wrong_setting_is_one_sentence(portal: Call, environment: dict[str, str]):
    environment["PORTAL_WORKERS"] = "many"
    assert "PORTAL_WORKERS='many' cannot be used" in refusal(portal("merchant", "list"))
    assert "PORTAL_WORKERS" in refusal(portal("settings"))


def test_the_settings_are_shown_without_secrets(portal: Call, environment: dict[str, str]):
    environment["PORTAL_HOSTS"] = "portal.internal, hooks.internal"
    shown = json.loads(portal("settings", "--json").stdout)
    assert shown["PORTAL_EGRESS_ALLOW"] == "127.0.0.1/32"
    assert shown["PORTAL_HOSTS"] == "hooks.internal portal.internal"
    assert environment["PORTAL_SECRET_KEY"] not in json.dumps(shown)


@pytest.mark.whole
def test_an_example_is_sent_about_the_object_that_is_named(
    migrated: Call, environment: dict[str, str]
):
    assert migrated("merchant", "create", "alice", "--active").returncode == 0
    done = migrated(
        "event",
        "send",
        "--merchant",
        "alice",
        "--type",
        "order.created",
        "--object-id",
        "1043",
        "--example",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    path = environment["PORTAL_DATABASE_URL"].removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as stored:
        ((object_id, data),) = stored.execute(
            "SELECT object_id, data FROM event JOIN event_payload ON event_id = id"
        ).fetchall()
    assert object_id == "1043"
    assert (json.loads(data)["id"], json.loads(data)["number"]) == ("1043", "SO-1043")
