"""Where the server listens: an endpoint string, and what stands around it.

`[haproxy:][tls:DIRECTORY:]ENDPOINT[:faces=FACE,...]`, where ENDPOINT is any of Twisted's, or `systemd:` for
the sockets that systemd has opened already.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from chatproto.net.front import FACES
from chatproto.net.peers import TrustedPeers, is_loopback
from chatproto.net.prompttls import PromptTLSFactory
from chatproto.net.proxied import ProxiedFactory
from chatproto.server.certificates import CertbotDirectory

__all__ = ["BACKLOG", "CannotListen", "Listening", "SharedPorts", "adopted", "as_phrase"]

BACKLOG = 1_024
"""Connections that the kernel holds for an endpoint that says nothing else. Twisted's 50 is less than what
comes back at once after a restart."""

TLS_PORT = "443"
"""Twisted's `tls:DIRECTORY` without a port."""


class CannotListen(Exception):
    """Why it does not listen there: a phrase."""


class Listening:
    """One place to listen at, as *text* says. Raises ValueError, with a phrase, for what cannot be meant.

    Nothing is opened, but certificates are read. `faces` are those that may be spoken there.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        arguments = re.split(r"(?<!\\):", text)
        self.faces = _faces([argument for argument in arguments if argument.startswith("faces=")])
        arguments = [argument for argument in arguments if not argument.startswith("faces=")]
        self.is_proxied = arguments[0] == "haproxy"
        if self.is_proxied:
            del arguments[0]
        self.certificates: CertbotDirectory | None = None
        if arguments and arguments[0] == "tls":
            self.certificates = CertbotDirectory(_plain(arguments[1]) if len(arguments) > 1 else "")
            arguments = _behind_tls(arguments[2:])
        if arguments and arguments[0] == "haproxy":
            raise ValueError("haproxy: stands before tls:, as what it reads comes before TLS begins")
        if self.is_proxied and arguments and arguments[0] == "ssl":
            raise ValueError("haproxy: comes before TLS, and ssl: would read it inside; take haproxy:tls:")
        self.inherited: list[int] = []
        if arguments and arguments[0] == "systemd":
            self.inherited = _inherited(arguments[1:])
        self._arguments = arguments
        if not self.inherited:
            from twisted.internet import reactor

            # Endpoint parsers are plugins and raise what they like.
            try:
                serverFromString(reactor, ":".join(arguments))
            except Exception as error:
                raise ValueError(str(error)) from None

    def public_host(self) -> str:
        """Where other machines reach it; empty where none does, or where that is seen when it listens."""
        kind, *arguments = self._arguments
        if self.inherited:
            hosts = [host for host in map(_host_of, self.inherited) if host]
        elif kind in ("tcp", "tcp6", "ssl"):
            named = [argument.partition("=") for argument in arguments]
            unnamed = [argument for argument, equals, _ in named if not equals]
            everywhere = "::" if kind == "tcp6" else "0.0.0.0"
            given = {name: _plain(value) for name, equals, value in named if equals}
            hosts = [given.get("interface") or (_plain(unnamed[1]) if unnamed[1:] else "") or everywhere]
        else:
            hosts = []
        return next((host for host in hosts if not is_loopback(host)), "")

    def listen(
        self,
        reactor: Any,
        factory: Factory[Any],
        trusted: TrustedPeers,
        header_timeout_s: Callable[[], float],
    ) -> list[IListeningPort]:
        """Listen, with *factory* behind all that stands around it. Raises CannotListen.

        The header of a proxy, which must be *trusted*, has to be there within *header_timeout_s*.
        """
        behind: Any = factory
        if self.certificates is not None:
            behind = PromptTLSFactory(self.certificates, False, behind, clock=reactor)
        if self.is_proxied:
            behind = ProxiedFactory(behind, trusted, reactor, header_timeout_s)
        if self.inherited:
            return [adopted(reactor, descriptor, behind) for descriptor in self.inherited]
        return [_opened(reactor, ":".join(_with_backlog(self._arguments)), behind)]

    def ways_in(self, address: object) -> list[str]:
        """One line that says that it listens at *address*, and how; and one with the ways to talk there."""
        special = self._special()
        if isinstance(address, UNIXAddress):
            path = address.name.decode() if isinstance(address.name, bytes) else str(address.name)
            return [f"listening on {path}{special}", *self._talk([("lines", f"nc -U {path}")])]
        if not isinstance(address, IPv4Address | IPv6Address):
            return [f"listening on {address}{special}"]
        host, port = address.host, address.port
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        ways = [
            ("lines", f"nc {host} {port}"),
            ("frames", f"chatproto-connect {place} --nick NAME"),
            ("web", f"http://{place}/"),
        ]
        if self.certificates is not None:
            ways = [
                ("web", f"https://{place}/"),
                ("web", f"chatproto-connect wss://{place}/chat --nick NAME"),
                ("lines", f"openssl s_client -quiet -connect {place}"),
            ]
        return [f"listening on {address.host} port {port}{special}", *self._talk(ways)]

    def _talk(self, ways: list[tuple[str, str]]) -> list[str]:
        possible = [way for face, way in ways if face in self.faces]
        # Behind a proxy it is the proxy that one talks to, wherever that is.
        return [f"talk: {'    or: '.join(possible)}"] if possible and not self.is_proxied else []

    def _special(self) -> str:
        words = []
        if self.faces != FACES:
            words.append(f"only for {' and '.join(face for face in _IN_ORDER if face in self.faces)}")
        if self.certificates is not None:
            words.append(f"TLS, certificate {self.certificates.words()}")
        if self.is_proxied:
            words.append("behind a proxy that says whom each connection comes from")
        return f" ({'; '.join(words)})" if words else ""


_IN_ORDER = ("web", "frames", "lines")


def _faces(arguments: Sequence[str]) -> frozenset[str]:
    if not arguments:
        return FACES
    if len(arguments) > 1:
        raise ValueError("faces= stands there twice")
    faces = frozenset(arguments[0].removeprefix("faces=").split(","))
    unknown = sorted(faces - FACES)
    if unknown:
        raise ValueError(f"there is no face {unknown[0]!r}; faces are {', '.join(_IN_ORDER)}")
    return faces


def _plain(argument: str) -> str:
    return re.sub(r"\\(.)", r"\1", argument)


def _behind_tls(arguments: list[str]) -> list[str]:
    """The endpoint under TLS: what stands there, or what Twisted makes of a port alone."""
    if arguments and not arguments[0].isdecimal() and "=" not in arguments[0]:
        return arguments
    port = arguments.pop(0) if arguments and arguments[0].isdecimal() else TLS_PORT
    return ["tcp6", port, *arguments]


def _with_backlog(arguments: Sequence[str]) -> list[str]:
    """An endpoint that says how many connections may wait to be accepted."""
    kind, *rest = arguments
    unnamed = [argument for argument in rest if "=" not in argument]
    is_said = len(unnamed) > 1 or any(argument.startswith("backlog=") for argument in rest)
    if kind not in ("tcp", "tcp6", "ssl", "unix") or is_said:
        return [*arguments]
    return [*arguments, f"backlog={BACKLOG}"]


# --- sockets that somebody else has opened ----------------------------------------------------------------


def _inherited(arguments: Sequence[str]) -> list[int]:
    """The descriptors that `systemd:` stands for: all, those of a name, or the one with an index."""
    from twisted.internet import reactor

    given = dict(argument.partition("=")[::2] for argument in arguments if argument)
    unknown = sorted(given.keys() - {"domain", "index", "name"})
    if unknown:
        raise ValueError(f"systemd: has no {unknown[0]}; it has name and index")
    # Twisted has taken what is said of them out of the environment, so it has to be asked; and it knows one
    # descriptor of each name only, though the names are still there.
    descriptors: list[int] = []
    while True:
        try:
            endpoint = serverFromString(reactor, f"systemd:domain=INET:index={len(descriptors)}")
        except IndexError:
            break
        assert isinstance(endpoint, AdoptedStreamServerEndpoint)
        descriptors.append(endpoint.fileno)
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if "name" in given:
        wanted = [
            descriptor for descriptor, name in zip(descriptors, names, strict=False) if name == given["name"]
        ]
    elif "index" in given:
        index = int(given["index"]) if given["index"].isdecimal() else len(descriptors)
        wanted = descriptors[index : index + 1]
    else:
        wanted = descriptors
    if not wanted:
        there = f"only {len(descriptors)}: {', '.join(names)}" if descriptors else "none at all"
        raise ValueError(f"systemd has passed no such socket, {there}")
    return wanted


def _host_of(descriptor: int) -> str:
    """The address that an inherited socket is bound to; empty if it is none of the internet."""
    with socket.socket(fileno=os.dup(descriptor)) as bound:
        return str(bound.getsockname()[0]) if bound.family != socket.AF_UNIX else ""


def adopted(reactor: Any, descriptor: int, factory: Factory[Any]) -> IListeningPort:
    """Listen on a socket that is open and bound already.

    In the end it is not shut down, nor its file removed: connections may wait in it for another process.
    """
    os.set_blocking(descriptor, False)
    os.set_inheritable(descriptor, False)
    with socket.socket(fileno=os.dup(descriptor)) as bound:
        family = bound.family
    if family == socket.AF_UNIX:
        port = _InheritedUnixPort._fromListeningDescriptor(reactor, descriptor, factory)
        port.startListening()
    else:
        port = reactor.adoptStreamPort(descriptor, family, factory)
    opened: IListeningPort = port
    return opened


class _InheritedUnixPort(unix.Port):
    """A Unix socket that is not ours: Twisted would change its mode, and in the end remove its file and shut
    it down for everybody who has it."""

    _shouldShutdown = False

    def startListening(self) -> None:
        """Listen, and leave the mode as it is."""
        name = self._bindPath
        if name and not name.startswith(b"\0"):
            self.mode = stat.S_IMODE(os.stat(name).st_mode)
        super().startListening()

    def connectionLost(self, reason: Failure) -> None:
        """It is listened no more; the file stays."""
        tcp.Port.connectionLost(self, reason)


# --- sockets of our own -----------------------------------------------------------------------------------


class SharedPorts:
    """*reactor*, but that TCP ports are opened in a way that lets other processes open them too."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: Factory[Any], backlog: int = BACKLOG, interface: str = ""
    ) -> IListeningPort:
        """See `IReactorTCP.listenTCP`."""
        binding = tcp.makeBinding(interface, port, reuseAddress=True, reusePort=True)
        opened: IListeningPort = self._reactor.listenTCP(binding, factory, backlog, interface)
        return opened


def _opened(reactor: Any, description: str, factory: Factory[Any]) -> IListeningPort:
    listening: Deferred[IListeningPort] = maybeDeferred(
        lambda: serverFromString(reactor, description).listen(factory)
    )
    outcome: list[IListeningPort | str] = []
    listening.addCallbacks(outcome.append, lambda failure: outcome.append(_reason(failure)))
    if not outcome:
        # No endpoint of Twisted's needs time, but one of a plugin's may; what comes of it is not wanted then.
        outcome.append("it does not do so at once")
        listening.addCallback(lambda _: isinstance(outcome[-1], str) or outcome[-1].stopListening())
    if isinstance(outcome[0], str):
        raise CannotListen(outcome[0])
    return outcome[0]


def _reason(failure: Failure) -> str:
    error: object = failure.value
    if isinstance(error, CannotListenError):
        error = error.socketError
    return as_phrase(error.strerror if isinstance(error, OSError) and error.strerror else str(error))


def as_phrase(reason: str) -> str:
    """A *reason* as it stands within a sentence; but AF_UNIX stays AF_UNIX."""
    begin = reason[:1].lower() if reason[1:2].islower() else reason[:1]
    return f"{begin}{reason[1:].rstrip('.')}"
