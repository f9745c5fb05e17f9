"""Headers that cannot be what their names say, and are as if they had not been sent: the framework
fails at some of them, and takes long to read others. A date that is none is passed over anyway (RFC
9110, 13.1), and so may be a range and what a client would rather have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug.http import parse_date

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_LETTERS = 2_048
"""Of a header that is read here, or of which the framework reads every part."""


def add_to(application: WSGIApplication) -> WSGIApplication:
    """The same application, which sees none of these."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for name, read in _READERS.items():
            value = environ.get(name)
            if value is not None and not _can_be_read(value, read):
                del environ[name]
        return application(environ, start_response)

    return answer


def _can_be_read(value: str, read: Callable[[str], object]) -> bool:
    if len(value) > MAX_LETTERS:
        return False
    try:
        read(value)
    except (ValueError, OverflowError):
        return False
    return True


def _address(value: str) -> None:
    # Its port is read when it is asked for.
    _ = urlsplit(value).port


def _anything(_value: str) -> None:
    pass


_READERS: dict[str, Callable[[str], object]] = {
    # An entity tag in place of a date is none, and is not failed at.
    **dict.fromkeys(
        ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE", "HTTP_DATE"),
        parse_date,
    ),
    **dict.fromkeys(("HTTP_REFERER", "HTTP_ORIGIN"), _address),
    **dict.fromkeys(
        (
            "HTTP_ACCEPT",
            "HTTP_ACCEPT_CHARSET",
            "HTTP_ACCEPT_ENCODING",
            "HTTP_ACCEPT_LANGUAGE",
            "HTTP_RANGE",
        ),
        _anything,
    ),
}
