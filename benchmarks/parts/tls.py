"""What TLS costs: the same broadcast and echo through it and without."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from environment import bare_program
from measuring import Measuring
from rounds import Table, compare
from servers import chat_program


def _make_certificate(folder: Path) -> Path:
    """A certificate for nobody, as certbot leaves them, and one file with it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    chain_pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "fullchain.pem").write_bytes(chain_pem)
    (folder / "privkey.pem").write_bytes(key_pem)
    both = folder / "both.pem"
    both.write_bytes(key_pem + chain_pem)
    return both


def measure(measuring: Measuring) -> Iterator[Table]:
    """The chat on `tls:` and `tcp:`; an echo of the WebSocket layer on `ssl:` and `tcp:`."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        both = str(_make_certificate(Path(folder)))
        clients = measuring.people(200)
        talk = {"clients": clients, "senders": 4, "window": 4, "bytes": 64}
        plain = chat_program("plain")
        tls = chat_program("TLS", listen=f"tls:{folder}:tcp:{{port}}")
        yield compare(
            "tls",
            f"64 bytes to {clients} people in a room of the chat, 4 of whom talk",
            "deliveries",
            [measuring.loaded(plain, **talk), measuring.loaded(tls, tls=True, **talk)],
            measuring.rounds,
        )
        for name, size_bytes, connections in (("64 bytes", 64, 64), ("64 KiB", 65_536, 16)):
            echo = {"clients": connections, "senders": connections, "window": 1, "bytes": size_bytes}
            yield compare(
                "tls",
                f"an echo of {name} among {connections} WebSockets",
                "echoes",
                [
                    measuring.loaded(bare_program("plain", "echo"), task="echo", **echo),
                    measuring.loaded(bare_program("TLS", "echo", both), task="echo", tls=True, **echo),
                ],
                measuring.rounds,
            )
