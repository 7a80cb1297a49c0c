"""Whom a connection really comes from, where a proxy stands between."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from chatproto.rooms.addresses import Address, parse_address, parse_network

__all__ = ["LOCAL", "TrustedPeers", "is_loopback", "stream_address"]

LOCAL = ("127.0.0.0/8", "::1/128", "unix")
"""This machine: loopback, and Unix sockets."""

MOST_HOPS = 32
"""No chain of proxies is longer, and what a client claims before it counts for nothing anyway."""


class TrustedPeers:
    """The networks whose word about others is taken, and whether peers on Unix sockets are believed too.

    Raises ValueError, with a phrase, for what is neither a network nor `unix`.
    """

    def __init__(self, trusted: Iterable[str] = LOCAL) -> None:
        self.renew(trusted)

    def renew(self, trusted: Iterable[str]) -> None:
        """From now on believe these, and nobody else."""
        given = tuple(trusted)
        self._networks = [parse_network(text) for text in given if text != "unix"]
        self._unix = "unix" in given

    def trusts(self, peer: object) -> bool:
        """Whether *peer*, an address of Twisted's, is believed."""
        if isinstance(peer, UNIXAddress):
            return self._unix
        return isinstance(peer, IPv4Address | IPv6Address) and self._trusts_host(parse_address(peer.host))

    def speaks_for(self, peer: IAddress, forwarded: Iterable[str]) -> IAddress:
        """The client behind *peer*, by the values of X-Forwarded-For, which each proxy added to on the right.

        What a peer says that is not trusted counts for nothing, so a client cannot choose its address.
        """
        client = peer
        if not self.trusts(peer):
            return client
        claims = [claim.strip() for value in forwarded for claim in value.split(",")]
        for claim in reversed(claims[-MOST_HOPS:]):
            address = _claimed(claim)
            if address is None:
                break
            client = address
            if not self.trusts(address):
                break
        return client

    def _trusts_host(self, host: Address | None) -> bool:
        return host is not None and any(host in network for network in self._networks)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches *host*; a name is not looked up."""
    parsed = parse_address(host)
    return host == "localhost" if parsed is None else parsed.is_loopback


def stream_address(host: str, port: int) -> IPv4Address | IPv6Address:
    """An address of Twisted's; one of IPv4 in IPv6's clothes is one of IPv4. Raises ValueError."""
    parsed = parse_address(host)
    if parsed is None:
        raise ValueError(f"{host!r} is no address")
    kind = IPv4Address if parsed.version == 4 else IPv6Address
    return kind("TCP", str(parsed), port)


def _claimed(claim: str) -> IAddress | None:
    """The address in one place of X-Forwarded-For: with or without a port, IPv6 perhaps in brackets."""
    host, port = claim, ""
    if claim.startswith("["):
        host, _, port = claim[1:].partition("]")
        port = port.removeprefix(":")
    elif claim.count(":") == 1:
        host, _, port = claim.partition(":")
    try:
        return stream_address(host, int(port) if port.isdecimal() and len(port) < 6 else 0)
    except ValueError:
        return None
