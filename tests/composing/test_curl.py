"""What is copied as cURL makes the same request in any shell, and nothing beside it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.composing.curl import as_curl

SHELLS = {
    "sh": ["sh"],
    "bash": ["bash"],
    "posix": ["bash", "--posix"],
    # As it reads what is typed: with the commands before.
    "typed": ["bash", "--norc", "-o", "history", "-o", "histexpand"],
    "dash": ["dash"],
    "zsh": ["zsh", "-f"],
    "ksh": ["ksh"],
    "busybox": ["busybox", "sh"],
}
HERE = [name for name, command in SHELLS.items() if shutil.which(command[0])]
NASTY = (
    "$(touch x)",
    "`touch x`",
    "'",
    "';touch x;'",
    "\\'",
    "$'",
    '"',
    "\\",
    "\\u0041",
    "%s",
    "%%",
    "!!",
    "!-1",
    "\n",
    "\n\n",
    "\r",
    "\x03",
    "\x1b[201~",
    "\x7f",
    "\x85",
    "\x9b",
    "\t",
    "ü",
    "😀",
    "-n",
    "=ls",
    "~",
    "*",
    "#",
    "&",
    "|touch x",
    ";",
    "\u2028",
    "\u202e",
)
TEXTS = st.lists(
    st.one_of(st.sampled_from(NASTY), st.characters(exclude_categories=["Cs"])), max_size=8
).map("".join)


CURL = """import os, sys
read = sys.stdin.buffer.read() if "@-" in sys.argv else b""
sys.stdout.buffer.write(bytes(1).join([*map(os.fsencode, sys.argv[1:]), read]))
"""


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder with a `curl` in its `bin` that writes down its arguments and what it reads."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "here").mkdir()
    curl = tmp_path / "bin" / "curl"
    curl.write_text(f"#!{sys.executable} -IS\n{CURL}")
    curl.chmod(0o755)
    return tmp_path


def given_to_curl(shell: str, line: str, folder: Path, locale: str = "C.UTF-8") -> list[str]:
    """The arguments that a shell gives to curl, and what curl reads: a line as it is typed."""
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        SHELLS[shell],
        input=f"true 1st\n{line}\n".encode(),
        capture_output=True,
        cwd=folder / "here",
        env={"LC_ALL": locale, "PATH": path},
    )
    assert (done.returncode, done.stderr) == (0, b""), line
    assert not list((folder / "here").iterdir()), line
    return done.stdout.decode().split("\0")


def test_a_copied_curl_line_is_quoted_for_the_shell():
    line = as_curl("POST", "https://a.example/?q='x'", [("X-A", "it's"), ("Empty", "")], '@{"a":1}')
    words = shlex.split(line.replace("\\\n", ""))
    assert words == [
        "curl",
        "--request",
        "POST",
        "https://a.example/?q='x'",
        "--header",
        "X-A: it's",
        "--header",
        "Empty;",
        "--data-raw",
        '@{"a":1}',
    ]
    line = as_curl("GET", "https://a.example/", [], None, shows_certificate=True)
    assert shlex.split(line.replace("\\\n", ""))[4:] == [
        "--cert",
        "client.pem",
        "--key",
        "client.key",
    ]


@pytest.mark.parametrize("shell", HERE)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(TEXTS, min_size=4, max_size=12))
def test_whatever_is_in_it_is_the_very_text_in_every_shell(
    empty: Path, shell: str, texts: list[str]
):
    url, body, *values = [text.replace("\0", "") for text in texts]
    line = as_curl("POST", url, [("X", value) for value in values], body)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", line)
    headers = [part for value in values for part in ("--header", f"X: {value}" if value else "X;")]
    assert given_to_curl(shell, line, empty) == [
        "--request",
        "POST",
        url,
        *headers,
        "--data-raw",
        body,
        "",
    ]


@pytest.mark.parametrize("body", ["-n\r", "-v x\x7f", "--\x7f", "%n\x7f", "!!\x7f", "\x7f\n\n"])
@pytest.mark.parametrize("shell", HERE)
def test_what_means_something_to_printf_is_text(empty: Path, shell: str, body: str):
    line = as_curl("POST", "https://a.example/", [], body)
    assert given_to_curl(shell, line, empty)[-2] == body


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("shell", HERE)
def test_what_closed_a_quote_in_some_shells_runs_nothing(empty: Path, shell: str, locale: str):
    body = """it's \x7f';touch x;'\x85 $(touch x) `touch x` %n \\"""
    line = as_curl("POST", "https://a.example/", [], body)
    assert given_to_curl(shell, line, empty, locale)[-2] == body


@pytest.mark.parametrize("shell", HERE)
def test_a_body_that_no_argument_can_hold_is_piped(empty: Path, shell: str):
    body = "a\0b%s\\'$(touch x)!!\x7f\n\n"
    line = as_curl("POST", "https://a.example/", [], body)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", line)
    arguments = ["--request", "POST", "https://a.example/", "--data-binary", "@-"]
    assert given_to_curl(shell, line, empty) == [*arguments, *body.split("\0")]
