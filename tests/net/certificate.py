"""What a server of the tests shows over TLS."""

from __future__ import annotations

import datetime
import functools
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.ssl import DefaultOpenSSLContextFactory

__all__ = ["server_context", "write_certificate"]


@functools.cache
def server_context() -> DefaultOpenSSLContextFactory:
    """A context with a certificate for localhost."""
    with tempfile.TemporaryDirectory() as folder:
        certificate_path, key_path = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        write_certificate(certificate_path, key_path)
        return DefaultOpenSSLContextFactory(str(key_path), str(certificate_path))


def write_certificate(certificate_path: Path, key_path: Path) -> None:
    """A certificate for localhost, signed by itself and good for an hour, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
