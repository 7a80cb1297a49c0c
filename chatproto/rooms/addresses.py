"""Addresses of people: read, narrowed to what one of them can change at will, and found in networks."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["Address", "Network", "household", "parse_address", "parse_network"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HOUSEHOLD_BITS = 64
"""Of an IPv6 address: what a provider gives to one customer at least, who may use any address within."""


@lru_cache(4_096)
def parse_address(text: str) -> Address | None:
    """The address that *text* is, IPv4 where it only stands for that; None if it is none."""
    try:
        address = ip_address(text.partition("%")[0])  # without the interface that it came by
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def household(text: str) -> str:
    """What is counted together with the address *text*: itself, or its IPv6 network; empty if it is none."""
    address = parse_address(text)
    if address is None:
        return ""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address, HOUSEHOLD_BITS), strict=False))


def parse_network(text: str) -> Network:
    """The network that *text* is, an address alone being one too. Raises ValueError, with one sentence."""
    address, slash, bits = text.partition("/")
    parsed = parse_address(address)
    try:
        if parsed is None:
            raise ValueError
        if not slash:
            return ip_network(parsed)
        return ip_network(f"{parsed}/{int(bits)}", strict=False)
    except ValueError:
        raise ValueError("an address is written as 192.0.2.7, 2001:db8::7 or 192.0.2.0/24") from None
