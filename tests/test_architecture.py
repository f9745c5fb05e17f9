"""About the code itself: which way it imports, how long its modules are, what nobody forgot."""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from flask import Flask

from portal import queues
from portal.web import extensions
from portal.web.access import ACCESS

ROOT = Path(__file__).resolve().parent.parent
PORTAL = ROOT / "portal"
MODULES = sorted(PORTAL.rglob("*.py"))
MAX_LINES = 400

PURE = (
    "portal.signing",
    "portal.delivery.retry",
    "portal.delivery.throttle",
    "portal.outbound.egress",
    "portal.events.matching",
)
# From top to bottom. A package imports only from lines below its own, and of another package only
# the modules that stand beside its name: its doors. The rest is its own.
LEVELS: tuple[dict[str, str], ...] = (
    {"worker": ""},
    {"portal.__main__": ""},
    {"portal.cli": "", "wsgi": ""},
    {"portal.run": "first_start supervisor worker wsgi"},
    {"portal": ""},
    {"portal.application": ""},
    {"portal.front": "application", "portal.views": "page_limits"},
    {"portal.api": "blueprint door key_use limits shapes", "portal.jobs": ""},
    {"portal.upkeep": "certificates readiness redis_now refusals resealing retention vitals"},
    {
        "portal.counts": "counting overview statistics",
        "portal.diagnosis": "bodies diagnoses inspector outcomes reports shares signatures",
        "portal.web": "access cookies defects extensions form_limits hosts policy_reports "
        "protection proxies rendering snippets strange_headers",
    },
    {
        "portal.logs": "browse changes filters records saved search spellings stories",
        "portal.webhooks": "auth_rules checking fields kinds pair_rules previews recipes rotation "
        "rules setup",
    },
    {
        "portal.delivery": "actions drain health lanes",
        "portal.people": "accounts invitations members passkeys periods resets rules second_factor "
        "sessions storage_bounds tries",
        "portal.recovery": "batches recovery selection",
    },
    {
        "portal.events": "catalogue ingest matching moments rows rules schema_table",
        "portal.notices": "account_notices choices notices storage_notices",
    },
    {"portal.audit": "chain log"},
    {
        "portal.outbound": "access_tokens certificates defects egress libcurl looking "
        "outcome resolver response transport",
        "portal.signs": "",
        "portal.storage": "allowance measuring sizes",
    },
    {"portal.composing": "cell_limits cells compose curl echoes", "portal.queues": ""},
    {"portal.clock_watch": "", "portal.installation": ""},
    {"portal.models": "audit delivery inspector locks recovery statistics user webhook"},
    {
        "portal.db": "bulk engine_settings keyset listing room schema session slices turns wal",
        "portal.json_events": "",
    },
    {
        "portal.config": "",
        "portal.fairness": "company courtesy gate hashing places",
        "portal.redis_trouble": "",
        "portal.strange_keys": "",
        "portal.strict_json": "",
        "portal.vault": "",
    },
    {
        "portal.errors": "",
        "portal.ids": "",
        "portal.json_schema": "",
        "portal.journal": "log_lines request_ids security_log seldom",
        "portal.settings": "env_file private_files secret_key setting_values surroundings table",
        "portal.zones": "",
    },
    {
        "portal.addresses": "",
        "portal.characters": "",
        "portal.clock": "",
        "portal.database_errors": "",
        "portal.installed": "",
        "portal.json_values": "",
        "portal.processes": "",
        "portal.redis_replies": "",
        "portal.runtime": "",
        "portal.signing": "",
    },
)
LEVEL_OF = {name: number for number, names in enumerate(LEVELS) for name in names}
DOORS = {name: set(doors.split()) for names in LEVELS for name, doors in names.items()}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*whole.split("."))).with_suffix(".py").exists() or (
                    ROOT / Path(*whole.split(".")) / "__init__.py"
                ).exists()
                found.add(whole if is_module or not whole.startswith("portal") else node.module)
    return found


