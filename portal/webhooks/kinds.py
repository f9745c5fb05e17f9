"""The kinds of a webhook's fields: how a value is cleaned, how it is shown with its secrets masked,
and what its JSON Schema is. Pure.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portal import json_schema
from portal.characters import NOT_IN_LINE
from portal.errors import FieldError, pointer
from portal.json_schema import Schema, or_null, ref
from portal.models.webhook import Auth, Pair, Webhook
from portal.strict_json import whole
from portal.webhooks import auth_rules, pair_rules, url_rules
from portal.webhooks.auth_rules import SecretContext, clean_auth
from portal.webhooks.pair_rules import clean_pairs
from portal.webhooks.url_rules import UrlContext, clean_url

MAX_PATTERN = 255
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}(?::.{1,255})?", re.DOTALL)


@dataclass(frozen=True)
class RuleContext:
    """What the rules need to know beside the fields themselves.

    `is_known` and `nearest` ask the catalogue; `try_out` renders a template of a field
    (`query_params`, `headers`, `body_template`) for the events of a webhook and raises
    ValueError with a sentence; `seal` encrypts a secret value and `unseal` decrypts it.
    """

    reach: UrlContext
    is_known: Callable[[str], bool]
    nearest: Callable[[str], list[str]]
    try_out: Callable[[str, str, Mapping[str, Any]], None]
    seal: Callable[[str], str]
    unseal: Callable[[str], str]


@dataclass
class FieldCheck:
    """A field that is being checked: its name, its `stored` value, and the errors found so far."""

    name: str
    stored: Any
    context: RuleContext
    errors: list[FieldError] = field(default_factory=list)

    def wrong(self, message: str, *parts: str) -> None:
        """Add an error about the whole field or a part of it."""
        self.errors.append(FieldError(pointer(self.name, *parts), message))


class Kind(ABC):
    """A kind of field."""

    schema: Schema

    @abstractmethod
    def clean(self, value: Any, check: FieldCheck) -> Any:
        """The value as it is stored, with its secrets sealed. Errors are added to the check; then
        the result is not used."""

    def shown(self, value: Any) -> Any:
        """The stored value as the API shows it, with its secrets masked."""
        return value


class Text(Kind):
    """One line of text; sentences call it by its `noun`."""

    def __init__(self, noun: str, most: int):
        self._noun, self.most = noun, most
        self.schema = json_schema.text(json_schema.LINE, most=most)

    def clean(self, value: Any, check: FieldCheck) -> str:
        """Text without spaces around it."""
        if not isinstance(value, str):
            check.wrong(f"The {self._noun} is text; send it in quotes.")
        elif len(value) > self.most:
            check.wrong(
                f"The {self._noun} has {len(value):,} characters; at most {self.most} are possible."
            )
        elif NOT_IN_LINE.search(value):
            check.wrong(f"The {self._noun} holds a line break or control character; leave it out.")
        else:
            return value.strip()
        return ""


class Url(Kind):
    """The address that requests go to (portal.webhooks.url_rules)."""

    schema = json_schema.text(json_schema.HTTP_URL, most=url_rules.MAX_URL)

    def clean(self, value: Any, check: FieldCheck) -> str:
        """The URL in its plain form."""
        if not isinstance(value, str):
            check.wrong("The URL is text such as https://erp.example.com/hooks.")
            return ""
        try:
            return clean_url(value, check.context.reach)
        except ValueError as error:
            check.wrong(str(error))
            return ""


class Choice(Kind):
    """One of several words."""

    def __init__(self, noun: str, options: Sequence[str]):
        self._noun, self.options = noun, tuple(options)
        self.schema = json_schema.choice(options)

    def clean(self, value: Any, check: FieldCheck) -> str:
        """The word."""
        if value not in self.options:
            check.wrong(f"The {self._noun} is one of {', '.join(self.options)}.")
            return self.options[0]
        return str(value)


class Flag(Kind):
    """Yes or no."""

    schema = json_schema.FLAG

    def clean(self, value: Any, check: FieldCheck) -> bool:
        """The same."""
        if not isinstance(value, bool):
            check.wrong(f"{check.name} is true or false.")
            return False
        return value


class Whole(Kind):
    """A whole number from 1 on, or nothing for the portal's own setting. The sentence about a wrong
    one begins with `noun` in place of the field's name, if given; `unit` is what is counted."""

    def __init__(self, most: int, unit: str, noun: str = ""):
        self.most, self._unit, self._noun = most, unit, noun
        self.schema = or_null(json_schema.whole(1, most))

    def clean(self, value: Any, check: FieldCheck) -> int | None:
        """The number."""
        if value is None:
            return None
        if not _is_within(value, 1, self.most):
            check.wrong(
                f"{self._noun or check.name} is a whole number of {self._unit} from 1 to "
                f"{self.most:,}, or nothing for the portal's own."
            )
            return None
        return int(value)


