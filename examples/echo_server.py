"""A server that sends every WebSocket message back: text as text, binary as binary.

`python examples/echo_server.py [--listen ENDPOINT] [--resource] [--deflate] ...`
"""

import argparse
import sys

from echo_options import add_options, chosen
from twisted.internet import endpoints, reactor
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure
from twisted.web.server import Site

from chatproto.websocket import Request, WebSocketFactory, WebSocketProtocol, WebSocketResource


class Echo(WebSocketProtocol):
    """Sends everything back."""

    def textMessageReceived(self, message: str) -> None:
        """Send it back."""
        self.transport.sendTextMessage(message)

    def bytesMessageReceived(self, data: bytes) -> None:
        """Send it back."""
        self.transport.sendBytesMessage(data)


class EchoFactory:
    """Everybody is welcome."""

    def buildProtocol(self, request: Request) -> Echo:
        """Make one for each connection."""
        return Echo()


parser = argparse.ArgumentParser(description="Send every WebSocket message back.")
parser.add_argument("--listen", default="tcp:9001:interface=127.0.0.1", help="an endpoint (%(default)s)")
parser.add_argument("--resource", action="store_true", help="as a resource of twisted.web")
parser.add_argument("--origin", action="append", default=[], help="whose pages may come too; may be repeated")
add_options(parser)
options, limits, deflate = chosen(parser)

factory: WebSocketFactory | Site
if options.resource:
    factory = Site(WebSocketResource(EchoFactory(), limits=limits, origins=options.origin, deflate=deflate))
else:
    factory = WebSocketFactory(EchoFactory(), limits=limits, origins=options.origin, deflate=deflate)


def say(port: IListeningPort) -> None:
    """Tell where it listens."""
    address = port.getHost()
    print(f"listening on {address.host} port {address.port}", flush=True)  # type: ignore[attr-defined]


def give_up(failure: Failure) -> None:
    """Tell why it does not."""
    print(f"cannot listen on {options.listen}: {failure.getErrorMessage()}", file=sys.stderr)
    reactor.callWhenRunning(reactor.stop)


endpoints.serverFromString(reactor, options.listen).listen(factory).addCallbacks(say, give_up)
reactor.run()
