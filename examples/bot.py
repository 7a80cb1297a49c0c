"""A bot that answers everyone who says its name. `python examples/bot.py [ENDPOINT]`, else port 9000."""

import sys

from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString
from twisted.python.failure import Failure

from chatproto.client import ChatClient, ChatEvents
from chatproto.wire.messages import Chat


class Answers(ChatEvents):
    """Says hello back."""

    client: ChatClient

    def chat(self, message: Chat) -> None:
        """Someone said something."""
        if "bot" in message.text.split():
            said = self.client.say(message.room, f"hello, {message.nick}")
            said.addErrback(lambda failure: print(f"not said: {failure.getErrorMessage()}", file=sys.stderr))


def give_up(failure: Failure) -> None:
    print(f"the bot is not wanted: {failure.getErrorMessage()}", file=sys.stderr)
    reactor.stop()


events = Answers()
where = sys.argv[1] if len(sys.argv) > 1 else "tcp:127.0.0.1:9000"
events.client = ChatClient(clientFromString(reactor, where), "bot", events)
events.client.start()
events.client.join("lobby").addErrback(give_up)
reactor.addSystemEventTrigger("before", "shutdown", events.client.stop)
reactor.run()
