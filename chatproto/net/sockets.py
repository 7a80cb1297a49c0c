"""What the chat asks of the sockets under its transports."""

from __future__ import annotations

import socket

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import ISSLTransport, ISystemHandle, ITCPTransport, ITransport

__all__ = ["VANISHED_MS", "carrier_socket", "plain_socket", "tune"]

KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_PROBES = 5
UNACKNOWLEDGED_S = 55
"""A peer that vanished is found within a minute: idle after 30 + 5 x 5 s, with something sent after 55 s."""

VANISHED_MS = 50_000
"""A connection that broke after its peer had acknowledged nothing for so long: the kernel gave up waiting.
A peer that answers, a reset included, was heard of at the keepalive before."""


def plain_socket(transport: ITransport) -> socket.socket | None:
    """The stream socket that *transport* writes to as it is, or None where something lies between (TLS, a
    wrapper) or the socket is not to be had."""
    if not isinstance(transport, FileDescriptor) or ISSLTransport.providedBy(transport):
        return None
    return None if getattr(transport, "TLS", False) else carrier_socket(transport)


def carrier_socket(transport: ITransport) -> socket.socket | None:
    """The stream socket at the bottom of *transport*, whatever lies between (TLS, a wrapper), or None. It may
    be asked and tuned, and not written to."""
    bottom: object = transport
    while not isinstance(bottom, FileDescriptor):
        bottom = getattr(bottom, "transport", None)  # as `twisted.protocols.policies.ProtocolWrapper` has it
        if bottom is None:
            return None
    handle = bottom.getHandle() if ISystemHandle.providedBy(bottom) else None
    return handle if isinstance(handle, socket.socket) and handle.type == socket.SOCK_STREAM else None


def tune(transport: ITransport, lag_timeout_s: float) -> None:
    """No delay for small writes, and an end for peers that vanished.

    The kernel counts a peer that takes nothing as vanished too, so it must not be quicker than
    *lag_timeout_s*, after which the chat itself says so.
    """
    if not ITCPTransport.providedBy(transport):
        return
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    handle = carrier_socket(transport)
    if handle is None or handle.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", int(1000 * max(UNACKNOWLEDGED_S, lag_timeout_s + 5))),
    ):
        option = getattr(socket, name, None)  # not everywhere
        if option is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
