"""A server that is reached over TCP, and over TLS or a Unix socket besides."""

from __future__ import annotations

import re
import socket
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from faults.watching import LISTEN, WatchedServer, assert_well
from forms import form_named
from live import PATIENCE_S, Framed, eventually
from net.certificate import write_certificate

from chatproto.wire.messages import End, Join

KINDS = ("tcp", "tls", "unix")

WAYS = (*KINDS, "tcp/bin", "tls/json", "unix/json")
"""Ways to take part: in frames over each kind of socket, or over WebSocket."""


class Place:
    """One server, reached in three ways; `server.port` is the plain TCP one."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="chatproto-place-")
        folder = Path(self._folder.name)
        self._certificate, self._socket = folder / "certificate.pem", folder / "socket"
        write_certificate(self._certificate, folder / "key.pem")
        keys = f"privateKey={folder / 'key.pem'}:certKey={self._certificate}"
        tls, unix = f"ssl:0:interface=127.0.0.1:{keys}", f"unix:{self._socket}"
        self._opened: list[socket.socket] = []
        self.server = WatchedServer(*LISTEN, "--listen", tls, "--listen", unix, *options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)
        self._folder.cleanup()

    def in_use(self, quiet_descriptors: int) -> Iterator[Self]:
        """Itself, for a test. After it nobody is connected, a newcomer is served, no descriptor is left."""
        yield self
        self.hang_up()
        assert_well(self.server)
        eventually(lambda: self.server.descriptors() == quiet_descriptors, "everybody is gone")

    def hang_up(self) -> None:
        """Close every connection that was made here."""
        while self._opened:
            self._opened.pop().close()

    def connect(self, kind: str = "tcp", receive_buffer_bytes: int = 0) -> socket.socket:
        """A socket of one of the `KINDS` that is connected; `tls-port` is TLS's without a handshake."""
        plain = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        self._opened.append(plain)
        if receive_buffer_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        plain.settimeout(PATIENCE_S)
        if kind == "unix":
            plain.connect(str(self._socket))
        elif kind == "tcp":
            plain.connect(("127.0.0.1", self.server.port))
        else:
            ports = re.findall(r"listening on \S+ port (\d+)", self.server.log())
            plain.connect(("127.0.0.1", int(ports[1])))
            if kind == "tls-port":
                return plain
            context = ssl.create_default_context(cafile=str(self._certificate))
            plain = context.wrap_socket(plain, server_hostname="localhost")
            self._opened.append(plain)
        return plain

    def call(self, kind: str = "tcp") -> Framed:
        """A client that has said nothing yet; *kind* is one of the `WAYS`."""
        return self._framed(kind)

    def _framed(self, way: str, receive_buffer_bytes: int = 0) -> Framed:
        kind, _, form = way.partition("/")
        return Framed(self.connect(kind, receive_buffer_bytes), form_named(form or "frames"))

    def join(
        self,
        nick: str,
        rooms: Sequence[str] = ("lobby",),
        *,
        kind: str = "tcp",
        receive_buffer_bytes: int = 0,
    ) -> Framed:
        """A client that is in these rooms; *kind* is one of the `WAYS`."""
        client = self._framed(kind, receive_buffer_bytes)
        for room in rooms:
            client.send(Join(nick, room))
            client.until(End)
        return client
