"""`/metrics`, `/healthz` and `/readyz`: what the server tells whoever runs it.

Strangers are not to read it. So it is answered on an endpoint of its own, where the operator decides who gets
there; or, without one, on the ports of the chat, but only to who is on this machine.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from chatproto.net.factory import ChatFactory
from chatproto.net.peers import is_loopback
from chatproto.net.site import BodilessRequest, SiteChannel
from chatproto.rooms.hub import Hub
from chatproto.server.delay import ReactorDelay
from chatproto.server.metrics import registry_of

__all__ = ["LOCAL", "OFF", "Status", "StatusSite", "place_of"]

LOCAL = "local"
"""What is named instead of an endpoint where it is to be on the ports of the chat..."""

OFF = "off"
"""...or nowhere."""

_Answer = Callable[[], tuple[int, bytes, bytes]]
"""Gives a status code, a content type and a body."""

_TEXT = b"text/plain; charset=utf-8"

_METHODS = (b"GET", b"HEAD")


class Status:
    """What is answered of *hub* and *factory*; `site_of_its_own` and `add_to` make it to be had."""

    def __init__(self, hub: Hub, factory: ChatFactory, delay: ReactorDelay) -> None:
        self.is_draining = False
        self._hub = hub
        self._registry = registry_of(hub, [factory], delay)
        self._answers: dict[bytes, _Answer] = {
            b"metrics": self._metrics,
            b"healthz": self._healthz,
            b"readyz": self._readyz,
        }

    def add_to(self, root: Resource) -> None:
        """Let those on this machine have it below *root*; for all others *root* is as it was."""
        for name, answer in self._answers.items():
            root.putChild(name, _ForThisMachine(_Page(answer), name, root))

    def resource(self) -> Resource:
        """It for everybody who gets there, and nothing else."""
        root = Resource()
        for name, answer in self._answers.items():
            root.putChild(name, _Page(answer))
        return root

    # --- what is answered ---------------------------------------------------------------------------------

    def _metrics(self) -> tuple[int, bytes, bytes]:
        return 200, CONTENT_TYPE_LATEST.encode(), generate_latest(self._registry)

    def _healthz(self) -> tuple[int, bytes, bytes]:
        # Whoever reads this has had a turn of the reactor for it; there is nothing else to ask for.
        return 200, _TEXT, b"ok\n"

    def _readyz(self) -> tuple[int, bytes, bytes]:
        trouble = self._hub.log.trouble
        if self.is_draining:
            return 503, _TEXT, b"the server is shutting down\n"
        if trouble:
            return 503, _TEXT, f"the history cannot keep what is said: {trouble}\n".encode()
        return 200, _TEXT, b"ready\n"


class StatusSite(Site):
    """The site of an endpoint of its own. Its `resource` may come later, but before the first request."""

    noisy = False
    protocol = SiteChannel  # type: ignore[assignment]  # without HTTP/2, which is negotiated in TLS

    def __init__(self, timeout_s: float) -> None:
        super().__init__(Resource(), requestFactory=BodilessRequest, timeout=timeout_s)


def place_of(address: object) -> str:
    """Where a site that listens at *address* is, for people."""
    if isinstance(address, UNIXAddress):
        return address.name.decode() if isinstance(address.name, bytes) else str(address.name)
    if isinstance(address, IPv4Address | IPv6Address):
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"http://{host}:{address.port}/"
    return str(address)


class _Page(Resource):
    """One answer, made anew for each request."""

    isLeaf = False

    def __init__(self, answer: _Answer) -> None:
        super().__init__()
        self._answer = answer

    def render(self, request: Request) -> bytes:
        """Answer GET and HEAD."""
        request.setHeader(b"x-content-type-options", b"nosniff")
        if request.method in _METHODS:
            status, content_type, body = self._answer()
        else:
            status, content_type, body = 405, _TEXT, b"Only GET and HEAD are of use here.\n"
            request.setHeader(b"allow", b", ".join(_METHODS))
        request.setResponseCode(status)
        request.setHeader(b"content-type", content_type)
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"content-length", b"%d" % len(body))
        return b"" if request.method == b"HEAD" else body


class _ForThisMachine(Resource):
    """*page* for who is on this machine; for all others what *root* has of a name that it does not know."""

    def __init__(self, page: _Page, name: bytes, root: Resource) -> None:
        super().__init__()
        self._page = page
        self._name = name
        self._root = root

    def getChild(self, path: bytes, request: Request) -> IResource:
        """There is nothing below."""
        child: IResource = self._root.getChild(self._name, request).getChildWithDefault(path, request)
        return child

    def render(self, request: Request) -> object:
        """Answer, to whom it is for."""
        page = self._page if _is_from_here(request) else self._root.getChild(self._name, request)
        return page.render(request)


_PROXIES_SAY = (
    *(b"forwarded", b"via", b"x-real-ip"),
    *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),
)


def _is_from_here(request: Request) -> bool:
    """Whether a request is by somebody on this machine, and not by a proxy on it for somebody elsewhere.

    What a request says of where it comes from can only make it a stranger's. A Unix socket is no sign of
    nearness: who connects to those is mostly a proxy. A page that a browser here has loaded from elsewhere,
    under a name that has come to mean this machine since, gives itself away by that name.
    """
    address = request.getClientAddress()
    return (
        isinstance(address, IPv4Address | IPv6Address)
        and is_loopback(address.host)
        and not any(map(request.requestHeaders.hasHeader, _PROXIES_SAY))
        and is_loopback(request.getRequestHostname().decode("latin-1").lower())
    )
