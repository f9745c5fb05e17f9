"""The tables and the rules of single rows."""

from portal.models.audit import AuditEntry, AuditHead, Notice, OperationsEntry
from portal.models.clean_up import CleanUp
from portal.models.clock import ClockSeen
from portal.models.delivery import Attempt, AttemptPayload, Delivery, Lane
from portal.models.event import Event, EventPayload, OwnEventType
from portal.models.idempotency import IdempotencyKey
from portal.models.inspector import InspectedRequest, Inspector
from portal.models.installation import Installation
from portal.models.invitation import Invitation
from portal.models.mail import Mail, NoticeChoice
from portal.models.merchant import ApiKey, Merchant
from portal.models.recovery import Recovery
from portal.models.saved_filter import SavedFilter
from portal.models.sealed_word import SealedWord
from portal.models.share import AttemptShare
from portal.models.sign_in import Passkey, PasswordReset, RecoveryCode, UserSession
from portal.models.statistics import AttemptCount, CountedUntil, EventCount
from portal.models.storage import MeasuredUntil, StoredBytes
from portal.models.user import Membership, User
from portal.models.webhook import Webhook

__all__ = [
    "ApiKey",
    "Attempt",
    "AttemptCount",
    "AttemptPayload",
    "AttemptShare",
    "AuditEntry",
    "AuditHead",
    "CleanUp",
    "ClockSeen",
    "CountedUntil",
    "Delivery",
    "Event",
    "EventCount",
    "EventPayload",
    "IdempotencyKey",
    "InspectedRequest",
    "Inspector",
    "Installation",
    "Invitation",
    "Lane",
    "Mail",
    "MeasuredUntil",
    "Membership",
    "Merchant",
    "Notice",
    "NoticeChoice",
    "OperationsEntry",
    "OwnEventType",
    "Passkey",
    "PasswordReset",
    "Recovery",
    "RecoveryCode",
    "SavedFilter",
    "SealedWord",
    "StoredBytes",
    "User",
    "UserSession",
    "Webhook",
]