class Delays(Kind):
    """Seconds to wait before each attempt, or nothing for the portal's own setting."""

    def __init__(self, noun: str, most: int, longest: int):
        self._noun, self._most, self._longest = noun, most, longest
        self.schema = or_null(json_schema.array(json_schema.whole(0, longest), most, 1))

    def clean(self, value: Any, check: FieldCheck) -> list[int] | None:
        """The seconds."""
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or not 1 <= len(value) <= self._most
            or not all(_is_within(delay, 0, self._longest) for delay in value)
        ):
            check.wrong(
                f"The {self._noun} is 1 to {self._most} delays in whole seconds, each from 0 to "
                f"{self._longest}, or nothing for the portal's own."
            )
            return None
        return [int(delay) for delay in value]


class Template(Kind):
    """Liquid of several lines, or nothing."""

    def __init__(self, noun: str, most: int):
        self._noun, self._most = noun, most
        self.schema = or_null(json_schema.text(json_schema.NO_NUL, most=most))

    def clean(self, value: Any, check: FieldCheck) -> str | None:
        """The text; None where it is empty."""
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            check.wrong(f"The {self._noun} is text, or null for the event itself.")
        elif len(value.encode("utf-8", "replace")) > self._most:
            check.wrong(f"The {self._noun} is longer than {self._most // 1024} KiB.")
        elif "\0" in value:
            check.wrong(f"The {self._noun} holds a NUL character; leave it out.")
        else:
            return value
        return None


class Pairs(Kind):
    """Names and values (portal.webhooks.pair_rules), some of them secret."""

    def __init__(self, name: str):
        self.schema = pair_rules.SCHEMAS[name]

    def clean(self, value: Any, check: FieldCheck) -> list[Pair]:
        """The pairs."""
        pairs, errors = clean_pairs(check.name, value, check.stored, check.context.seal)
        check.errors += errors
        return pairs

    def shown(self, value: list[Pair]) -> Any:
        """An object, each secret masked."""
        return Webhook.shown(value)


class Authentication(Kind):
    """How requests authenticate (portal.webhooks.auth_rules)."""

    schema = auth_rules.SCHEMA

    def clean(self, value: Any, check: FieldCheck) -> Auth | None:
        """Its type and the fields of that type."""
        context = check.context
        means = SecretContext(
            context.seal, context.unseal, lambda url: clean_url(url, context.reach)
        )
        auth, errors = clean_auth(value, check.stored, means)
        check.errors += errors
        return auth

    def shown(self, value: Auth | None) -> Auth | None:
        """The same with its secret masked."""
        return Webhook.shown_auth(value)


class Triggers(Kind):
    """The event types that trigger a webhook: `order.created`, `order.*`, `*`."""

    def __init__(self, most: int):
        self._most = most
        self.schema = json_schema.array(ref("Trigger"), most, 1)

    def clean(self, value: Any, check: FieldCheck) -> list[str]:
        """The patterns, each once."""
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            check.wrong('events is a list such as ["order.created", "customer.*"].')
            return []
        if not value:
            check.wrong('Choose at least one event, such as "order.created", or "*" for all.')
        if len(value) > self._most:
            check.wrong(
                f"There are {len(value):,} event triggers; at most {self._most} are possible. A "
                "group such as order.* stands for many."
            )
            return []
        for pattern in value:
            if pattern != "*" and not check.context.is_known(pattern):
                nearest = check.context.nearest(pattern[:MAX_PATTERN])
                hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
                check.wrong(f"The event {pattern[:80]!r} is not in the catalogue.{hint}")
        return list(dict.fromkeys(value))


class Sources(Kind):
    """Who made a change: an application such as `erp`, or one of its users such as `admin:17`."""

    def __init__(self, most: int):
        self._most = most
        self.schema = json_schema.array(json_schema.text(json_schema.SOURCE, most=511), most)

    def clean(self, value: Any, check: FieldCheck) -> list[str]:
        """The sources, each once."""
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            check.wrong(f'{check.name} is a list such as ["erp", "admin:17"].')
            return []
        if len(value) > self._most:
            check.wrong(
                f"{check.name} has {len(value):,} entries; at most {self._most} are possible."
            )
            return []
        for source in value:
            if not _SOURCE.fullmatch(source) or NOT_IN_LINE.search(source):
                check.wrong(
                    f"{source[:80]!r} is not a source: give an application such as erp, or one "
                    "user of it such as admin:17."
                )
        return list(dict.fromkeys(value))


def _is_within(value: Any, low: int, high: int) -> bool:
    number = whole(value)
    return number is not None and low <= number <= high
