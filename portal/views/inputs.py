"""How the form of a webhook shows each kind of field, and what that means: between what the browser
sends, what the page shows again, and what the API would be sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from werkzeug.datastructures import MultiDict

from portal.characters import whole_number
from portal.models import Merchant
from portal.models.webhook import MASK
from portal.views import auth_form
from portal.views.auth_form import AuthTyped
from portal.views.form_rows import Row
from portal.webhooks import kinds
from portal.webhooks.fields import Field
from portal.webhooks.pair_rules import Rows

Form = MultiDict[str, str]
MAX_ROWS = 200
"""Rows that are read and shown again; the rules allow fewer."""


class Input:
    """How a field is shown: here, as a line of text. What a page holds of it is its `typed`."""

    widget = "line"
    """What the page makes of it (webhooks/_input.html)."""

    def read(self, name: str, form: Form, _merchant: Merchant) -> Any:
        """What the browser sent, as the page shows it again."""
        # Browsers send line breaks as CR LF (HTML, 4.10.21.8).
        return form.get(name, "").replace("\r\n", "\n")

    def filled(self, value: Any) -> Any:
        """The input of a value that is stored, or that a recipe gives as the API takes it."""
        return str(value or "")

    def meant(self, typed: Any, _merchant: Merchant) -> Any:
        """What was typed as the API would be sent it."""
        return typed

    def masked(self, typed: Any) -> Any:
        """The same for a page, every secret masked."""
        return typed

    def without_secrets(self, typed: Any) -> Any:
        """The same for another webhook, for which its secrets must be given."""
        return typed

    def is_filled(self, typed: Any, default: Any) -> bool:
        """Whether something other than the default was typed."""
        return bool(typed != self.filled(default))

    def words(self, typed: Any) -> str:
        """What was typed, in words."""
        return str(typed)


class UrlInput(Input):
    """An address; spaces around it are nobody's intention."""

    def meant(self, typed: str, _merchant: Merchant) -> str:
        """The address."""
        return typed.strip()


class ChoiceInput(Input):
    """A menu."""

    widget = "choice"


class TextInput(Input):
    """Several lines of text; none where there is only space."""

    widget = "text"

    def meant(self, typed: str, _merchant: Merchant) -> str | None:
        """The text."""
        return typed if typed.strip() else None


class LinesInput(Input):
    """A list, one item a line."""

    widget = "lines"

    def filled(self, value: Sequence[str]) -> str:
        """The items."""
        return "\n".join(value)

    def meant(self, typed: str, _merchant: Merchant) -> list[str]:
        """The items."""
        return [line.strip() for line in typed.split("\n") if line.strip()]


class NumberInput(Input):
    """A whole number; what is none is for the rules to refuse."""

    widget = "number"

    def meant(self, typed: str, _merchant: Merchant) -> int | str | None:
        """The number."""
        return number(typed)


class NumbersInput(Input):
    """Several whole numbers with spaces between."""

    widget = "numbers"

    def filled(self, value: Sequence[int] | None) -> str:
        """The numbers."""
        return " ".join(map(str, value or []))

    def meant(self, typed: str, _merchant: Merchant) -> list[int | str | None] | None:
        """The numbers."""
        return [number(part) for part in typed.replace(",", " ").split()] or None


class FlagInput(Input):
    """A box to tick."""

    widget = "flag"

    def read(self, name: str, form: Form, _merchant: Merchant) -> bool:
        """Whether it is ticked."""
        return name in form

    def filled(self, value: bool) -> bool:
        """Whether it is ticked."""
        return value

    def words(self, typed: bool) -> str:
        """Yes or no."""
        return "yes" if typed else "no"


class TriggersInput(Input):
    """Boxes to tick, of which each has its value."""

    widget = "triggers"

    def read(self, name: str, form: Form, _merchant: Merchant) -> list[str]:
        """Those that are ticked."""
        return list(dict.fromkeys(form.getlist(name)))

    def filled(self, value: Sequence[str]) -> list[str]:
        """Those that are ticked."""
        return list(value)

    def words(self, typed: list[str]) -> str:
        """Those that are ticked."""
        return ", ".join(typed)


