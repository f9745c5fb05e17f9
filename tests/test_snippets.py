"""The code that pages and docs give to receivers verifies what the portal signs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portal import snippets
from portal.delivery.signing import Signer, new_secret

BODY = '{"id":"evt_1","data":{"name":"Grüße"}}'
# How each language's file is run: what comes after its code, the file's name, the command.
RUNS = {
    "python": (
        "import json, sys\ni = json.load(sys.stdin)\n"
        'print(verify(i["secret"], i["headers"], i["body"].encode()))\n',
        "verify.py", [sys.executable],
    ),
    "node": (
        'import { readFileSync } from "node:fs";\n'
        "const i = JSON.parse(readFileSync(0));\n"
        "console.log(verify(i.secret, i.headers, Buffer.from(i.body)));\n",
        "verify.mjs", ["node"],
    ),
    "php": (
        "$i = json_decode(file_get_contents('php://stdin'), true);\n"
        "echo verify($i['secret'], $i['headers'], $i['body']) ? 'true' : 'false';\n",
        "verify.php", ["php"],
    ),
    "ruby": (
        'require "json"\ni = JSON.parse($stdin.read)\n'
        'puts verify(i["secret"], i["headers"], i["body"])\n',
        "verify.rb", ["ruby"],
    ),
}


def run(language: str, folder: Path, secret: str, headers: dict[str, str], body: str) -> bool:
    more, name, command = RUNS[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    code = {one.key: one.code for one in snippets.verify()}[language]
    (folder / name).write_text(f"{code}\n{more}")
    answer = subprocess.run(
        [*command, str(folder / name)], capture_output=True, text=True, timeout=60, check=True,
        input=json.dumps({"secret": secret, "headers": headers, "body": body}),
    )
    return {"true": True, "false": False}[answer.stdout.strip().lower()]


def signed(secrets: list[str], moment: int) -> dict[str, str]:
    headers = Signer(secrets).headers("evt_1", moment, BODY.encode())
    return {name.lower(): value for name, value in headers}


@pytest.mark.parametrize("language", RUNS)
def test_a_snippet_accepts_what_the_portal_signs_and_nothing_else(language: str, tmp_path: Path):
    secret, old = new_secret(), new_secret()
    moment = int(time.time())
    fresh = signed([secret], moment)
    assert run(language, tmp_path, secret, fresh, BODY)
    assert run(language, tmp_path, old, signed([secret, old], moment), BODY)
    assert not run(language, tmp_path, secret, fresh, BODY.replace("Grüße", "Grusse"))
    assert not run(language, tmp_path, old, fresh, BODY)
    assert not run(language, tmp_path, secret, signed([secret], moment - 600), BODY)


def test_the_go_snippet_accepts_what_the_portal_signs(tmp_path: Path):
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    code = {one.key: one.code for one in snippets.verify()}["go"]
    secret = new_secret()
    headers = signed([secret], int(time.time()))
    (tmp_path / "go.mod").write_text("module webhook\n\ngo 1.19\n")
    (tmp_path / "verify.go").write_text(code)
    sets = "\n".join(f'\theaders.Set("{name}", "{value}")' for name, value in headers.items())
    (tmp_path / "verify_test.go").write_text(
        'package webhook\n\nimport ("net/http"; "testing")\n\n'
        "func TestVerify(t *testing.T) {\n\theaders := http.Header{}\n" + sets
        + f"\n\tbody := []byte(`{BODY}`)\n"
        f'\tif !Verify("{secret}", headers, body) {{ t.Fatal("refused") }}\n'
        f'\tif Verify("{secret}", headers, append(body, 32)) {{ t.Fatal("accepted") }}\n}}\n'
    )
    subprocess.run(["go", "test", "./..."], cwd=tmp_path, check=True, timeout=180)
