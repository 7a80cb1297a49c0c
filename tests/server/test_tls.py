"""TLS with the certificates of a directory as certbot has it, replaced while the server runs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from cryptography import x509
from live import Server, ended, eventually
from net.certificate import write_certificate
from server.connecting import (
    LOOPBACK,
    TWISTD,
    context,
    heard_on,
    join_over_websocket,
    joined,
    live_directory,
    renew,
    socket_to,
    until,
)
from websockets.sync.client import connect

from chatproto.wire.messages import Ack, Chat, Say


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    return live_directory(tmp_path)


def serial_number(port: int) -> int:
    """Of the certificate that a new connection is shown."""
    with context().wrap_socket(socket_to(port)) as secure:
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def serial_number_in(live: Path) -> int:
    return x509.load_pem_x509_certificate((live / "fullchain.pem").read_bytes()).serial_number


class TestTls:
    def test_all_faces_talk_over_it(self, certificates: Path) -> None:
        with Server("--listen", f"tls:{certificates}:{LOOPBACK}", "--history", "memory") as server:
            ann = joined(context().wrap_socket(socket_to(server.port)), "ann")
            with (
                context().wrap_socket(socket_to(server.port)) as person,
                connect(f"wss://127.0.0.1:{server.port}/chat", ssl=context()) as page,
            ):
                person.sendall(b"bob\n")
                until(person, b"* in lobby:")
                join_over_websocket(page, "cid")
                page.send(json.dumps({"type": "say", "id": 7, "text": "in secret"}))
                until(person, b"cid: in secret")
                assert ann.until(Chat).text == "in secret"
            ann.close()
            with context().wrap_socket(socket_to(server.port)) as browser:
                browser.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert heard_on(browser).startswith(b"HTTP/1.1 200 OK")
            assert "Traceback" not in server.log()

    def test_the_short_form_is_that_of_twisted(self, certificates: Path) -> None:
        listen = f"tls:{certificates}:0:interface=127.0.0.1"
        with Server("--listen", listen, "--history", "memory") as server:
            assert serial_number(server.port) == serial_number_in(certificates)
            eventually(lambda: "https://127.0.0.1" in server.log())
            assert "TLS, certificate for localhost, good until " in server.log()

    def test_a_renewed_certificate_is_taken_up_while_people_stay(self, certificates: Path) -> None:
        with Server("--listen", f"tls:{certificates}:{LOOPBACK}", "--history", "memory") as server:
            ann = joined(context().wrap_socket(socket_to(server.port)), "ann")
            first = serial_number(server.port)
            renew(certificates, 2)
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: "was renewed" in server.log())
            second = serial_number(server.port)
            assert second == serial_number_in(certificates)
            assert second != first
            ann.send(Say(7, "", "still here"))
            assert ann.until(Ack).id == 7
            ann.close()

    def test_one_that_cannot_be_used_leaves_the_one_before(self, certificates: Path) -> None:
        with Server("--listen", f"tls:{certificates}:{LOOPBACK}", "--history", "memory") as server:
            first = serial_number(server.port)
            for break_it, said in (
                (lambda: (certificates / "fullchain.pem").unlink(), "cannot be read: no such file"),
                (lambda: (certificates / "fullchain.pem").write_text("nonsense"), "has no certificate"),
                (lambda: half_renewed(certificates), "is not the one of the certificate"),
            ):
                break_it()
                server.process.send_signal(signal.SIGHUP)
                eventually(lambda said=said: said in server.log())  # type: ignore[misc]
                assert serial_number(server.port) == first
            renew(certificates, 3)
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: serial_number(server.port) == serial_number_in(certificates))
            assert server.log().count("the certificate from before stays") == 3

    def test_a_pair_that_does_not_fit_is_refused_at_the_start(self, certificates: Path) -> None:
        half_renewed(certificates)
        refused = ended(certificates, TWISTD, "-n", "chat", "--listen", f"tls:{certificates}:{LOOPBACK}")
        assert refused.returncode == 1
        assert "is not the one of the certificate" in refused.stderr.splitlines()[-1]


def half_renewed(live: Path) -> None:
    """Between the two steps of a renewal."""
    (live / "fullchain.pem").unlink()
    write_certificate(live / "fullchain.pem", live / "another-key.pem")
