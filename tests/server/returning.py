"""A restart under many people of each face: all are back, without a gap, and not all at once.

    python returning.py N

N people each speak frames, WebSocket (binary and JSON) and lines, while one talks all the time. It prints
what it saw, and exits with 1 where something is wrong. `PYTHONPATH` has the folder of the tests.
"""

from __future__ import annotations

import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from forms import Json
from live import free_port
from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater, react
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from chatproto.client import ChatClient, ChatEvents
from chatproto.wire.messages import Chat, End, Goodbye, Join, Message, Welcome

reactor = cast(Any, the_reactor)
PATIENCE_S = 120.0
OPENED_AT_A_TIME = 50


class TooLate(Exception):
    """It did not come to hold."""


def wait(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds)


async def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise TooLate(f"not within {PATIENCE_S:g} s: {what}")
        await wait(0.05)


class Person:
    """Somebody who is to be in the room whatever happens: what they got, and how long they stayed away."""

    def __init__(self, kind: str, number: int, port: int) -> None:
        self.kind, self.nick, self.port = kind, f"{kind}{number}", port
        self.seqs: list[int] = []
        self.due_s: list[float] = []
        self.times_in = 0

    def come(self) -> None:
        raise NotImplementedError


class Client(Person, ChatEvents):
    """With the client of this project, over either transport."""

    def __init__(self, kind: str, number: int, port: int) -> None:
        super().__init__(kind, number, port)
        place = f"127.0.0.1:{port}"
        self.client = ChatClient(f"ws://{place}/chat" if kind == "bin" else place, self.nick, self)

    def come(self) -> None:
        self.client.start()
        self.client.join("", 1_000)

    def connected(self, message: Welcome) -> None:
        self.times_in += 1

    def chat(self, message: Chat) -> None:
        self.seqs.append(message.seq)

    def reconnecting(self, delay_s: float) -> None:
        self.due_s.append(time.monotonic() + delay_s)


class Plain(Person):
    """With a program of somebody else's, which comes back when it was told to, or a little later."""

    def come(self) -> None:
        factory = Factory.forProtocol(JsonLink if self.kind == "json" else LineLink)
        factory.person = self  # type: ignore[attr-defined]
        factory.noisy = False
        TCP4ClientEndpoint(reactor, "127.0.0.1", self.port).connect(factory).addErrback(self.again)
        self.not_before_s = 0.0

    def again(self, failure: Failure) -> None:
        reactor.callLater(0.5, self.come)

    def lost(self) -> None:
        retry_s = max(0.0, self.not_before_s - time.monotonic()) or random.uniform(1, 3)
        self.due_s.append(time.monotonic() + retry_s)
        reactor.callLater(retry_s, self.come)


class JsonLink(Protocol):
    def connectionMade(self) -> None:
        self.person: Plain = self.factory.person
        self.form = Json()
        self.epoch = getattr(self.person, "epoch", 0)
        self.form.say(Join(self.person.nick, "", self.epoch, max(self.person.seqs, default=0), 65_535))
        self.transport.write(self.form.output())  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        for message in self.form.receive(data):
            self.take(message)
        self.transport.write(self.form.output())  # type: ignore[union-attr]

    def take(self, message: Message) -> None:
        if isinstance(message, Welcome):
            self.person.epoch = message.epoch  # type: ignore[attr-defined]
        elif isinstance(message, Chat):
            self.person.seqs.append(message.seq)
        elif isinstance(message, End):
            self.person.times_in += 1
        elif isinstance(message, Goodbye):
            self.person.not_before_s = time.monotonic() + message.retry_ms / 1_000

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.person.lost()


class LineLink(LineReceiver):
    delimiter = b"\n"

    def connectionMade(self) -> None:
        self.person: Plain = self.factory.person
        self.sendLine(self.person.nick.encode())
        self.sendLine(b"/history 1000")

    def lineReceived(self, line: bytes) -> None:
        said = re.search(rb"talker: (\d+)\r?$", line)
        if said is not None and int(said[1]) not in self.person.seqs[-2_000:]:
            self.person.seqs.append(int(said[1]))
        elif line.startswith(b"* in lobby"):
            self.person.times_in += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.person.lost()


