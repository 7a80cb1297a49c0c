"""The header with which a proxy says whom a connection comes from: the PROXY protocol, versions 1 and 2.

https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt; sections are those of it.
"""

from __future__ import annotations

import ipaddress
import re
import struct

__all__ = ["MOST_BYTES", "ProxyHeaderDecoder"]

MOST_BYTES = 4_096
"""Of one header. Version 1 ends within 107; version 2 may have as much behind the addresses as it likes, of
which proxies use some hundreds."""

_LONGEST_LINE = 107  # section 2.1
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # section 2.2
_BEGINNINGS = (_SIGNATURE, b"PROXY ")
# Python would take `%` and any characters behind an address of IPv6 for its zone.
_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([\da-fA-F:.]+) ([\da-fA-F:.]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})")

Place = tuple[str, int]
"""An address and a port."""


class ProxyHeaderDecoder:
    """Takes the first bytes of a connection in, in any cut, and says what is behind the header.

    When it is complete `is_complete` holds, and `source` and `destination` are the client's and the server's
    place, or None where the proxy speaks for itself (a health check) or does not say. A header that is none
    is a `fault`, a sentence.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.fault = ""
        self.source: Place | None = None
        self.destination: Place | None = None
        self._begun = b""

    def receive(self, data: bytes) -> bytes:
        """What follows the header in *data*; nothing before it is complete, or behind a fault."""
        if self.fault:
            return b""
        if self.is_complete:
            return data
        self._begun += data
        if self._begun.startswith(_SIGNATURE):
            return self._binary()
        if self._begun.startswith(b"PROXY "):
            return self._line()
        if not any(beginning.startswith(self._begun) for beginning in _BEGINNINGS):
            self._fail("the connection does not begin with the header of a proxy")
        return b""

    def _line(self) -> bytes:
        end = self._begun.find(b"\r\n", 0, _LONGEST_LINE)
        if end < 0:
            if len(self._begun) >= _LONGEST_LINE:
                self._fail("the line of the proxy is too long")
            return b""
        line, rest = self._begun[:end], self._begun[end + 2 :]
        found = _LINE.fullmatch(line)
        if found is None:
            # Whatever stands behind UNKNOWN is to be ignored.
            if line != b"PROXY UNKNOWN" and not line.startswith(b"PROXY UNKNOWN "):
                return self._fail("the line of the proxy says nothing that is known")
            return self._complete(rest)
        kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address] = (
            ipaddress.IPv4Address if found[1] == b"TCP4" else ipaddress.IPv6Address
        )
        try:
            source, destination = (str(kind(found[at].decode("latin-1"))) for at in (2, 3))
        except ValueError:
            return self._fail("the line of the proxy has no such addresses")
        ports = int(found[4]), int(found[5])
        if max(ports) > 65_535:
            return self._fail("the line of the proxy has no such ports")
        return self._complete(rest, (source, ports[0]), (destination, ports[1]))

    def _binary(self) -> bytes:
        begun = self._begun
        if len(begun) < 16:
            return b""
        version, family, n_bytes = begun[12], begun[13], int.from_bytes(begun[14:16], "big")
        if version not in (0x20, 0x21):
            return self._fail("the header of the proxy is of no version that is known")
        if 16 + n_bytes > MOST_BYTES:
            return self._fail("the header of the proxy is too long")
        if len(begun) < 16 + n_bytes:
            return b""
        body, rest = begun[16 : 16 + n_bytes], begun[16 + n_bytes :]
        layout = {0x11: "!4s4sHH", 0x21: "!16s16sHH"}.get(family)
        if version == 0x20 or layout is None:  # LOCAL, or a family that has no place of ours
            return self._complete(rest)
        if len(body) < struct.calcsize(layout):
            return self._fail("the header of the proxy has no room for its addresses")
        source, destination, source_port, destination_port = struct.unpack_from(layout, body)
        return self._complete(
            rest,
            (str(ipaddress.ip_address(source)), source_port),
            (str(ipaddress.ip_address(destination)), destination_port),
        )

    def _complete(self, rest: bytes, source: Place | None = None, destination: Place | None = None) -> bytes:
        self.is_complete = True
        self.source, self.destination = source, destination
        self._begun = b""
        return rest

    def _fail(self, fault: str) -> bytes:
        self.fault = fault
        self._begun = b""
        return b""
