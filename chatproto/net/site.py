"""What the port answers over HTTP."""

from __future__ import annotations

from io import BytesIO

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

__all__ = ["chat_site"]


class _NothingHere(Resource):
    """Every path: this server has no page."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        """Say how to connect instead."""
        request.setResponseCode(404)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return b"There is no page here. Talk with nc, telnet or chatproto-connect to this host and port.\n"


class _BodilessRequest(Request):
    """A request whose body is thrown away: Twisted would keep it in a file, however long it is."""

    def gotLength(self, length: int | None) -> None:
        """The headers are there."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body is there."""


def chat_site(clock: IReactorTime) -> Site:
    """The site behind the one port, whose connections time out on *clock*."""
    site = Site(_NothingHere(), requestFactory=_BodilessRequest, reactor=clock)
    site.noisy = False
    return site