class Server:
    """`twistd chat` on one port, with one history; it can be started again."""

    def __init__(self, port: int, *options: str) -> None:
        twistd = Path(sys.executable).parent / "twistd"
        listen = f"tcp:{port}:interface=127.0.0.1"
        self.command = [str(twistd), "-n", "--pidfile=", "chat", "--listen", listen, *options]
        self.log = open("log", "ab")  # noqa: SIM115
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT
        )

    async def restart(self) -> float:
        begun_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        await until(lambda: self.process.poll() is not None, "the server ends")
        took_s = time.monotonic() - begun_s
        self.start()
        return took_s


class Talker:
    """Says the number of each message, which is its sequence number too, until told to stop."""

    def __init__(self, port: int) -> None:
        self.client = ChatClient(f"127.0.0.1:{port}", "talker")
        self.said = 0
        self.is_over = False
        self.is_quiet = False

    async def talk(self) -> None:
        self.client.start()
        await self.client.join()
        while not self.is_over:
            receipt = await self.client.say("", f"{self.said + 1}")
            self.said += 1
            if receipt.seq != self.said:
                raise TooLate(f"message {self.said} has the number {receipt.seq}")
            await wait(0.2)
        self.is_quiet = True


async def run(n: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    port = free_port()
    per_s = max(40, min(500, n))
    people: list[Person] = [Client(kind, number, port) for kind in ("frames", "bin") for number in range(n)]
    people += [Plain(kind, number, port) for kind in ("json", "lines") for number in range(n)]
    server = Server(port, "--announce-limit", "0", "--max-returns-per-s", str(per_s))
    try:
        talker = Talker(port)
        talking = ensureDeferred(talker.talk())
        talking.addErrback(lambda failure: print(failure))
        for begin in range(0, len(people), OPENED_AT_A_TIME):
            for person in people[begin : begin + OPENED_AT_A_TIME]:
                person.come()
            await wait(0.1)
        await until(lambda: all(person.times_in == 1 for person in people), "everybody is in")
        said = talker.said
        await until(lambda: talker.said > said + 3, "somebody talks")
        for person in people:
            person.due_s.clear()
        took_s = await server.restart()
        await until(lambda: all(person.times_in == 2 for person in people), "everybody is back")
        said = talker.said
        await until(lambda: talker.said > said + 3, "somebody talks again")
        talker.is_over = True
        await until(lambda: talker.is_quiet, "the talker is quiet")
        await until(lambda: all(max(person.seqs) == talker.said for person in people), "all have all")
        report(people, talker.said, took_s, per_s)
    finally:
        server.process.kill()
        server.process.wait()
        print(Counter((person.kind, person.times_in) for person in people), file=sys.stderr)
        print(Path("log").read_text()[-2_000:], file=sys.stderr)


def report(people: list[Person], said: int, took_s: float, per_s: float) -> None:
    for person in people:
        # At nc the first lines come when one is in, and only so many; what counts is from there on.
        first = min(person.seqs)
        got = sorted(person.seqs)
        if got != [*range(first, said + 1)]:
            raise TooLate(f"{person.nick} has not everything once: {got} of {first} to {said}")
    told = [person for person in people if person.kind != "lines"]
    due_s = [person.due_s[0] for person in told]
    begin_s, spread_s = min(due_s), len(people) / per_s
    classes = Counter(int((each_s - begin_s) / spread_s * 10) for each_s in due_s)
    print(
        f"{len(people)} people back without a gap over {said} messages; the server ended in {took_s:.2f} s; "
        f"first attempts of {len(told)} within {max(due_s) - begin_s:.2f} s, in tenths of {spread_s:.2f} s: "
        f"{[classes[number] for number in range(10)]}"
    )
    # How soon each heard of it depends on the machine; but a crowd would all be in one of them.
    if max(classes.values()) > len(told) / 4 or max(due_s) - begin_s < 0.8 * spread_s:
        raise TooLate("they do not come back one after the other")


if __name__ == "__main__":
    react(lambda _: ensureDeferred(run(int(sys.argv[1]))))
