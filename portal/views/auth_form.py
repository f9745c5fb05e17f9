"""The part of the webhook form that says what requests authenticate with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from werkzeug.datastructures import MultiDict

from portal.models import Merchant
from portal.models.webhook import AUTH_SECRETS, MASK, Auth
from portal.views.form_rows import Row
from portal.webhooks.auth_rules import FIELDS

TYPES = {
    "": "None",
    "basic": "HTTP Basic",
    "bearer": "Bearer token",
    "oauth2": "OAuth 2.0 client credentials",
    "certificate": "Client certificate (mTLS)",
}
"""The types of authentication, with the words of the form."""
CLIENT_AUTH = {"header": "As HTTP Basic", "body": "In the body"}
"""How ID and secret go to a token endpoint."""
_SECRETS = tuple(AUTH_SECRETS.values())
_TEXTS = tuple(
    name for names in FIELDS.values() for name in names if name not in ("type", *_SECRETS)
)


def _rows() -> dict[str, Row]:
    return {name: Row(name, secret=True) for name in _SECRETS}


@dataclass
class AuthTyped:
    """The fields of every type by their names, of which those of the chosen `type` count."""

    type: str = ""
    texts: dict[str, str] = field(default_factory=lambda: dict.fromkeys(_TEXTS, ""))
    secrets: dict[str, Row] = field(default_factory=_rows)

    def __str__(self) -> str:
        """The authentication in words, without its secret."""
        who = {
            "basic": f", user {self.texts['user']}",
            "oauth2": f", client {self.texts['client_id']} at {self.texts['token_url']}",
            "certificate": f"\n{self.texts['certificate']}",
        }
        return TYPES.get(self.type, self.type) + who.get(self.type, "")


def stored(auth: Auth | None) -> AuthTyped:
    """The form of a stored authentication, its secret masked."""
    typed = AuthTyped()
    for name, value in (auth or {}).items():
        if name == "type":
            typed.type = value
        elif name in typed.secrets:
            typed.secrets[name].value = MASK
        else:
            typed.texts[name] = value
    return typed


def without_secrets(typed: AuthTyped) -> AuthTyped:
    """The same to be used for another webhook, for which its secret must be given."""
    return replace(typed, secrets=_rows())


def read(form: MultiDict[str, str], merchant: Merchant) -> AuthTyped:
    """What the browser sent, as the form shows it again."""
    typed = AuthTyped(form.get("auth_type", ""))
    for name in _TEXTS:
        typed.texts[name] = form.get(f"auth_{name}", "").replace("\r\n", "\n")
    for name, row in typed.secrets.items():
        row.value = form.get(f"auth_{name}", "").replace("\r\n", "\n")
        row.seal(form.get(f"auth_{name}_sealed", ""), merchant)
    return typed


def shown(typed: AuthTyped) -> AuthTyped:
    """The same for a page: every secret masked."""
    return replace(typed, secrets={name: row.masked() for name, row in typed.secrets.items()})


def fields(typed: AuthTyped, merchant: Merchant) -> Auth | None:
    """What was typed as the API would send it."""
    if not typed.type:
        return None
    values = typed.texts | {name: row.text(merchant) for name, row in typed.secrets.items()}
    values["token_url"] = values["token_url"].strip()
    return {"type": typed.type} | {
        name: values[name] for name in FIELDS.get(typed.type, ()) if name != "type"
    }
