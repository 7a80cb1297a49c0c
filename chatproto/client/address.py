"""Where a server is, as people write it: host and port, or the URL of its WebSocket."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

__all__ = ["DEFAULT_PORT", "Address", "endpoint_at", "parse_address", "place_of"]

DEFAULT_PORT = 9_000

Address = tuple[str, int] | str
"""Host and port, or a URL."""


def parse_address(text: str) -> Address:
    """`HOST`, `HOST:PORT`, `[::1]:PORT` or `::1` as host and port; `ws://` and `wss://` stay a URL.

    A URL without a path means `/chat`. Raises ValueError, with one sentence, for anything else.
    """
    scheme, found, rest = text.partition("://")
    if found:
        if scheme.lower() not in ("ws", "wss") or not rest:
            raise ValueError(f"a URL begins with ws:// or wss:// and a host, unlike {text!r}")
        return text if "/" in rest or "?" in rest else f"{text}/chat"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        sound = bool(bracket) and colon in ("", ":")
    elif text.count(":") > 1:
        host, colon, port, sound = text, "", "", True
    else:
        host, colon, port = text.partition(":")
        sound = True
    if not host or not sound:
        raise ValueError(f"HOST, HOST:PORT, [IPv6]:PORT or a ws:// URL is expected, not {text!r}")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ValueError(f"a port is a number from 1 to 65535, not {port!r}")
    return host, int(port) if colon else DEFAULT_PORT


def place_of(address: Address) -> str:
    """*address* for people."""
    return address if isinstance(address, str) else f"{address[0]} port {address[1]}"


def endpoint_at(reactor: Any, address: Address) -> IStreamClientEndpoint:
    """The server there. Raises ValueError, with one sentence, for what is no URL of a WebSocket."""
    if not isinstance(address, str):
        return HostnameEndpoint(reactor, *address)
    from chatproto.client.websocket import WebSocketChatEndpoint  # not needed for host and port

    return WebSocketChatEndpoint(reactor, address)
