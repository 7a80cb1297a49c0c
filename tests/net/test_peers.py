"""Whom a proxy is believed in, and whom it speaks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from chatproto.net.peers import TrustedPeers, is_loopback, stream_address

PROXY = IPv4Address("TCP", "127.0.0.1", 4711)
UNIX = UNIXAddress(b"")


class TestTrusts:
    def test_this_machine_unless_told_otherwise(self) -> None:
        trusted = TrustedPeers()
        assert trusted.trusts(PROXY)
        assert trusted.trusts(IPv6Address("TCP", "::1", 4711))
        assert trusted.trusts(IPv6Address("TCP", "::ffff:127.0.0.1", 4711))
        assert trusted.trusts(UNIX)
        assert not trusted.trusts(IPv4Address("TCP", "192.0.2.1", 4711))
        assert not trusted.trusts(None)

    def test_only_those_that_are_named(self) -> None:
        trusted = TrustedPeers(["192.0.2.0/24", "2001:db8::7"])
        assert trusted.trusts(IPv4Address("TCP", "192.0.2.255", 1))
        assert trusted.trusts(IPv6Address("TCP", "2001:db8::7", 1))
        assert not trusted.trusts(IPv6Address("TCP", "2001:db8::8", 1))
        assert not trusted.trusts(PROXY)
        assert not trusted.trusts(UNIX)

    def test_others_once_they_are_renewed(self) -> None:
        trusted = TrustedPeers([])
        assert not trusted.trusts(UNIX)
        trusted.renew(["unix"])
        assert trusted.trusts(UNIX)

    def test_nothing_that_is_no_network(self) -> None:
        with pytest.raises(ValueError, match=r"192\.0\.2\.7"):
            TrustedPeers(["nearby"])


class TestSpeaksFor:
    @pytest.mark.parametrize(
        ("claims", "host", "port"),
        [
            (["203.0.113.7"], "203.0.113.7", 0),
            (["203.0.113.7:4711"], "203.0.113.7", 4711),
            (["[2001:db8::7]:4711"], "2001:db8::7", 4711),
            (["[2001:db8::7]"], "2001:db8::7", 0),
            (["2001:DB8:0::7"], "2001:db8::7", 0),
            (["::ffff:203.0.113.7"], "203.0.113.7", 0),
            (["6.6.6.6 , 203.0.113.7"], "203.0.113.7", 0),
            (["6.6.6.6", "203.0.113.7"], "203.0.113.7", 0),
            (["203.0.113.7, 127.0.0.2"], "203.0.113.7", 0),
            (["203.0.113.7, nonsense, 127.0.0.2"], "127.0.0.2", 0),
            (["203.0.113.7:99999999"], "203.0.113.7", 0),
        ],
    )
    def test_the_last_who_is_not_a_trusted_proxy(self, claims: list[str], host: str, port: int) -> None:
        client = TrustedPeers().speaks_for(PROXY, claims)
        assert isinstance(client, IPv4Address | IPv6Address)
        assert (client.host, client.port) == (host, port)

    def test_the_client_behind_a_unix_socket(self) -> None:
        assert TrustedPeers().speaks_for(UNIX, ["203.0.113.7"]) == stream_address("203.0.113.7", 0)

    @given(st.lists(st.text(max_size=40), max_size=5))
    def test_nobody_else_where_the_peer_is_not_trusted(self, claims: list[str]) -> None:
        peer = IPv4Address("TCP", "192.0.2.1", 4711)
        assert TrustedPeers().speaks_for(peer, claims) is peer

    @given(st.lists(st.text(max_size=40) | st.ip_addresses().map(str), max_size=50))
    def test_somebody_whatever_is_claimed(self, claims: list[str]) -> None:
        client = TrustedPeers().speaks_for(PROXY, claims)
        assert isinstance(client, IPv4Address | IPv6Address)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
