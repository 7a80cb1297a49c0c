"""The chat as a Twisted service: listens, says where, and ends cleanly."""

from __future__ import annotations

import resource
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from chatproto.history.file import HistoryUnusable
from chatproto.history.log import SqliteLog
from chatproto.limits import HistoryLimits, Limits
from chatproto.net.admission import Admission
from chatproto.net.factory import ChatFactory
from chatproto.net.front import Front
from chatproto.net.gathering import gathering
from chatproto.net.peers import LOCAL as THIS_MACHINE
from chatproto.net.peers import TrustedPeers, is_loopback
from chatproto.rooms.hub import Hub
from chatproto.server.access import REFRESH_S, Access, AccessSettings, AccessUnusable
from chatproto.server.certificates import CHECK_EVERY_S
from chatproto.server.control.desk import Desk
from chatproto.server.control.place import ControlSocket, ControlUnusable
from chatproto.server.delay import ReactorDelay
from chatproto.server.eventlog import EventLog
from chatproto.server.listening import BACKLOG, CannotListen, Listening, SharedPorts, as_phrase
from chatproto.server.notify import monotonic_line, notify, watchdog_interval_s
from chatproto.server.reload import Reload
from chatproto.server.secondsignal import SecondSignal
from chatproto.server.signals import Hangup
from chatproto.server.status import LOCAL, OFF, Status, StatusSite, place_of
from chatproto.shared.address import is_store, parse_store
from chatproto.shared.log import SharedLog
from chatproto.shared.people import SharedPeople
from chatproto.shared.store import Store
from chatproto.wire.deflate import Deflate

__all__ = ["ChatService", "NotStarted"]

_log = Logger(namespace="chatproto")

SPARE_DESCRIPTORS = 100
"""Files that are for something else than connections: history, log, ports, threads, those turned away."""


SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


class NotStarted(SystemExit, Exception):
    """The server cannot listen, or keep its history, where it was told to; the text is one sentence.

    A SystemExit, so that `twistd -n` prints the sentence alone and exits with 1; an Exception, so that a
    daemon passes it to the process that started it. The latter shows only the beginning, so the reason comes
    first.
    """


class _Door(Factory):
    """What listens before there is a chat, as *service* does, and lets people in who speak one of *faces*."""

    noisy = False

    def __init__(self, service: ChatService, faces: frozenset[str]) -> None:
        self._service = service
        self._faces = faces

    def logPrefix(self) -> str:
        """As what Twisted's log has it."""
        return "chat"

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        chat = self._service.factory
        protocol = None if chat is None else chat.buildProtocol(addr)
        if isinstance(protocol, Front):
            protocol.faces = self._faces
        return protocol


