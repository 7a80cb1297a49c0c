"""Where a URL of a WebSocket leads (RFC 6455, section 3)."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import quote

from hyperlink import URL

__all__ = ["Address", "parse_url"]

_PORTS = {"ws": 80, "wss": 443}
_URL = re.compile(r"(wss?)://([^/?#]+)([^#]*)#?(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::(\d*))?", re.ASCII)
_URI = "!$%&'()*+,/:;=?@[]"  # may stand in a URI as it is, beside letters, digits and -._~


class Address(NamedTuple):
    """A URL, taken apart."""

    is_secure: bool
    host: str
    port: int
    authority: str
    """What stands in `Host`: with the port, unless it is the scheme's own."""
    target: str
    """What stands in the request line."""


def parse_url(url: str) -> Address:
    """Where *url* leads, in ASCII. Raises ValueError, in one sentence, for what is no URL of a WebSocket."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"{url!r} is no URL of a WebSocket: it begins with ws:// or wss:// and a host")
    scheme, authority, target, fragment = found[1].lower(), found[2], found[3], found[4]
    if "@" in authority:  # it may be a secret, and is not repeated
        raise ValueError("the URL of a WebSocket has no user in it; give headers an Authorization instead")
    if fragment:
        raise ValueError(f"{url!r} has a fragment (#), which the URL of a WebSocket has not")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise ValueError(f"{url!r} has no valid host and port")
    port = int(parts[3] or _PORTS[scheme])
    if not 0 < port < 65_536:
        raise ValueError(f"{url!r} has a port that is none: they are from 1 to 65535")
    host = _in_ascii(parts[1], parts[2], url)
    shown = f"[{host}]" if parts[1] else host
    return Address(
        is_secure=scheme == "wss",
        host=host,
        port=port,
        authority=shown if port == _PORTS[scheme] else f"{shown}:{port}",
        target=quote(target if target.startswith("/") else f"/{target}", safe=_URI),
    )


def _in_ascii(ipv6: str | None, name: str | None, url: str) -> str:
    """The host. IDNA says nothing to names that are in ASCII: some that are in use it would refuse (a_b)."""
    try:
        if ipv6 is not None:
            return str(IPv6Address(ipv6))
        assert name is not None
        return name if name.isascii() else URL(scheme="http", host=name).to_uri().host
    except ValueError as error:
        raise ValueError(f"{url!r} has no valid host: {error}") from None
