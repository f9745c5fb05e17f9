"""Whose account a request is, before anybody has looked at what it brings: as the last one with the
same key or session was found to be; of who has shown nothing yet, the network's."""

from __future__ import annotations

import re

from portal.front.rsgi import Headers

MOST = 10_000
"""Credentials that are remembered; with more, all are learned again."""
_SESSION = re.compile(r"(?:^|;\s*)portal_session=([^;]+)")


class Credentials:
    """Those that were proven in this process."""

    def __init__(self) -> None:
        self._owners: dict[int, str] = {}

    def owner(self, headers: Headers, network: str) -> tuple[str, int | None]:
        """Whose a request is, and by what to remember whose it was."""
        shown = headers.get("authorization")
        if shown is None:
            found = _SESSION.search(headers.get("cookie") or "")
            if found is None:
                return network, None
            shown = found[1]
        credential = hash(shown)
        return self._owners.get(credential, network), credential

    def learn(self, credential: int, owner: str) -> None:
        """Remember whose a credential is."""
        if len(self._owners) >= MOST:
            self._owners.clear()
        self._owners[credential] = owner