@cache
def crossings(path: Path) -> set[str]:
    """The modules of other packages that a module imports."""
    own = package_of(name_of(path))
    return {
        name
        for name in imports_of(path)
        if name.split(".")[0] == "portal" and package_of(name) != own
    }


@pytest.mark.parametrize("path", [*MODULES, ROOT / "wsgi.py", ROOT / "worker.py"], ids=name_of)
def test_a_package_imports_from_lines_below_its_own(path: Path):
    own = LEVEL_OF[package_of(name_of(path))]
    for imported in crossings(path):
        assert LEVEL_OF[package_of(imported)] > own, f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("package", DOORS)
def test_a_package_is_entered_by_its_doors(package: str):
    entered = {
        name.removeprefix(f"{package}.")
        for path in [*MODULES, ROOT / "wsgi.py", ROOT / "worker.py"]
        for name in crossings(path)
        if package_of(name) == package != name
    }
    assert entered == DOORS[package]


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_knows_no_framework_no_database_and_no_clock(name: str):
    outside = {"flask", "sqlalchemy", "redis", "rq", "requests", "time", "datetime", "random"}
    path = (ROOT / Path(*name.split("."))).with_suffix(".py")
    imported = {module.split(".")[0] for module in imports_of(path)}
    assert not imported & outside
    assert "portal" not in imported


WRITES = re.compile(
    r"\.commit$|\b(engine|session|connection)\.begin|raw_connection$|create_engine$|sqlite3\.connect$"
)


@pytest.mark.parametrize("path", [*MODULES, ROOT / "wsgi.py", ROOT / "worker.py"], ids=name_of)
def test_what_is_written_takes_the_one_way_that_waits_for_its_turn(path: Path):
    tree = tree_of(path)
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = set(filter(WRITES.search, called))
    if name_of(path) == "portal.db.session":
        assert "session.commit" in found, "writing() commits"
    elif name_of(path) == "portal.db.snapshots":
        assert found == {"sqlite3.connect"}, "it reads the database, and writes a file of its own"
    elif name_of(path) == "portal.db.schema":
        assert found == {"connection.begin"}
        assert "turn_to_write" in called, "it changes the schema in its turn"
    else:
        assert not found


def _root_of(target: ast.expr) -> str | None:
    """By which name something is reached that is written into; None for a plain name."""
    is_inside = False
    while isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        target, is_inside = target.value, True
    return target.id if isinstance(target, ast.Name) and is_inside else None


def _targets_of(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign | ast.Delete):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr"):
        targets = [ast.Attribute(node.args[0])]
    else:
        return []
    return [
        one
        for target in targets
        for one in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])
    ]


@pytest.mark.parametrize("path", [*MODULES, ROOT / "wsgi.py", ROOT / "worker.py"], ids=name_of)
def test_no_module_writes_into_another_or_into_names_of_its_own(path: Path):
    """What is remembered has a place in the runtime (portal.runtime)."""
    tree = ast.parse(path.read_text())
    others = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "portal"
        for alias in node.names
    }
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Global), f"line {node.lineno}"
        for target in _targets_of(node):
            assert _root_of(target) not in others, ast.unparse(node)


CONTAINERS = {"dict", "list", "set", "deque", "defaultdict", "local"}
HOLDS_NOTHING = {
    *("SQLAlchemy", "Migrate", "CSRFProtect", "LoginManager", "Limiter", "Blueprint"),
    *("ParamSpec", "TypeVar", "PasswordHasher", "Seldom"),
}
"""Flask's extensions find what is an application's through it; and how often a line stands in the
log is the process's (portal.journal.seldom)."""
OF_THE_PROCESS = {
    "portal.composing.cells": "children of the process, and what its forks forget of them",
    "portal.composing.templating": "templates as a cell has parsed them; it has no application",
    "portal.db.turns": "open files, which its forks close",
    "portal.events.schemas": "schemas as they were read: the same for whoever asks",
    "portal.fairness.courtesy": "for whom a thread works",
    "portal.fairness.hashing": "turns at the processors, also without an application",
    "portal.journal.request_ids": "which request a thread answers",
    "portal.journal.security_log": "how often a line stands in the log, which is the process's",
    "portal.json_events": "what a thread has cut out of a text",
    "portal.outbound.names": "threads that look names up, also without an application",
    "portal.processes": "its signals and its signs of life",
}


