"""Whose account a request is, before anybody has looked at what it brings: as the last one with the
same key or session was found to be; of who has shown nothing yet, the network's."""

from __future__ import annotations

import re
from collections import Counter

from portal.access import key_in
from portal.courtesy import NOBODYS
from portal.front.rsgi import Headers

MOST = 10_000
"""Credentials that are remembered; with more, all are learned again."""
MOST_UNPROVEN = 512
"""Requests in a row that may show a credential without its being looked at, as files do: it may be
somebody's no more, and who has it still would use up what its owner has."""
_SESSION = re.compile(r"(?:^|;\s*)portal_session=([^;]+)")


class Credentials:
    """Those that were proven in this process."""

    def __init__(self) -> None:
        self._owners: dict[int, str] = {}
        self._unproven: Counter[int] = Counter()

    def owner(self, headers: Headers, network: str) -> tuple[str, int | None]:
        """Whose a request is, and by what to remember whose it was."""
        shown = headers.get("authorization")
        if shown is None:
            session = _SESSION.search(headers.get("cookie") or "")
            if session is None:
                return network, None
            shown = session[1]
        else:
            # However it is written.
            shown = key_in(shown) or shown
        credential = hash(shown)
        found = self._owners.get(credential)
        if found is None:
            return network, credential
        self._unproven[credential] += 1
        if self._unproven[credential] > MOST_UNPROVEN:
            self._forget(credential)
        return found, credential

    def learn(self, credential: int, owner: str) -> None:
        """Remember whose a credential was found to be, or that it is courtesy.NOBODYS."""
        if owner == NOBODYS:
            self._forget(credential)
            return
        if len(self._owners) >= MOST:
            self._owners.clear()
            self._unproven.clear()
        self._owners[credential] = owner
        self._unproven.pop(credential, None)

    def _forget(self, credential: int) -> None:
        self._owners.pop(credential, None)
        self._unproven.pop(credential, None)
