"""The layer's client against a server that runs the cases: `client.py [OPTION...] ws://HOST:PORT AGENT`.

It waits for the server, asks how many cases there are, echoes through each, and has the reports written.
It exits 1 when a connection cannot be made; what a case does to a connection is for the server to judge.
"""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import deferLater, react
from twisted.python.failure import Failure

from chatproto.websocket import WebSocketClientEndpoint, WebSocketLimits, WebSocketProtocol
from chatproto.wire.deflate import Deflate

# The largest message of group 9, and in the send queue a few of them.
LIMITS = WebSocketLimits(max_message_bytes=2**24, max_queued_bytes=2**26)
RETRY_S = 0.1
RETRIES = 600


class Conversation(WebSocketProtocol):
    """One connection, echoed; `ended` fires with the last text that came."""

    def __init__(self) -> None:
        self.ended: Deferred[str] = Deferred()
        self._last_text = ""

    def textMessageReceived(self, message: str) -> None:
        self._last_text = message
        self.transport.sendTextMessage(message)

    def bytesMessageReceived(self, data: bytes) -> None:
        self.transport.sendBytesMessage(data)

    def connectionLost(self, reason: Failure) -> None:
        self.ended.callback(self._last_text)


class Conversations:
    """A factory of them."""

    def buildProtocol(self, url: str) -> Conversation:
        return Conversation()


async def converse(reactor: Any, url: str, deflate: Deflate) -> str:
    """Connect, echo until the connection ends, and give the last text that came."""
    endpoint = WebSocketClientEndpoint.new(reactor, url, limits=LIMITS, deflate=deflate)
    conversation = await endpoint.connect(Conversations())
    last_text: str = await conversation.ended
    return last_text


async def run_cases(reactor: Any, url: str, agent: str, deflate: Deflate) -> None:
    """All cases that the server has."""
    for _ in range(RETRIES):
        try:
            n_cases = int(await converse(reactor, f"{url}/getCaseCount", deflate))
            break
        except ConnectionRefusedError:
            await deferLater(reactor, RETRY_S)
    else:
        raise SystemExit(f"nobody listens at {url}")
    for case in range(1, n_cases + 1):
        print(f"case {case} of {n_cases}")
        await converse(reactor, f"{url}/runCase?case={case}&agent={quote(agent)}", deflate)
    await converse(reactor, f"{url}/updateReports?agent={quote(agent)}", deflate)


def main(reactor: Any) -> Deferred[None]:
    """For `react`."""
    parser = argparse.ArgumentParser(description="Echo through the cases that a server runs.")
    parser.add_argument("url", help="ws://HOST:PORT")
    parser.add_argument("agent", help="the name for the reports")
    parser.add_argument("--level", type=int, default=6, help="how hard to compress (%(default)s)")
    parser.add_argument("--client-no-context-takeover", action="store_true", help="keep no window here")
    parser.add_argument(
        "--min-message-bytes", type=int, default=0, help="of what is compressed (%(default)s)"
    )
    options = parser.parse_args()
    # The server may keep its window.
    deflate = Deflate(
        server_no_context_takeover=False,
        client_no_context_takeover=options.client_no_context_takeover,
        min_message_bytes=options.min_message_bytes,
        level=options.level,
    )
    return Deferred.fromCoroutine(run_cases(reactor, options.url, options.agent, deflate))


if __name__ == "__main__":
    react(main)