def _remembers(value: ast.expr) -> bool:
    """Whether what a module gives a name in small letters may be changed later."""
    if isinstance(value, ast.List | ast.Dict):
        return not ast.unparse(value)[1:-1]
    if not isinstance(value, ast.Call):
        return False
    made = ast.unparse(value.func).split("[")[0].split(".")[-1]
    return made in CONTAINERS or (made.lstrip("_")[:1].isupper() and made not in HOLDS_NOTHING)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_a_module_itself_remembers_is_truly_of_the_process(path: Path):
    tree = ast.parse(path.read_text())
    found = []
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        found += [name for value in values if not name.isupper() and _remembers(value)]
    if name_of(path) in OF_THE_PROCESS:
        assert found, "no longer needs to be listed"
    else:
        assert not found


def test_no_hook_is_installed_by_an_import():
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            calls = [node.value] if isinstance(node, ast.Expr) else []
            calls += getattr(node, "decorator_list", [])
            for call in calls:
                assert not re.search(r"\blisten(s_for)?\(", ast.unparse(call)), name_of(path)
    code = (
        "import portal.application, sqlalchemy as sa; from portal.audit import chain;"
        "from portal.db.session import db;"
        "print(sa.event.contains(db.session, 'before_commit', chain.chain_waiting))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert told.stdout == "False\n", told.stderr


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_can_be_read_at_one_sitting(path: Path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_functions_have_docstrings(path: Path):
    for node in tree_of(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name_of(path)}.{node.name}"


OPENS_CONNECTIONS = {
    "pycurl",
    "socket",
    "smtplib",
    "requests",
    "urllib.request",
    "urllib3",
    "httpx",
    "http.client",
    "asyncio",
    "subprocess",
    "os.system",
    "os.popen",
}
MAY = {
    "portal.outbound.transfer": "everything that goes to a target, through the guard",
    "portal.outbound.libcurl": "many of these at once",
    "portal.outbound.failures": "names what libcurl says; no socket",
    "portal.outbound.timing": "reads what libcurl has measured; no socket",
    "portal.outbound.names": "looks up the names that the transport connects to",
    "portal.outbound.egress": "asks the kernel which addresses are this machine's; sends nothing",
    "portal.composing.compose": "asks requests to encode a request, and sends none",
    "portal.notices.mail": "the operator's own mail server",
    "portal.notices.mail_servers": "the same, for mail",
    "portal.composing.cells": "starts processes that fill templates",
    "portal.run.children": "starts the portal's own processes",
    "portal.run.part": "the same",
    "portal.run.supervisor": "its own web process, and whether a port is free",
    "portal.queues": "the name of this machine",
    "portal.web.hosts": "the name of this machine",
    "portal.front.application": "a task for each request, instead of a thread",
    "portal.front.bodies": "the deadline of a body",
    "portal.front.large": "the turns of large bodies",
    "portal.front.threads": "a task that waits for its thread",
    "portal.front.wsgi": "parts of an answer, which its thread hands to the loop",
    "portal.front.pages": "the turns of pages",
    "portal.front.accounts": "tasks that wait for their turn; no socket",
    "portal.front.owing": "the same",
    "portal.front.strangers": "the same",
    "portal.front.sockets": "looks at the connections that the server accepted",
}


@pytest.mark.parametrize("path", [*MODULES, ROOT / "wsgi.py", ROOT / "worker.py"], ids=name_of)
def test_what_leaves_takes_the_one_way_through_the_guard(path: Path):
    opens = {
        name
        for name in imports_of(path)
        if any(name == one or name.startswith(f"{one}.") for one in OPENS_CONNECTIONS)
    }
    if name_of(path) in MAY:
        assert opens, "no longer needs to be listed"
    else:
        assert not opens


def test_every_route_says_who_may_call_it(app: Flask):
    routes = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert routes == set(ACCESS)


@pytest.mark.parametrize("path", queues.JOB_PATHS)
def test_every_queued_job_exists(path: str):
    module, _, name = path.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))


