"""What bin/audit makes of its tools' answers; standard library alone."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "static" / "vendor"


def sbom(source: str, target: str) -> int:
    """The parts list of the locked packages with the files under static/vendor added to it.

    The digests of the packages' files stay in the lock, which is what pip compares with.
    """
    document = json.loads(Path(source).read_text())
    for part in document["components"] + document["metadata"]["tools"]["components"]:
        part.pop("externalReferences", None)
        part.pop("description", None)
    document["components"] = [
        part | {"bom-ref": part["purl"]} for part in document["components"]
    ]
    document["dependencies"] = []
    for line in (VENDOR / "SHA256SUMS").read_text().splitlines():
        digest, path = line.split()
        match = re.fullmatch(r"(?P<name>[a-z-]+)-(?P<version>[\d.]+)/.+", path)
        assert match, path
        document["components"].append({
            "bom-ref": f"vendor/{path}", "type": "library", "name": match["name"],
            "version": match["version"], "purl": f"pkg:npm/{match['name']}@{match['version']}",
            "description": f"static/vendor/{path}",
            "hashes": [{"alg": "SHA-256", "content": digest}],
        })
    Path(target).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    print(f"{target}: {len(document['components'])} parts.")
    return 0


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
    sys.exit({"sbom": sbom, "advisories": advisories}[sys.argv[1]](*sys.argv[2:]))
