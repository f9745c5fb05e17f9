"""A certificate authority of the tests' own."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import math
import secrets
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519
from cryptography.x509.oid import NameOID

PrivateKey = (
    ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | dsa.DSAPrivateKey | x25519.X25519PrivateKey
)
_NO_PASSPHRASE = serialization.NoEncryption()


class Authority:
    """Signs certificates for servers on loopback and for clients."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("Tests")
        self._certificate = self._sign(self._name, self._key, 30, is_authority=True)
        self.path = directory / "authority.pem"
        self.path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self._directory = directory

    def issue(
        self, name: str, days: float = 30, *, host: str = "", key: PrivateKey | None = None
    ) -> tuple[str, str]:
        """A certificate and its private key, in PEM; it ends in `days`. It holds for 127.0.0.1, and
        for the name of a `host`."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_named(name), key, days, host=host)
        return (
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, _NO_PASSPHRASE
            ).decode(),
        )

    def server(self, *, days: float = 30, asks_clients: bool = False) -> ssl.SSLContext:
        """What a server on 127.0.0.1 needs; it may ask its clients for a certificate."""
        path = self._directory / "server.pem"
        path.write_text("".join(self.issue("127.0.0.1", days)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        if asks_clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.path)
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: PrivateKey,
        days: float,
        *,
        is_authority: bool = False,
        host: str = "",
    ) -> x509.Certificate:
        today = datetime.datetime.now(datetime.UTC)
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        names += [x509.DNSName(host)] if host else []
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=60))
            .not_valid_after(today + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """An RSA key of any size at once: of numbers that are odd and of no use to anybody."""
    e = 65_537
    while True:
        p, q = (secrets.randbits(bits // 2) | 1 | (3 << (bits // 2 - 2)) for _ in range(2))
        if math.gcd(e, (p - 1) * (q - 1)) == 1:
            break
    d = pow(e, -1, (p - 1) * (q - 1))
    iqmp = pow(q, -1, p) if math.gcd(p, q) == 1 else 1
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), iqmp, rsa.RSAPublicNumbers(e, p * q)
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def of_another_version(certificate: str) -> str:
    """A certificate in PEM that says of itself that it is of version 5, which does not exist."""
    der = x509.load_pem_x509_certificate(certificate.encode()).public_bytes(
        serialization.Encoding.DER
    )
    version_3, version_5 = (b"\xa0\x03\x02\x01" + bytes([number]) for number in (2, 4))
    text = base64.encodebytes(der.replace(version_3, version_5, 1)).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
