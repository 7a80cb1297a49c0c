"""A client that sends every message of a WebSocket server back, until the server closes.

`python examples/echo_client.py ws://127.0.0.1:9001/ [--deflate] ...`
"""

import argparse
import sys

from echo_options import add_options, chosen
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python.failure import Failure

from chatproto.websocket import ConnectionClosed, WebSocketClientEndpoint, WebSocketProtocol


class Echo(WebSocketProtocol):
    """Sends everything back."""

    def __init__(self) -> None:
        self.ended: Deferred[BaseException | None] = Deferred()

    def textMessageReceived(self, message: str) -> None:
        """Send it back."""
        self.transport.sendTextMessage(message)

    def bytesMessageReceived(self, data: bytes) -> None:
        """Send it back."""
        self.transport.sendBytesMessage(data)

    def connectionLost(self, reason: Failure) -> None:
        """It is over."""
        self.ended.callback(reason.value)


class EchoFactory:
    """Knows what the connection is for."""

    def buildProtocol(self, url: str) -> Echo:
        """Make one for the connection."""
        return Echo()


parser = argparse.ArgumentParser(description="Send every message of a WebSocket server back.")
parser.add_argument("url", help="ws:// or wss://")
parser.add_argument("--subprotocol", action="append", default=[], help="to offer; may be repeated")
add_options(parser)
options, limits, deflate = chosen(parser)


async def main(_: object) -> None:
    """Echo until the server closes."""
    try:
        endpoint = WebSocketClientEndpoint.new(
            reactor, options.url, limits=limits, deflate=deflate, subprotocols=options.subprotocol
        )
        echo = await endpoint.connect(EchoFactory())
    except Exception as error:
        sys.exit(f"cannot connect to {options.url}: {error}")
    ended = await echo.ended
    print(f"closed: {ended}")
    if not isinstance(ended, ConnectionClosed):
        sys.exit(1)


react(main)
