"""What TLS costs: the same broadcast and echo through it and without."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from environment import bare_program
from measuring import Measuring
from rounds import Subject, Table, compare
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


def _by_each(measuring: Measuring, task: str, certificate: str, **options: Any) -> list[Subject]:
    """The WebSocket layer without TLS, with this project's, and with Twisted's own."""
    plain = bare_program("plain", task)
    prompt = bare_program("TLS", task, f"prompt={certificate}")
    patient = bare_program("TLS by Twisted's `ssl:`", task, f"ssl={certificate}")
    return [
        measuring.loaded(plain, task=task, **options),
        *(measuring.loaded(program, task=task, tls=True, **options) for program in (prompt, patient)),
    ]


def measure(measuring: Measuring) -> Iterator[Table]:
    """The chat on `tls:` and `tcp:`; broadcast and echo of the WebSocket layer with TLS and without."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        both = str(_make_certificate(Path(folder)))
        clients = measuring.people(200)
        talk = {"clients": clients, "senders": 4, "window": 4, "bytes": 64}
        tls = chat_program("TLS", listen=f"tls:{folder}:tcp:{{port}}")
        yield compare(
            "tls",
            f"64 bytes to {clients} people in a room of the chat, 4 of whom talk",
            "deliveries",
            [measuring.loaded(chat_program("plain"), **talk), measuring.loaded(tls, tls=True, **talk)],
            measuring.rounds,
        )
        yield compare(
            "tls",
            f"64 bytes to {clients} WebSockets, 4 of which talk",
            "deliveries",
            _by_each(measuring, "broadcast", both, **talk),
            measuring.rounds,
        )
        for name, size_bytes, connections in (("64 bytes", 64, 64), ("64 KiB", 65_536, 16)):
            echo = {"clients": connections, "senders": connections, "window": 1, "bytes": size_bytes}
            yield compare(
                "tls",
                f"an echo of {name} among {connections} WebSockets",
                "echoes",
                _by_each(measuring, "echo", both, **echo),
                measuring.rounds,
            )
