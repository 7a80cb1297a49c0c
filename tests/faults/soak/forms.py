"""What stands around a form on the way to the server: TLS, or a proxy that says whom it speaks for."""

from __future__ import annotations

import ssl
from contextlib import suppress

from forms import Form

from chatproto.wire.messages import Message

__all__ = ["Proxied", "Secured"]


class Proxied:
    """*form* behind a proxy that says that the connection comes from *address*."""

    def __init__(self, form: Form, address: str) -> None:
        self._form = form
        self._header = proxy_header(address)

    @property
    def closed_with(self) -> int | None:
        return self._form.closed_with

    def say(self, *messages: Message) -> None:
        self._form.say(*messages)

    def output(self) -> bytes:
        header, self._header = self._header, b""
        return header + self._form.output()

    def receive(self, data: bytes) -> list[Message]:
        return self._form.receive(data)


def proxy_header(address: str) -> bytes:
    """What a proxy sends first, in version 1."""
    return f"PROXY TCP4 {address} 192.0.2.1 40000 9000\r\n".encode()


class Secured:
    """*form* over TLS, whose client knows the settings of *context*."""

    def __init__(self, form: Form, context: ssl.SSLContext) -> None:
        self._form = form
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_hostname="localhost")
        self._is_open = False

    @property
    def closed_with(self) -> int | None:
        return self._form.closed_with

    def say(self, *messages: Message) -> None:
        self._form.say(*messages)

    def output(self) -> bytes:
        self._open()
        if self._is_open and (plain := self._form.output()):
            self._tls.write(plain)
        return self._goes.read()

    def receive(self, data: bytes) -> list[Message]:
        if not data:
            return self._form.receive(b"")
        self._came.write(data)
        self._open()
        messages = []
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while self._is_open and (plain := self._tls.read(2**16)):
                messages += self._form.receive(plain)
        return messages

    def _open(self) -> None:
        if not self._is_open:
            with suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                self._is_open = True
