"""The header of a proxy: what it says, in any cut, and what is none."""

from __future__ import annotations

import ipaddress
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproto.wire.proxyheader import MOST_BYTES, ProxyHeaderDecoder

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

ports = st.integers(0, 65_535)
ipv4 = st.ip_addresses(v=4)
ipv6 = st.ip_addresses(v=6)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def line(kind: str, source: Address, destination: Address, source_port: int, destination_port: int) -> bytes:
    return f"PROXY {kind} {source} {destination} {source_port} {destination_port}\r\n".encode()


def binary(family: int, body: bytes, version: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", version, family, len(body)) + body


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, tuple[str, int] | None]:
    """A header of either version, and the client's place in it."""
    addresses = draw(st.sampled_from([ipv4, ipv6]))
    source, destination = draw(addresses), draw(addresses)
    places = draw(ports), draw(ports)
    client = str(source), places[0]
    is_old = source.version == 4
    if draw(st.booleans()):
        return line("TCP4" if is_old else "TCP6", source, destination, *places), client
    body = source.packed + destination.packed + struct.pack("!HH", *places) + draw(st.binary(max_size=300))
    if draw(st.booleans()):
        return binary(0x11 if is_old else 0x21, body), client
    return binary(0x11 if is_old else 0x21, body, 0x20), None  # LOCAL


def received(decoder: ProxyHeaderDecoder, data: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    return b"".join(
        decoder.receive(data[begin:end]) for begin, end in itertools.pairwise(edges) if end > begin
    )


class TestAnyCut:
    @given(headers(), st.binary(max_size=50), st.lists(st.integers(1, 600), max_size=8))
    def test_a_header_says_the_same_and_what_follows_is_left(
        self, header: tuple[bytes, tuple[str, int] | None], rest: bytes, cuts: list[int]
    ) -> None:
        data, client = header
        decoder = ProxyHeaderDecoder()
        assert received(decoder, data + rest, cuts) == rest
        assert (decoder.is_complete, decoder.fault, decoder.source) == (True, "", client)

    @given(
        st.one_of(
            st.binary(max_size=200),
            st.binary(max_size=100).map(lambda tail: b"PROXY " + tail),
            st.binary(max_size=100).map(lambda tail: SIGNATURE + tail),
        ),
        st.lists(st.integers(1, 200), max_size=8),
    )
    def test_whatever_comes_there_is_a_header_or_a_fault_or_more_is_needed(
        self, data: bytes, cuts: list[int]
    ) -> None:
        whole, cut = ProxyHeaderDecoder(), ProxyHeaderDecoder()
        rest = whole.receive(data) if data else b""
        assert received(cut, data, cuts) == rest
        for found in ("is_complete", "source", "destination", "fault"):
            assert getattr(cut, found) == getattr(whole, found)
        assert not (whole.is_complete and whole.fault)


class TestSays:
    def test_both_places(self) -> None:
        decoder = ProxyHeaderDecoder()
        assert decoder.receive(b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\nGET") == b"GET"
        assert decoder.source == ("203.0.113.7", 4711)
        assert decoder.destination == ("192.0.2.1", 443)

    @pytest.mark.parametrize(
        "header",
        [
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN ff::1 here 1 2\r\n",
            binary(0x00, b""),
            binary(0x31, bytes(216)),  # a Unix socket
            binary(0x12, bytes(12)),  # datagrams
            binary(0x11, b"", 0x20),
        ],
        ids=["unknown", "unknown-with-more", "unspecified", "unix", "datagrams", "local"],
    )
    def test_nothing_where_the_proxy_does_not_know_or_speaks_for_itself(self, header: bytes) -> None:
        decoder = ProxyHeaderDecoder()
        assert decoder.receive(header + b"rest") == b"rest"
        assert (decoder.is_complete, decoder.source, decoder.fault) == (True, None, "")


class TestFaults:
    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\n",
            b"\0",
            b"PROXX",
            b"\r\n\r\n\0\r\nQUIX",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            b"PROXY TCP4 1.2.3.400 1.2.3.4 1 2\r\n",
            b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            b"PROXY TCP6 fe80::1%\x1b[2J ::1 1 2\r\n",
            b"PROXY UNKNOWNS\r\n",
            b"PROXY " + b"x" * 101,
            binary(0x11, bytes(11)),
            binary(0x21, bytes(35)),
            binary(0x11, bytes(12), 0x11),
            binary(0x11, bytes(12), 0x22),
            SIGNATURE + b"\x21\x11" + (MOST_BYTES - 15).to_bytes(2, "big"),
        ],
    )
    def test_are_found_as_soon_as_they_are_there_and_nothing_passes_behind_them(self, data: bytes) -> None:
        decoder = ProxyHeaderDecoder()
        assert decoder.receive(data) == b""
        assert decoder.fault
        assert not decoder.is_complete
        assert decoder.receive(b"PROXY UNKNOWN\r\nmore") == b""

    def test_a_header_as_long_as_it_may_be_is_none(self) -> None:
        header = binary(0x11, bytes(MOST_BYTES - 16))
        decoder = ProxyHeaderDecoder()
        assert decoder.receive(header[:-1]) == b""
        assert decoder.receive(header[-1:] + b"rest") == b"rest"
