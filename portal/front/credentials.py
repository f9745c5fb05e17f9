"""Whose account a request is, before anybody has looked at what it brings: as the last one with the
same key or session was found to be; of who has shown nothing yet, the site's. A sign-in that comes
to this process for the first time has an account of its own: the portal has signed it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

from portal.fairness.courtesy import NOBODYS
from portal.front import refusals
from portal.front.rsgi import Headers
from portal.web import cookies
from portal.web.access import key_in

MOST = 10_000
"""Credentials that are remembered; of more, those that were shown last."""
MOST_UNPROVEN = 512
"""Requests in a row that may show a credential without its being looked at, as files do: it may be
somebody's no more, and who has it still would use up what its owner has."""


def session_of(headers: Headers) -> str | None:
    """What a browser sends to be known again, however it is written: cookies are read as for the
    application, and of the session's what is signed, since a signature can be spelled in any
    number of ways. None where there is none. Raises Refused for more cookies than are read."""
    shown = _session_cookie(headers)
    return shown and (shown.rpartition(".")[0] or shown)


def _session_cookie(headers: Headers) -> str | None:
    if "cookie" not in headers:
        return None
    header = cookies.joined(value for name, value in headers.items() if name == "cookie")
    if cookies.are_too_many(header):
        raise refusals.large_cookies()
    return cookies.own(header).get(cookies.SESSION)


def session_given(headers: Iterable[tuple[str, str]]) -> int | None:
    """By what to remember the session that an answer with these headers gives; None where it gives
    none. The browser sends it next: a sign-in is known from its first page on, and stays so when
    its session has something new to say."""
    for name, value in headers:
        if name.lower() == "set-cookie" and value.startswith(f"{cookies.SESSION}="):
            given = value.partition(";")[0].partition("=")[2].rpartition(".")[0]
            return hash(given) if given else None
    return None


class Credentials:
    """Those that were proven in this process."""

    def __init__(self, is_sign_in: Callable[[str], bool] = lambda _cookie: False) -> None:
        """`is_sign_in` says whether the portal gave a session's cookie to somebody who signed
        in; that may have ended since (portal.web.access.signed_in)."""
        self._is_sign_in = is_sign_in
        self._owners: OrderedDict[int, str] = OrderedDict()
        """Those that were shown last are last."""
        self._ended: OrderedDict[int, None] = OrderedDict()
        """Sign-ins that were found to be nobody's any more."""
        self._unproven: Counter[int] = Counter()

    def owner(
        self, headers: Headers, session: str | None, site: str, *, is_page: bool = False
    ) -> tuple[str, int | None]:
        """Whose a request with this session (session_of) is, and by what to remember whose it was:
        of a page, a session before a key, which makes none."""
        key = headers.get("authorization")
        shown = session if is_page or key is None else None
        if shown is None:
            if key is None:
                return site, None
            # However it is written.
            shown = key_in(key) or key
        credential = hash(shown)
        found = self._owners.get(credential)
        if found is None:
            if shown is not session or not self._begins(credential, headers):
                return site, credential
            # One for each sign-in: who has many gets no more of anybody's than a first page each.
            found = self._owners[credential] = f"sign-in {credential}"
        self._owners.move_to_end(credential)
        self._unproven[credential] += 1
        if self._unproven[credential] > MOST_UNPROVEN:
            self._end(credential)
        return found, credential

    def _begins(self, credential: int, headers: Headers) -> bool:
        """Whether a session that is not known here is a sign-in all the same: one that was made in
        another process, or before this one began. Its first page would wait behind strangers."""
        cookie = None if credential in self._ended else _session_cookie(headers)
        return cookie is not None and self._is_sign_in(cookie)

    def learn(self, credential: int, owner: str) -> None:
        """Remember whose a credential was found to be, or that it is courtesy.NOBODYS."""
        if owner == NOBODYS:
            self._end(credential)
            return
        self._ended.pop(credential, None)
        self._owners[credential] = owner
        self._owners.move_to_end(credential)
        self._unproven.pop(credential, None)
        while len(self._owners) > MOST:
            self._forget(next(iter(self._owners)))

    def _end(self, credential: int) -> None:
        # What strangers make up is not among the owners, and so fills nothing here.
        if credential in self._owners:
            self._ended[credential] = None
            while len(self._ended) > MOST:
                self._ended.popitem(last=False)
        self._forget(credential)

    def _forget(self, credential: int) -> None:
        self._owners.pop(credential, None)
        self._unproven.pop(credential, None)
