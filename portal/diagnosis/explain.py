"""Which diagnosis an attempt has. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urljoin

from portal.diagnosis import bodies, diagnoses
from portal.diagnosis.diagnoses import Diagnosis


def diagnose(
    ok: bool,
    status: int | None,
    error: str | None,
    headers: Iterable[tuple[str, str]] | None = None,
    body: bytes | None = None,
    target: str | None = None,
) -> Diagnosis:
    """What came of an attempt. `headers` and `body` are the answer's, `target` where it
    redirects to (`redirect_target`)."""
    if error is not None:
        return diagnoses.ERRORS.get(error, diagnoses.ERRORS["request_failed"])
    if status is None:
        return diagnoses.NO_ANSWER
    if ok and bodies.is_web_page(headers, body):
        return diagnoses.WEB_PAGE
    if 300 <= status < 400:
        return diagnoses.SIGN_IN if target and _looks_like_sign_in(target) else diagnoses.REDIRECT
    return diagnoses.STATUSES.get(status) or diagnoses.CLASSES.get(status // 100, diagnoses.ODD)


def redirect_target(
    status: int | None, uri: str, headers: Iterable[tuple[str, str]] | None
) -> str | None:
    """Where a redirect leads, as an absolute URL; None when the answer is no redirect."""
    if status is None or not 300 <= status < 400:
        return None
    for name, value in headers or []:
        if name.lower() == "location":
            try:
                return urljoin(uri, value.strip())
            except ValueError:
                return value
    return None


def _looks_like_sign_in(url: str) -> bool:
    return any(word in url.lower() for word in ("login", "log-in", "signin", "sign-in", "/sso"))
