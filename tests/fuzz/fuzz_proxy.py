"""Feed the reader of a proxy's header bytes that no proxy would send, and see that it keeps its promises.

`python tests/fuzz/fuzz_proxy.py --inputs 1000000` tries that many inputs and prints the seed that makes the
same ones again. Whatever the bytes:

- it finds what a plain reading finds, `read_plainly`: the client's and the server's place, that the proxy
  does not say, a fault, or that more has to come; never an exception; and the same in any cut;
- what is behind the header is left as it is, and nothing passes behind a fault;
- it is decided within 4,096 bytes, and a fault is one sentence that repeats nothing of what came.
"""

from __future__ import annotations

import ipaddress
import sys
from collections import Counter
from pathlib import Path
from typing import Any

# What is tried is an installed chatproto, if there is one.
sys.path += map(str, Path(__file__).resolve().parents[1:3])

from fuzz.trying import Seeded, expect, hexed, try_all

from chatproto.wire.proxyheader import Place, ProxyHeaderDecoder

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LONGEST_LINE = 107
MOST_BYTES = 4_096
WORDS = (
    *(b"TCP4", b"TCP6", b"UNKNOWN", b"UDP4", b"tcp4", b"", b"PROXY"),
    *(b"192.0.2.1", b"255.255.255.255", b"1.2.3.400", b"01.2.3.4", b"1.2.3", b"1.2.3.4/8"),
    *(b"::1", b"2001:db8::ffff", b"::ffff:1.2.3.4", b"fe80::1%eth0", b"1::2::3", b"[::1]"),
    *(b"0", b"443", b"65535", b"65536", b"080", b"-1", b"+1", b"\xb2", b"1" * 60),
)
LENGTHS = (*(0, 1, 11, 12, 13, 35, 36, 37, 216, 300) * 4, MOST_BYTES - 16, MOST_BYTES - 15, 65_535)
INTERESTING = (b" ", b"\r", b"\n", b"\r\n", b"\0", b"\xff", b"PROXY ", SIGNATURE, b"\x20", b"\x21\x11")

Found = tuple[str, Place | None, Place | None, bytes]
"""`taken`, `fault` or `more`; whom it comes from and goes to; and what is behind it."""

NOTHING: Found = ("more", None, None, b"")
FAULT: Found = ("fault", None, None, b"")


def read_plainly(data: bytes) -> Found:
    """What *data* begins with, by the text of the protocol, without regard to speed."""
    if data.startswith(SIGNATURE):
        return _read_binary(data)
    if data.startswith(b"PROXY "):
        return _read_line(data)
    return NOTHING if b"PROXY ".startswith(data) or SIGNATURE.startswith(data) else FAULT


def _read_line(data: bytes) -> Found:
    line, end, rest = data[:LONGEST_LINE].partition(b"\r\n")
    rest += data[LONGEST_LINE:]
    if not end:
        return FAULT if len(data) >= LONGEST_LINE else NOTHING
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return "taken", None, None, rest
    try:
        version = {b"TCP4": 4, b"TCP6": 6}[words[1]]
        source, destination = (ipaddress.ip_address(word.decode("ascii")) for word in words[2:4])
        ports = [int(word) for word in words[4:]]
        is_plain = [b"%d" % port for port in ports] == words[4:]
    except (KeyError, ValueError):
        return FAULT
    if (source.version, destination.version) != (version, version) or len(ports) != 2 or b"%" in line:
        return FAULT
    if not is_plain or not all(0 <= port < 65_536 for port in ports):
        return FAULT
    return "taken", (str(source), ports[0]), (str(destination), ports[1]), rest


def _read_binary(data: bytes) -> Found:
    if len(data) < 16:
        return NOTHING
    version, command = divmod(data[12], 16)
    n_bytes = data[14] * 256 + data[15]
    if version != 2 or command > 1 or 16 + n_bytes > MOST_BYTES:
        return FAULT
    body, rest = data[16 : 16 + n_bytes], data[16 + n_bytes :]
    if len(body) < n_bytes:
        return NOTHING
    size = {0x11: 4, 0x21: 16}.get(data[13])
    if command == 0 or size is None:
        return "taken", None, None, rest
    if n_bytes < 2 * size + 4:
        return FAULT
    source, destination = (str(ipaddress.ip_address(body[at : at + size])) for at in (0, size))
    ports = [int.from_bytes(body[at : at + 2], "big") for at in (2 * size, 2 * size + 2)]
    return "taken", (source, ports[0]), (destination, ports[1]), rest


