"""A signature checked step by step, as a receiver would, so that people see where it breaks.

Pure: headers, body and secrets come in. All of a request's schemes are checked: Standard
Webhooks 1.0.0 with a secret (v1) and a public key (v1a), and Evox-Signature
(portal.signing).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from portal import signing

STANDARD, ED25519, EVOX = "Standard Webhooks", "Standard Webhooks, Ed25519", "Evox"
SIGNATURE_HEADERS = (
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "evox-time",
    *(name.lower() for name in signing.EVOX_HEADERS),
)


@dataclass(frozen=True)
class Secret:
    """A signing secret and what it is now: `current`, or `previous` after a rotation."""

    name: str
    text: str


@dataclass(frozen=True)
class Entry:
    """One signature of the request; `made_with` names the secret that makes the same one."""

    header: str
    value: str
    made_with: str | None


@dataclass(frozen=True)
class Check:
    """One scheme's check. `prefix` and the body after it are the bytes that are signed;
    `computed` holds what each known secret makes of them; None where that is nobody's to know."""

    scheme: str
    formula: str
    prefix: str
    computed: list[tuple[str, str]] | None
    entries: list[Entry]

    @property
    def verified(self) -> bool:
        """Whether a receiver that knows one of the secrets would accept the request."""
        return any(entry.made_with for entry in self.entries)

    @property
    def made_with_current(self) -> bool:
        """Whether the secret of today verifies it."""
        return any(entry.made_with == "current" for entry in self.entries)


_STAMP = re.compile("[0-9]{1,19}")
"""Seconds; no number that anybody could mean is longer."""


def check(
    headers: Sequence[tuple[str, str]], body: bytes | None, secrets: Sequence[Secret]
) -> list[Check]:
    """Each scheme whose headers the request carries, checked with every secret."""
    values = {name.lower(): value for name, value in headers}
    body = body or b""
    checks = []
    message_id, stamp = values.get("webhook-id"), values.get("webhook-timestamp", "")
    if message_id is not None and _STAMP.fullmatch(stamp):
        prefix = f"{message_id}.{stamp}."
        entries = [
            ("webhook-signature", one) for one in values.get("webhook-signature", "").split()
        ]
        asymmetric = [entry for entry in entries if entry[1].startswith("v1a,")]
        made = [(one.name, signing.sign(one.text, message_id, int(stamp), body)) for one in secrets]
        checks.append(
            _checked(
                STANDARD,
                "base64 HMAC-SHA256 of webhook-id.webhook-timestamp.body, "
                "keyed with the bytes behind whsec_",
                prefix,
                made,
                [entry for entry in entries if entry not in asymmetric],
            )
        )
        if asymmetric:
            # Ed25519 makes the same signature each time (RFC 8032, 5.1.6).
            made = [
                (one.name, signing.sign_ed25519(one.text, message_id, int(stamp), body))
                for one in secrets
            ]
            checks.append(
                _checked(
                    ED25519,
                    "base64 Ed25519 of webhook-id.webhook-timestamp.body, "
                    "verified with the public key behind whpk_",
                    prefix,
                    made,
                    asymmetric,
                )
            )
    evox_stamp = values.get("evox-time", "")
    if _STAMP.fullmatch(evox_stamp):
        made = [(one.name, signing.evox_sign(one.text, int(evox_stamp), body)) for one in secrets]
        found = [
            (name, values[name.lower()]) for name in signing.EVOX_HEADERS if name.lower() in values
        ]
        checks.append(
            _checked(
                EVOX,
                "hex HMAC-SHA256 of Evox-Time.body, keyed with the secret’s text as it stands",
                f"{evox_stamp}.",
                made,
                found,
            )
        )
    return checks


def _checked(
    scheme: str,
    formula: str,
    prefix: str,
    made: list[tuple[str, str]],
    found: list[tuple[str, str]],
) -> Check:
    entries = [
        Entry(header, value, next((name for name, ours in made if _is_same(ours, value)), None))
        for header, value in found
    ]
    return Check(scheme, formula, prefix, made, entries)


def _is_same(ours: str, theirs: str) -> bool:
    # As bytes: of text, compare_digest takes ASCII alone.
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogatepass"))
