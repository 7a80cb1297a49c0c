"""Coming to a server by whatever stands before it."""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
import sys
from pathlib import Path

from live import PATIENCE_S, Framed, Server, eventually
from net.certificate import write_certificate
from websockets.sync.client import ClientConnection

from chatproto.wire.messages import End, Join

LOOPBACK = "tcp:0:interface=127.0.0.1"
TWISTD = str(Path(sys.executable).parent / "twistd")

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""With which a header of a proxy begins, in version 2."""


def heard_on(plain: socket.socket) -> bytes:
    """Everything until the server closes."""
    heard = b""
    while data := plain.recv(65_536):
        heard += data
    return heard


def until(plain: socket.socket, text: bytes) -> bytes:
    heard = b""
    while text not in heard:
        data = plain.recv(65_536)
        assert data, f"closed before {text!r}: {heard!r}"
        heard += data
    return heard


def ports(server: Server, count: int) -> list[int]:
    """The ports of all places, once it listens on so many."""
    found: list[str] = []

    def are_there() -> bool:
        found[:] = re.findall(r"listening on \S+ port (\d+)", server.log())
        return len(found) == count

    eventually(are_there)
    return list(map(int, found))


def socket_to(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def joined(plain: socket.socket | ssl.SSLSocket, nick: str) -> Framed:
    client = Framed(plain)
    client.send(Join(nick, "", 0, 0, 0))
    client.until(End)
    return client


def join_over_websocket(peer: ClientConnection, nick: str) -> None:
    peer.send(json.dumps({"type": "join", "nick": nick}))
    while json.loads(peer.recv(timeout=PATIENCE_S))["type"] != "end":
        pass


def addresses(server: Server, face: str) -> list[str]:
    """From where the connections of a face come, by the log."""
    events = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [event["address"] for event in events if event["event"] == "connected" and event["face"] == face]


def context() -> ssl.SSLContext:
    """A client that takes any certificate, and looks at it later."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def live_directory(folder: Path) -> Path:
    """A directory as certbot makes it: links into an archive."""
    live, archive = folder / "live", folder / "archive"
    live.mkdir()
    archive.mkdir()
    renew(live, 1)
    return live


def renew(live: Path, number: int) -> None:
    """What `certbot renew` does."""
    archive = live.parent / "archive"
    write_certificate(archive / f"fullchain{number}.pem", archive / f"privkey{number}.pem")
    for name in ("fullchain", "privkey"):
        link = live / f"{name}.new"
        link.symlink_to(archive / f"{name}{number}.pem")
        link.replace(live / f"{name}.pem")


def v2(source: str, rest: bytes = b"", command: int = 1) -> bytes:
    """A header of version 2, with what proxies add to it."""
    body = struct.pack("!4s4sHH", socket.inet_aton(source), socket.inet_aton("192.0.2.1"), 4_711, 443) + rest
    return SIGNATURE + struct.pack("!BBH", 0x20 + command, 0x11, len(body)) + body
