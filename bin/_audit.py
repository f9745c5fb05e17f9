"""What bin/audit makes of the locks, of .venv and of its tools' answers."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "static" / "vendor"
MAKERS = {"pip", "setuptools", "wheel", "uv"}
"""What makes an environment, and the locks: no lock can hold it."""


def sbom(source: str, target: str) -> int:
    """The parts list of the locked packages with the files under static/vendor added to it.

    The digests of the packages' files stay in the lock, which is what pip compares with.
    """
    document = json.loads(Path(source).read_text())
    for part in document["components"] + document["metadata"]["tools"]["components"]:
        part.pop("externalReferences", None)
        part.pop("description", None)
    document["components"] = [part | {"bom-ref": part["purl"]} for part in document["components"]]
    document["dependencies"] = []
    for line in (VENDOR / "SHA256SUMS").read_text().splitlines():
        digest, path = line.split()
        match = re.fullmatch(r"(?P<name>[a-z-]+)-(?P<version>[\d.]+)/.+", path)
        assert match, path
        document["components"].append(
            {
                "bom-ref": f"vendor/{path}",
                "type": "library",
                "name": match["name"],
                "version": match["version"],
                "purl": f"pkg:npm/{match['name']}@{match['version']}",
                "description": f"static/vendor/{path}",
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        )
    Path(target).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    print(f"{target}: {len(document['components'])} parts.")
    return 0


def environment(site: str, *locks: str) -> int:
    """Name each difference between what is installed in the directory `site` and `locks`, files
    that pip compiled with a version for each package; 1 if there is one."""
    installed = {_plain(one.metadata["Name"]): one.version for one in distributions(path=[site])}
    locked = {name: version for lock in locks for name, version in _locked(lock).items()}
    named = " and ".join(locks)
    differences = [
        f"{name} {version} is in the lock, and not installed."
        if name not in installed
        else f"{name} {version} is in the lock, and {installed[name]} is installed."
        for name, version in sorted(locked.items())
        if installed.get(name) != version
    ] + [
        f"{name} {version} is installed, and not in the lock."
        for name, version in sorted(installed.items())
        if name not in locked.keys() | MAKERS
    ]
    for difference in differences:
        print(difference)
    if differences:
        print(f"NOT WHAT IS LOCKED: {len(differences)} differences from {named}.")
        return 1
    print(f"What is installed is what {named} lists, {len(locked)} packages.")
    return 0


def _locked(lock: str) -> dict[str, str]:
    """The version of each package that a lock has for this interpreter and system."""
    # Of the portal's own lock; advisories and parts list are made where it is not installed.
    from packaging.requirements import Requirement

    text = Path(lock).read_text().replace("\\\n", " ")
    pinned = [
        Requirement(line.split("--hash")[0]) for line in text.splitlines() if line[:1].isalnum()
    ]
    return {
        _plain(one.name): str(one.specifier).removeprefix("==")
        for one in pinned
        if one.marker is None or one.marker.evaluate()
    }


def _plain(name: str) -> str:
    """A package's name as it is compared (PyPA, name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def advisories(source: str) -> int:
    """Say what is known; the exit code of bin/audit."""
    path = Path(source)
    text = path.read_text() if path.exists() else ""
    found: list[dict[str, Any]] = json.loads(text)["dependencies"] if text else []
    skipped = [one for one in found if "skip_reason" in one]
    known = [(one, hole) for one in found for hole in one.get("vulns", [])]
    for one, hole in known:
        fixed = ", ".join(hole["fix_versions"]) or "nothing yet"
        print(f"{one['name']} {one['version']}: {hole['id']}, mended in {fixed}")
    if skipped or not found:
        print(f"NOT AUDITED: advisories on {len(skipped) or 'all'} packages cannot be had here.")
    if known:
        return 1
    if skipped or not found:
        return 2
    print(f"Nothing is known to be wrong with the {len(found)} locked packages.")
    return 0


if __name__ == "__main__":
    tasks = {"sbom": sbom, "environment": environment, "advisories": advisories}
    sys.exit(tasks[sys.argv[1]](*sys.argv[2:]))
