"""What a certificate says of itself."""

from __future__ import annotations

from cryptography import x509

from portal.clock import SECOND


def ends_at(pem: str) -> int:
    """The last moment (Unix µs) of a certificate in PEM, the first where there are several.
    Raises ValueError for what is none."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from None
    return int(certificate.not_valid_after_utc.timestamp()) * SECOND