class ChatService(Service):
    """Listens on *endpoints*, strings as `Listening` takes them, and serves one hub on all of them.

    Unless it *is_open*, it does not start where other machines reach it. With *reuse_port* other processes
    may listen on the same TCP ports. Proxies of *trusted_proxies* are believed in whom a connection comes
    from.

    *access* says who may talk and who may moderate, and where bans and mutes are kept.

    *control* is the path of a Unix socket, empty for none, over which whoever runs the server sees what it
    does and tells it what to do (docs/control.md). Where there can be none it does not start, unless
    *control_may_fail*.

    What is said is kept in the file *history*, within *history_limits*, or without it in memory; or, shared
    with other servers, in the store of that URL. *origins* and *deflate* are for WebSockets, as
    `ChatResource` has them.

    `/metrics`, `/healthz` and `/readyz` are answered on the endpoint *status*; with `"local"` on any of
    *endpoints*, but only to who is on this machine; with `"off"` nowhere. With *log_connections* the log has
    what happens to each connection.

    Nothing is opened before `privilegedStartService`: `twistd` forks between making and starting it. The
    history is opened when the privileges are gone, as it is needed later too.
    """

    name = "chat"

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        limits: Limits | None = None,
        history: str | None = None,
        history_limits: HistoryLimits | None = None,
        default_room: str = "lobby",
        origins: Collection[str] = (),
        deflate: Deflate | None = None,
        status: str = LOCAL,
        log_connections: bool = False,
        trusted_proxies: Collection[str] = THIS_MACHINE,
        is_open: bool = True,
        reuse_port: bool = False,
        access: AccessSettings | None = None,
        control: str = "",
        control_may_fail: bool = False,
        reload: Reload | None = None,
        reactor: Any = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.limits = limits or Limits()
        self.history = history
        self.history_limits = history_limits or HistoryLimits()
        self.default_room = default_room
        self.origins = tuple(origins)
        self.deflate = deflate
        self.status = status
        self.log_connections = log_connections
        self.is_open = is_open
        self.reuse_port = reuse_port
        self.access = access or AccessSettings()
        self.control = control
        self.control_may_fail = control_may_fail
        self.began_ms = 0
        self.ports: list[IListeningPort] = []
        self._reactor = reactor
        self._gathering: Any = None
        self._reload = reload
        self._trusted = TrustedPeers(trusted_proxies)
        self._listened: list[tuple[Listening, IListeningPort]] = []
        self._hangup: Hangup | None = None
        self._calls: list[LoopingCall] = []
        self._status_site = StatusSite(self.limits.join_timeout_s)
        self._status_port: IListeningPort | None = None
        self._status: Status | None = None
        self._delay: ReactorDelay | None = None
        self._access: Access | None = None
        self._log: SqliteLog | SharedLog | None = None
        self._people: SharedPeople | None = None
        self._control: ControlSocket | None = None
        self._desk: Desk | None = None
        self._drain_within_s: float | None = None
        self.factory: ChatFactory | None = None

    def privilegedStartService(self) -> None:
        """Listen, while ports below 1024 may still be had."""
        super().privilegedStartService()
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        _allow_descriptors(self._reactor)
        self._gathering = gathering(self._reactor)
        for description in self.endpoints:
            self._listen(description)
        if self.status not in (LOCAL, OFF):
            _, [self._status_port] = self._open(self.status, self._status_site)
        _say_backlog()

    def startService(self) -> None:
        """Open the history, let people in, and say where it listens and how to connect."""
        if not self.ports:
            self.privilegedStartService()
        try:
            self._open_control()
            access = self._access = Access(self.access, self.limits, self._reactor)
            if self.history is not None:
                self._open_log(self.history)
        except (ControlUnusable, AccessUnusable, HistoryUnusable) as error:
            self._close_ports()
            self._close_control()
            self._close_status()
            hint = "; name another file, or mend this one" if isinstance(error, HistoryUnusable) else ""
            raise NotStarted(f"{error}{hint}") from None
        super().startService()
        hub = Hub(
            self._reactor,
            self._log,
            self.limits,
            default_room=self.default_room,
            elsewhere=self._people,
            **access.hub_options(),
        )
        self.began_ms = hub.now_ms()
        access.opened(hub)
        if isinstance(self._log, SharedLog):
            self._log.began_anew = partial(_begin_anew, hub)
            assert self._people is not None
            self._people.start(hub)
            self._log.open()
        self.factory = ChatFactory(
            hub, origins=self.origins, deflate=self.deflate, trusted_peers=self._trusted
        )
        self._leave_descriptors(self.factory.admission)
        self.factory.doStart()
        if self._control is not None:
            self._desk = Desk(self, hub, self.factory)
            self._control.listen(self._reactor, self._desk.connections)
        if self.log_connections:
            hub.record.witness = EventLog()
        if self.status != OFF:
            self._delay = ReactorDelay(self._reactor)
            self._delay.start()
            self._status = Status(hub, self.factory, self._delay)
            if self._status_port is None:
                self._status.add_to(self.factory.site.resource)
            else:
                self._status_site.resource = self._status.resource()
        if self._reload is not None:
            # Before it says that it listens: whoever waited for that may send the signal.
            self._hangup = Hangup(self._reactor, self.reload, self._reactor.stop)
            self._hangup.start()
        if self._log is None:
            _log.info("what is said is kept in memory, and forgotten with this process")
        else:
            place = self._log.path if isinstance(self._log, SqliteLog) else self._log.place
            _log.info("what is said is kept in {place}", place=place)
        for listening, port in self._listened:
            for line in listening.ways_in(port.getHost()):
                _log.info("{line}", line=line)
        if self._status_port is not None:
            place = place_of(self._status_port.getHost())
            _log.info("/metrics, /healthz and /readyz are at {place}", place=place)
        if self._control is not None:
            _log.info("chatproto-ctl --socket {path} sees and steers it", path=self._control.path)
        self._repeat(CHECK_EVERY_S, self._renew_certificates)
        self._repeat(REFRESH_S, access.refresh)
        self._repeat(watchdog_interval_s(), lambda: notify("WATCHDOG=1"))
        notify("READY=1", "STATUS=people can talk")

    def reload(self) -> None:
        """Read everything again that is read from files; what SIGHUP does to a server of the command line."""
        notify("RELOADING=1", monotonic_line())
        try:
            if self._reload is not None:
                self._reload(self)
            self._renew_certificates(is_told=True)
            if self._access is not None:
                self._access.refresh()
        finally:
            notify("READY=1")

    @property
    def is_draining(self) -> bool:
        """Whether it is ending, or about to."""
        return self.factory is None or self._drain_within_s is not None

    def drain(self, within_s: float) -> None:
        """End as after SIGTERM, and the whole process with it, but give people *within_s*."""
        self._drain_within_s = within_s
        self._reactor.callLater(0, self._reactor.stop)

    def renew(self, limits: Limits, origins: Collection[str], trusted_proxies: Collection[str]) -> None:
        """Go by these from now on; each limit's `effect` says what that means for it."""
        self.limits = limits
        self.origins = tuple(origins)
        self._trusted.renew(trusted_proxies)
        self._status_site.timeOut = limits.join_timeout_s
        if self.factory is not None:
            self.factory.hub.limits = limits
            self.factory.renew(origins)

    def _renew_certificates(self, is_told: bool = False) -> None:
        for listening, _ in self._listened:
            if listening.certificates is not None:
                listening.certificates.renew(is_told)

    def _repeat(self, every_s: float, act: Callable[[], None]) -> None:
        if every_s:
            call = LoopingCall(act)
            call.clock = self._reactor
            call.start(every_s, now=False)
            self._calls.append(call)

    def _stop_repeating(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            call.stop()

    def stopService(self) -> Deferred[Any]:
        """Stop listening, say `goodbye`, and be done when everybody had the chance to read it.

        What was said until then is kept and answered. It takes `drain_timeout_s` at the most; a second
        SIGTERM or SIGINT cuts it short.
        """
        super().stopService()
        notify("STOPPING=1")
        if self._hangup is not None:
            self._hangup.stop()
        if self._status is not None:
            self._status.is_draining = True
        if self._delay is not None:
            self._delay.stop()
        factory, self.factory = self.factory, None
        closing = self._close_ports()
        if factory is not None:
            factory.doStop()
            draining = factory.drain(self._drain_within_s)
            SecondSignal(self._reactor, draining.cut).start()
            closing.append(draining.ended)
        stopped: Deferred[Any] = DeferredList(closing)
        stopped.addCallback(lambda _: self._stop_repeating())  # until now systemd wants to hear of it
        people, self._people = self._people, None
        if people is not None:
            stopped.addCallback(lambda _: people.close())
        log, self._log = self._log, None
        if log is not None:
            stopped.addCallback(lambda _: log.close())
        access, self._access = self._access, None
        if access is not None:
            stopped.addCallback(lambda _: access.close())
        # Last, so that one can see until then that nobody new is to be sent here.
        stopped.addCallback(lambda _: self._close_control())
        stopped.addCallback(lambda _: self._close_status())
        return stopped

    def _open_log(self, history: str) -> None:
        if is_store(history):
            store = Store(parse_store(history), self._reactor)
            self._log = SharedLog(store, self._reactor, self.limits, self.history_limits)
            self._people = SharedPeople(store, self._log, self._reactor, self.limits.lease_s)
            return
        self._log = SqliteLog(history, self._reactor, self.limits, self.history_limits)

    def _leave_descriptors(self, admission: Admission) -> None:
        """Let in no more connections than there can be, and leave some for the history and the log."""
        descriptors = _descriptors(self._reactor)
        most = max(1, descriptors - min(SPARE_DESCRIPTORS, descriptors // 2))
        admission.most_descriptors = most
        wanted = self.limits.max_connections
        if wanted > most:
            _log.info(
                "at most {most} connections are let in, and not {wanted}: allow more open files for that",
                most=most,
                wanted=wanted,
            )

    def _listen(self, description: str) -> None:
        """Let people in at one more place. Raises NotStarted, and then none is open."""
        listening, ports = self._open(description, None)
        self._listened += [(listening, port) for port in ports]
        self.ports += ports
        for host in map(_host_of, ports):
            if host and not self.is_open and not is_loopback(host):
                self._close_ports()
                raise NotStarted(f"anybody who reaches {host} could talk, without an account: {description}")

    def _open(self, description: str, factory: Factory[Any] | None) -> tuple[Listening, list[IListeningPort]]:
        try:
            listening = Listening(description)
            factory = factory or _Door(self, listening.faces)
            is_shared = self.reuse_port and isinstance(factory, _Door)
            return listening, listening.listen(
                SharedPorts(self._gathering) if is_shared else self._gathering,
                factory,
                self._trusted,
                lambda: self.limits.join_timeout_s,
            )
        except (ValueError, CannotListen) as reason:
            self._close_ports()
            raise NotStarted(f"cannot listen, {as_phrase(str(reason))}: {description}") from None

    def _open_control(self) -> None:
        """Make the control socket. It is whoever's the server is, so that comes when privileges are gone."""
        if not self.control:
            return
        try:
            self._control = ControlSocket(self.control)
        except ControlUnusable as reason:
            if not self.control_may_fail:
                raise ControlUnusable(f"no control socket, {reason}: {self.control}") from None
            _log.warn("there is no control socket, {reason}: {path}", reason=reason, path=self.control)

    def _close_control(self) -> Deferred[None] | None:
        """Nobody sees and steers it any more; fires when those who did have been told."""
        control, self._control = self._control, None
        desk, self._desk = self._desk, None
        if control is not None:
            control.remove()
        return None if desk is None else desk.close()

    def _close_status(self) -> Deferred[Any] | None:
        port, self._status_port, self._status = self._status_port, None, None
        return None if port is None else port.stopListening()

    def _close_ports(self) -> list[Deferred[Any]]:
        ports, self.ports, self._listened = self.ports, [], []
        closing = [port.stopListening() for port in ports]
        return [waiting for waiting in closing if waiting is not None]


def _begin_anew(hub: Hub) -> None:
    """Numbers may come again, so everybody has to come in anew, by the other epoch."""
    limits = hub.limits
    sessions = list(hub.sessions.values())
    spread_ms = int(len(sessions) / limits.max_returns_per_s * 1000)
    text = "the history has lost something, and begins anew"
    hub.shut_down(sessions, int(limits.return_delay_s * 1000), text, spread_ms=spread_ms)


def _descriptors(reactor: object) -> int:
    """How many files this process can have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(soft, 1_024) if isinstance(reactor, SelectReactor) else soft


def _allow_descriptors(reactor: object) -> None:
    """Let this process have all the files, and so connections, that it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard or isinstance(reactor, SelectReactor):  # select() breaks past 1,024 descriptors
        _log.info("at most {soft} files can be open", soft=soft)
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        # A hard limit that is infinite is more than some systems allow.
        _log.warn("at most {soft} files can be open: {error}", soft=soft, error=error)
    else:
        _log.info("at most {hard} files can be open, instead of {soft}", hard=hard, soft=soft)


def _say_backlog() -> None:
    """How many connections can wait at an endpoint that says nothing else: the kernel has its own bound."""
    try:
        most = int(SOMAXCONN.read_text())
    except (OSError, ValueError):
        most = BACKLOG
    if most < BACKLOG:
        _log.warn("at most {most} connections can wait at each endpoint: {file}", most=most, file=SOMAXCONN)
    else:
        _log.info("at most {most} connections can wait at each endpoint", most=BACKLOG)


def _host_of(port: IListeningPort) -> str:
    """Where a port is reached; empty if not over the internet."""
    address = port.getHost()
    return address.host if isinstance(address, IPv4Address | IPv6Address) else ""
