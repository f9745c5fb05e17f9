"""What an authenticator's answer may look like (WebAuthn level 2, §6): it comes from a stranger,
and is checked before a library works with it. With tags, 600 bytes of CBOR can say "this list,
twice" thirty times over, and copying or writing that takes minutes and gigabytes.
"""

from __future__ import annotations

from typing import Any

from portal.errors import Malformed

MAX_DEPTH = 8
"""How deep lists and maps may be nested; a real answer has three levels."""
MAX_ITEMS = 1_000
"""How many values there may be in all, with the keys; a real answer has some twenty."""
_ATTESTED, _EXTENDED = 0x40, 0x80
_FIXED_BYTES = 37
"""Name, flags and count of authenticator data, before what the flags announce (§6.1)."""
_AAGUID_BYTES = 16
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG = range(7)
_SIMPLE = {20: False, 21: True, 22: None}


def check_attestation(whole: bytes) -> None:
    """Check an attestation object: it holds only plain values, and about the device either no
    statement or one that the passkey signed itself. The portal asks for no other, and browsers
    remove others (§5.1.3), so that no stranger's certificate is ever read. Raises Malformed."""
    reader = _Reader(whole)
    told = reader.value()
    if reader.is_left() or not isinstance(told, dict):
        raise Malformed("The attestation object is no map.")
    statement = told.get("attStmt")
    is_plain = told.get("fmt") == "none" and statement == {}
    is_own = (
        told.get("fmt") == "packed"
        and isinstance(statement, dict)
        and statement.keys() == {"alg", "sig"}
    )
    if not is_plain and not is_own:
        raise Malformed("An attestation that was not asked for.")
    check_data(told.get("authData"))


def check_data(data: Any) -> None:
    """Check authenticator data: its public key and extensions. Raises Malformed."""
    if not isinstance(data, bytes) or len(data) < _FIXED_BYTES:
        raise Malformed("The authenticator data is too short.")
    flags, offset = data[_FIXED_BYTES - 5], _FIXED_BYTES
    if flags & _ATTESTED:
        offset += _AAGUID_BYTES
        offset += 2 + int.from_bytes(data[offset : offset + 2])
    reader = _Reader(data[offset:])
    # All of them up to the end, however many: some devices count a key's parts wrongly, which the
    # library corrects.
    while reader.is_left():
        reader.value()


class _Reader:
    """Reads CBOR (RFC 8949) as authenticators must write it (CTAP2's canonical form): with lengths,
    in as few bytes as possible, without tags and fractions. So a value that is written again has
    the same length, and the library, which finds the next value by that, never reads anything that
    was not checked here."""

    def __init__(self, data: bytes):
        self._data = data
        self._offset = 0
        self._items = 0

    def is_left(self) -> bool:
        """Whether there is more to read."""
        return self._offset < len(self._data)

    def value(self, depth: int = 0) -> Any:
        """The next value. Raises Malformed."""
        self._items += 1
        if depth > MAX_DEPTH or self._items > MAX_ITEMS:
            raise Malformed("More CBOR than any authenticator writes.")
        first = self._take(1)[0]
        kind, number = first >> 5, first & 0x1F
        if kind > _MAP:
            if kind == _TAG or number not in _SIMPLE:
                raise Malformed("CBOR that no authenticator writes.")
            return _SIMPLE[number]
        number = self._number(number)
        if kind in (_UNSIGNED, _NEGATIVE):
            return number if kind == _UNSIGNED else -1 - number
        if kind == _BYTES:
            return self._take(number)
        if kind == _TEXT:
            return self._text(number)
        if kind == _LIST:
            return [self.value(depth + 1) for _ in range(min(number, MAX_ITEMS + 1))]
        return self._map(number, depth)

    def _map(self, count: int, depth: int) -> dict[int | str, Any]:
        found: dict[int | str, Any] = {}
        for _ in range(min(count, MAX_ITEMS + 1)):
            key = self.value(depth + 1)
            if type(key) not in (int, str) or key in found:
                raise Malformed("A key that no authenticator writes, or twice the same.")
            found[key] = self.value(depth + 1)
        return found

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise Malformed("A text that is no UTF-8.") from error

    def _number(self, given: int) -> int:
        if given < 24:
            return given
        if given > 27:
            raise Malformed("CBOR without a length.")
        size = 1 << (given - 24)
        number = int.from_bytes(self._take(size))
        if number < 24 or (size > 1 and number >> (size * 4) == 0):
            raise Malformed("A number in more bytes than it takes.")
        return number

    def _take(self, count: int) -> bytes:
        taken = self._data[self._offset : self._offset + count]
        if len(taken) < count:
            raise Malformed("CBOR that ends too soon.")
        self._offset += count
        return taken
