"""What a drain sends, and keeps with each request until its response comes."""

from __future__ import annotations

from dataclasses import dataclass

from portal.composing.compose import Outgoing
from portal.delivery.line import Line
from portal.delivery.trying import Trying
from portal.outbound.access_tokens import Client


@dataclass(slots=True)
class DeliveryRequest:
    """The request of an attempt."""

    trying: Trying
    outgoing: Outgoing


@dataclass(slots=True)
class TokenRequest:
    """The request for the access token that an attempt needs first."""

    trying: Trying
    client: Client


@dataclass(slots=True)
class LookRequest:
    """A check whether anybody listens at the target of a held webhook."""

    line: Line


Request = DeliveryRequest | TokenRequest | LookRequest