def decode(pieces: list[bytes]) -> tuple[Found, str]:
    """What a new decoder finds in *pieces*, and the sentence of its fault."""
    decoder = ProxyHeaderDecoder()
    rest, received_bytes = b"", 0
    for piece in pieces:
        behind = decoder.receive(piece)
        expect(decoder.is_complete or not behind, "nothing passes before the header, or behind a fault")
        rest += behind
        received_bytes += len(piece)
        is_decided = decoder.is_complete or bool(decoder.fault)
        expect(is_decided or received_bytes < MOST_BYTES, "it is decided within so many bytes")
    expect(not (decoder.is_complete and decoder.fault), "it is taken or a fault")
    outcome = "fault" if decoder.fault else "taken" if decoder.is_complete else "more"
    return (outcome, decoder.source, decoder.destination, rest), decoder.fault


class Inputs(Seeded):
    """Headers, most often with something wrong."""

    def draw(self, number: int) -> tuple[bytes, list[bytes]]:
        """An input and the same in pieces."""
        data = self.next()
        return data, self.cut(data)

    def check(self, found: Counter[str], *drawn: Any) -> None:
        """See the promises above."""
        data, pieces = drawn
        whole, fault = decode([data])
        expect(whole == read_plainly(data), f"it finds what a plain reading finds: {read_plainly(data)}")
        expect(decode(pieces) == (whole, fault), "the same in any cut")
        expect(fault.isascii() and fault.isprintable() and len(fault) < 100, "a fault is a sentence")
        outcome, source, _, _ = whole
        if source is not None:
            outcome = "taken, from IPv6" if ":" in source[0] else "taken, from IPv4"
        found[fault or outcome] += 1

    def show(self, *drawn: Any) -> str:
        """The pieces."""
        return hexed(drawn[1])

    def tell(self, found: Counter[str]) -> list[str]:
        """Faults are sentences, so each has a line."""
        return [f"{count:7} {name}" for name, count in sorted(found.items())]

    def next(self) -> bytes:
        """The next input: a header and something behind it."""
        chance = self._random.random
        data = bytearray(self._line() if chance() < 0.5 else self._binary())
        data += self._random.randbytes(int(chance() * 20))
        while data and chance() < 0.35:
            place = int(chance() * min(len(data), 120))
            if chance() < 0.3:
                data[place] = int(chance() * 256)
            elif chance() < 0.5:
                del data[place : place + 1 + int(chance() * 3)]
            elif chance() < 0.6:
                del data[place:]
            else:
                data[place:place] = self._random.choice(INTERESTING)
        return bytes(data)

    def _line(self) -> bytes:
        chance, choice = self._random.random, self._random.choice
        if chance() < 0.05:
            return b"PROXY UNKNOWN ".ljust(int(chance() * 250), b"x")
        if chance() < 0.4:
            words = [choice(WORDS) for _ in range(int(chance() * 8))]
        elif chance() < 0.5:
            words = [b"TCP4", choice(WORDS[7:9]), choice(WORDS[7:12]), choice(WORDS[-9:-5]), b"443"]
        else:
            words = [b"TCP6", choice(WORDS[13:16]), choice(WORDS[13:18]), choice(WORDS[-9:-6]), b"1"]
        return b" ".join((b"PROXY", *words)) + b"\r\n"

    def _binary(self) -> bytes:
        chance, choice = self._random.random, self._random.choice
        n_bytes = choice(LENGTHS)
        sent = n_bytes if chance() < 0.9 else int(chance() * n_bytes)
        command, family = choice((0x21, 0x21, 0x21, 0x20, 0x22, 0x11)), choice((0x11, 0x21, 0x31, 0, 0x12))
        return (
            SIGNATURE + bytes((command, family)) + n_bytes.to_bytes(2, "big") + self._random.randbytes(sent)
        )


if __name__ == "__main__":
    sys.exit(try_all(Inputs, "Feed the reader of a proxy's header bytes that no proxy would send."))
