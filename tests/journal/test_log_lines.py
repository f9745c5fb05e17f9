"""The log: one format, whichever process writes it."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portal.journal.log_lines import Lines

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(
    r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) [\w.]+"
    r"( \[[0-9a-f]{32}\])?: \S.*"
)


def line_of(message: str, *arguments: object, created: float = 0.0) -> str:
    record = logging.LogRecord("portal.x", logging.WARNING, "", 1, message, arguments, None)
    if created:
        record.created, record.msecs = created, created % 1 * 1_000
    return Lines().format(record)


def test_a_line_has_time_level_name_and_message():
    assert LINE.fullmatch(line_of("Said %s.", "so"))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/St_Johns"])
def test_the_time_is_in_utc_whatever_the_machines_zone(zone: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        line = line_of("x", created=1_763_930_000.125)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert line == "2025-11-23T20:33:20.125Z WARNING portal.x: x"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("a\n2026-01-01T00:00:00.000Z WARNING portal.security: x", r"a\n2026-01-01"),
        ("a\rb", r"a\rb"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\u2028b", r"a\u2028b"),
        ("a\x85b", r"a\x85b"),
        ("a\x1b[33mb\x1b[0m", "ab"),
        ("zoë", "zoë"),
    ],
)
def test_what_a_stranger_wrote_begins_no_line(typed: str, shown: str):
    line = line_of("of %s", typed)
    assert f"of {shown}" in line
    assert len(line.splitlines()) == 1


def test_a_traceback_follows_its_line():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Lines())
    log = logging.Logger("portal.x")
    log.addHandler(handler)
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("It failed.")
    first, *rest = out.getvalue().splitlines()
    assert LINE.fullmatch(first)
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == "    ValueError: why"


def test_what_a_stranger_wrote_into_an_error_begins_no_line_and_steers_no_terminal():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Lines())
    log = logging.Logger("portal.x")
    log.addHandler(handler)
    forged = "2026-01-01T00:00:00.000Z WARNING portal.security: sign_in_refused from 192.0.2.1 (1)"
    try:
        raise ValueError(f"a\n{forged}\r{forged}\u2028{forged}\x1b[2J")
    except ValueError:
        log.exception("It failed.", stack_info=True)
    first, *rest = out.getvalue().splitlines()
    assert LINE.fullmatch(first)
    assert all(line.startswith("    ") for line in rest)
    assert any(forged in line for line in rest)
    assert "\x1b" not in out.getvalue()


def test_granian_has_no_format_of_its_own():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from granian.log import LogLevels, configure_logging, logger\n"
            "from portal.journal import log_lines\n"
            "import copy\n"
            "log_lines.set_up('INFO')\n"
            "configure_logging(LogLevels.warning, copy.deepcopy(log_lines.GRANIAN))\n"
            "logger.warning('one')\n"
            "configure_logging(LogLevels.info)\n"
            "log_lines.set_up('INFO')\n"
            "logger.warning('two')\n",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done
    assert all(map(LINE.fullmatch, lines))


def test_what_strangers_bring_about_at_will_has_no_line_for_each_time(tmp_path: Path):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            """
import sys
from portal import create_app
from portal.config import load_config
from portal.journal import log_lines
from portal.db.session import db
log_lines.set_up("INFO")
app = create_app(load_config({
    "PORTAL_DATA_DIR": sys.argv[1], "PORTAL_SECRET_KEY": "k" * 40,
    "PORTAL_REDIS_URL": "redis://127.0.0.1:1",
}, first_start=True))
with app.app_context():
    db.create_all()
client = app.test_client()
for _ in range(150):
    client.post("/sign-in", data={"email": "a"})
    client.get("/inspect/a-secret-token")
""",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("20")]
    assert any("portal.security" in line for line in lines)
    assert len(lines) < 20
    assert "a-secret-token" not in done.stdout + done.stderr
