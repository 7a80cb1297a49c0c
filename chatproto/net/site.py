"""What the port answers over HTTP."""

from __future__ import annotations

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


def chat_site(clock: IReactorTime) -> Site:
    """The site behind the one port, whose connections time out on *clock*."""
    site = Site(_NothingHere(), reactor=clock)
    site.noisy = False
    return site
