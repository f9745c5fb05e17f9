"""The rules for addresses, names, passwords, slugs and roles, as errors of fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError

from portal import addresses
from portal.errors import FieldError, Invalid
from portal.models.user import MAX_PASSWORD, MEMBER_ROLES, MIN_PASSWORD

MAX_NAME = 200
MAX_SLUG = 63
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def refuse(errors: list[FieldError]) -> None:
    """Raise Invalid if there are errors."""
    if errors:
        raise Invalid(errors)


@contextmanager
def unique(pointer: str, message: str) -> Iterator[None]:
    """Raise Invalid for a field if the database finds that its value is taken: looking before
    writing would miss two requests at once."""
    try:
        yield
    except IntegrityError as error:
        raise Invalid([FieldError(pointer, message)]) from error


def clean_email(email: str) -> str:
    """The form in which addresses are kept and compared (portal.addresses)."""
    return addresses.clean_email(email)


def email_errors(email: str) -> list[FieldError]:
    """What is wrong with a clean e-mail address."""
    fault = addresses.email_fault(email)
    return [FieldError("/email", fault)] if fault else []


def password_errors(password: str) -> list[FieldError]:
    """What is wrong with a new password."""
    if len(password) < MIN_PASSWORD:
        return [FieldError("/password", f"Give a password of {MIN_PASSWORD} or more characters.")]
    if len(password) > MAX_PASSWORD:
        return [FieldError("/password", f"A password has at most {MAX_PASSWORD} characters.")]
    if any("\ud800" <= letter <= "\udfff" for letter in password):
        return [FieldError("/password", "The password is not valid text; type it as UTF-8.")]
    return []


def new_password_errors(password: str, repeated: str) -> list[FieldError]:
    """What is wrong with a new password that was typed twice."""
    errors = password_errors(password)
    if password != repeated:
        errors.append(FieldError("/repeated", "The two passwords differ; type both again."))
    return errors


def name_errors(name: str) -> list[FieldError]:
    """What is wrong with the name of a user, a merchant or a key; it may be empty."""
    if len(name) > MAX_NAME or not name.isprintable():
        return [FieldError("/name", f"A name has at most {MAX_NAME} visible characters.")]
    return []


def is_slug(text: str) -> bool:
    """Whether a text can name a merchant in an address."""
    return len(text) <= MAX_SLUG and _SLUG.fullmatch(text) is not None


def slug_errors(slug: str) -> list[FieldError]:
    """What is wrong with a merchant's slug."""
    if is_slug(slug):
        return []
    return [
        FieldError(
            "/slug",
            f"A slug has 1 to {MAX_SLUG} lower-case letters a–z, digits and hyphens, and no "
            "hyphen at either end: for example green-garden.",
        )
    ]


def role_errors(role: str | None) -> list[FieldError]:
    """What is wrong with a member's role."""
    if role in MEMBER_ROLES:
        return []
    return [FieldError("/role", "Choose the role viewer, editor or owner.")]