class PairsInput(Input):
    """Rows of a name, a value, and whether it is secret."""

    widget = "pairs"

    def read(self, name: str, form: Form, merchant: Merchant) -> list[Row]:
        """The rows, each secret that was typed sealed."""
        cells: dict[int, dict[str, str]] = {}
        cell = re.compile(rf"{name}-([0-9]{{1,4}})-(name|value|secret|sealed)")
        for key in form:
            if found := cell.fullmatch(key):
                cells.setdefault(int(found[1]), {})[found[2]] = form[key]
        rows = []
        for _, parts in sorted(cells.items())[:MAX_ROWS]:
            row = Row(parts.get("name", ""), parts.get("value", ""), "secret" in parts)
            row.seal(parts.get("sealed", ""), merchant)
            rows.append(row)
        return rows

    def filled(self, value: Any) -> list[Row]:
        """The rows: of what is stored, where a secret is masked, or of an object as the API takes
        it."""
        if isinstance(value, dict):
            return [
                Row(name, one["value"], one["secret"]) if isinstance(one, dict) else Row(name, one)
                for name, one in value.items()
            ]
        return [
            Row(pair["name"], MASK if pair["secret"] else pair["value"], pair["secret"])
            for pair in value
        ]

    def meant(self, typed: list[Row], merchant: Merchant) -> Rows:
        """The rows in which something stands."""
        return Rows(
            {"name": row.name, "value": row.text(merchant), "secret": row.secret}
            for row in typed
            if row.name or row.value
        )

    def masked(self, typed: list[Row]) -> list[Row]:
        """The same, every secret masked."""
        return [row.masked() for row in typed]

    def without_secrets(self, typed: list[Row]) -> list[Row]:
        """The same, each secret's row without its value."""
        return [replace(row, value="") if row.secret else row for row in typed]

    def words(self, typed: list[Row]) -> str:
        """A line for each row."""
        return "\n".join(f"{row.name}: {row.value}" for row in typed if row.name or row.value)


class AuthInput(Input):
    """A menu of types, and the fields of each."""

    widget = "auth"

    def read(self, _name: str, form: Form, merchant: Merchant) -> AuthTyped:
        """All fields, each secret that was typed sealed."""
        return auth_form.read(form, merchant)

    def filled(self, value: Any) -> AuthTyped:
        """The fields of what is stored, its secret masked."""
        return auth_form.stored(value)

    def meant(self, typed: AuthTyped, merchant: Merchant) -> Any:
        """The chosen type and its fields; None for none."""
        return auth_form.fields(typed, merchant)

    def masked(self, typed: AuthTyped) -> AuthTyped:
        """The same, every secret masked."""
        return auth_form.shown(typed)

    def without_secrets(self, typed: AuthTyped) -> AuthTyped:
        """The same without secrets."""
        return auth_form.without_secrets(typed)

    def is_filled(self, typed: AuthTyped, _default: Any) -> bool:
        """Whether a type is chosen."""
        return bool(typed.type)


_INPUTS: dict[type[kinds.Kind], Input] = {
    kinds.Text: Input(),
    kinds.Url: UrlInput(),
    kinds.Choice: ChoiceInput(),
    kinds.Template: TextInput(),
    kinds.Sources: LinesInput(),
    kinds.Whole: NumberInput(),
    kinds.Delays: NumbersInput(),
    kinds.Flag: FlagInput(),
    kinds.Triggers: TriggersInput(),
    kinds.Pairs: PairsInput(),
    kinds.Authentication: AuthInput(),
}


def input_of(field: Field) -> Input:
    """How a field is shown."""
    return _INPUTS[type(field.kind)]


def number(text: str) -> int | str | None:
    """A whole number, or the text itself for the rules to refuse; None for nothing."""
    text = text.strip()
    found = whole_number(text)
    return found if found is not None else text or None