def test_vendored_files_are_what_their_makers_published():
    for sums in (ROOT / "static" / "vendor").rglob("SHA256SUMS"):
        for line in sums.read_text().splitlines():
            digest, name = line.split()
            content = (sums.parent / name.lstrip("*")).read_bytes()
            assert hashlib.sha256(content).hexdigest() == digest, name
    assert list((ROOT / "static" / "vendor").rglob("SHA256SUMS"))


@pytest.mark.parametrize(
    "path",
    [
        *sorted((PORTAL / "templates").rglob("*.html")),
        ROOT / "static" / "app.css",
        ROOT / "static" / "app.js",
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_pages_load_nothing_from_elsewhere_and_hold_no_inline_code(path: Path):
    text = path.read_text()
    assert not re.search(r"""(?:src|href|action)\s*=\s*["'](?:https?:)?//""", text)
    assert not re.search(r"""url\(\s*["']?(?:https?:)?//|@import\s+["']""", text)
    assert not re.search(
        r"""<script(?![^>]*\bsrc=)|<style|\sstyle\s*=|\son[a-z]+\s*=|hx-on""", text
    )


def test_nothing_is_left_for_later():
    for path in MODULES:
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text()), path


WRITTEN = [
    *MODULES,
    ROOT / "wsgi.py",
    ROOT / "worker.py",
    *sorted((PORTAL / "templates").rglob("*.html")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "bin").iterdir()),
    *sorted((ROOT / "migrations" / "versions").glob("*.py")),
]
CITED_FILE = re.compile(
    r"(?<![\w/.-])((?:docs|tests|portal|bin|migrations|examples|benchmarks)/[\w/-]+\.\w+)"
    r"(?![\w*{<…])|\b([A-Z]{4,}\.md)\b"
)
CITED_NAME = re.compile(r"(?<![\w./-])portal((?:\.[A-Za-z_]\w*)+)(?![\w-])")
NAMES_OF_BEFORE = {"bin/_run.py": "what a unit of an earlier version names"}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_cited_exists(path: Path):
    """Files by their paths, and of the modules of the package what they are said to hold."""
    text = path.read_text()
    for found in CITED_FILE.finditer(text):
        name = found[1] or found[2]
        assert (ROOT / name).exists() or name in NAMES_OF_BEFORE, name
    for found in CITED_NAME.finditer(text):
        names = found[1].split(".")[1:]
        where = PORTAL
        while names and ((where / names[0]).is_dir() or (where / f"{names[0]}.py").exists()):
            where /= names.pop(0)
        if names and where != PORTAL:
            module = where / "__init__.py" if where.is_dir() else where.with_suffix(".py")
            assert re.search(rf"\b{names[0]}\b", module.read_text()), found[0]


def test_a_limit_counts_in_the_blueprint_of_its_route(app: Flask):
    """Flask-Limiter looks at no request of another blueprint (extensions.LIMITED)."""
    limited = set()
    for path in sorted((PORTAL / "views").glob("*.py")) + sorted((PORTAL / "api").glob("*.py")):
        text = path.read_text()
        if re.search(r"\blimiter\.(limit|shared_limit|check)\b|\blimit_by_sender\(", text):
            limited |= set(re.findall(r'Blueprint\(\s*"(\w+)"', text))
    assert limited
    assert limited <= set(extensions.LIMITED)
    assert set(extensions.LIMITED) <= set(app.blueprints)


def test_tests_lie_where_what_they_test_lies():
    """Beside folders for the packages there are those of tests that go through everything."""
    through_everything = {"browser", "databases", "faults", "hostile"}
    packages = {path.name for path in PORTAL.iterdir() if (path / "__init__.py").exists()}
    folders = {
        path.name
        for path in (ROOT / "tests").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert folders - through_everything <= packages
    assert packages <= folders
