"""What can be set and called is documented."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from flask import Flask

from portal.config import SETTINGS, Setting
from portal.webhooks import fields as webhook_fields

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_documented_with_its_default(setting: Setting):
    lines = (ROOT / "docs" / "settings.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"| `PORTAL_{setting.name}` |")]
    assert setting.help in line
    assert not setting.default or f"`{setting.default}`" in line


def test_every_endpoint_is_documented(app: Flask):
    text = (ROOT / "docs" / "api.md").read_text()
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("api."):
            path = rule.rule.removeprefix("/api/v1")
            path = path.replace("<path:", "<").replace("<string:", "<")
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                assert path.split("<")[0].rstrip("/") in text, f"{method} {path}"


@pytest.mark.parametrize("field", [*webhook_fields.FIELDS, "secret"])
def test_every_field_of_a_webhook_is_documented(field: str):
    rows = (ROOT / "docs" / "api.md").read_text().partition("## Webhooks")[2].splitlines()
    assert any(line.startswith("| ") and f"`{field}`" in line.split(" | ")[0] for line in rows)


def test_the_changelog_has_an_unreleased_part():
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()


def test_every_document_that_is_linked_exists():
    for document in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]:
        for part in document.read_text().split("](")[1:]:
            target = part.split(")")[0].split("#")[0]
            if target and "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


SCRIPTS = sorted(path.name for path in (ROOT / "bin").iterdir() if path.name[0] != "_")


def test_every_script_says_in_a_line_what_it_does():
    done = subprocess.run([ROOT / "bin" / "help"], capture_output=True, text=True, check=True)
    listed = dict(line.removeprefix("bin/").split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(listed) == SCRIPTS
    for name, sentence in listed.items():
        assert sentence.endswith("."), name
        assert os.access(ROOT / "bin" / name, os.X_OK), name


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_in_the_documents(name: str):
    documents = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
    assert any(re.search(rf"\bbin/{name}\b", path.read_text()) for path in documents)


def test_a_commit_is_checked_as_ci_checks_it_and_fetches_nothing():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
    (own,) = hooks["repos"]
    assert [hook["entry"] for hook in own["hooks"]] == ["bin/check", ".ci/run"]
    assert {hook["language"] for hook in own["hooks"]} == {"system"}
    assert "exec bin/test\n" in (ROOT / ".ci" / "run").read_text()
    assert '"$root/bin/check"\n' in (ROOT / "bin" / "test").read_text()


def test_files_are_as_editors_are_told_to_write_them():
    kinds = {".css", ".html", ".js", ".md", ".mjs", ".py", ".svg", ".toml", ".yaml"}
    folders = ("benchmarks", "bin", "docs", "examples", "migrations", "portal", "static", "tests")
    paths = [*ROOT.glob("*"), *(path for name in folders for path in (ROOT / name).rglob("*"))]
    for path in paths:
        if path.suffix in kinds and "vendor" not in path.parts:
            text = path.read_bytes()
            assert text.endswith(b"\n") or not text, path
            assert not re.search(rb"[ \t]$|\r", text, re.MULTILINE), path


def test_every_promise_about_security_names_a_test_that_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text())
    assert len(named) > 30
    for path, name in named:
        assert re.search(rf"def {name}\(", (ROOT / path).read_text()), f"{path}::{name}"


def test_the_parts_list_is_that_of_the_lock():
    parts = json.loads((ROOT / "docs" / "sbom.json").read_text())["components"]
    locked = re.findall(r"^([\w.-]+)==([\w.+-]+)", (ROOT / "requirements.txt").read_text(), re.M)
    vendored = [
        line.split()[1].split("/")[0].rsplit("-", 1)
        for line in (ROOT / "static" / "vendor" / "SHA256SUMS").read_text().splitlines()
    ]
    listed = [(part["name"], part["version"]) for part in parts]
    assert sorted(listed) == sorted([*locked, *map(tuple, vendored)]), "run bin/audit"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "KEY is missing"),
        (
            {"KEY": "whp_x", "API": "http://127.0.0.1:1/api/v1"},
            "No portal answers at http://127.0.0.1",
        ),
    ],
)
def test_an_example_that_cannot_begin_says_why(environment: dict[str, str], says: str):
    done = subprocess.run(
        [sys.executable, "-m", "examples.setup", "examples/erp/webhook.json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(says)
    assert "Traceback" not in done.stderr


def test_who_starts_the_server_by_hand_starts_it_without_websockets():
    # The portal has none, and to a request for one its answer could not be given.
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for line in path.read_text().splitlines():
            if line.startswith("granian --interface rsgi"):
                assert "--no-ws" in line.split(), path.name
