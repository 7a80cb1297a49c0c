"""Conversations with the real hub, in memory, over connections that break anywhere.

One property: each message of the room was told once, in order, or was acknowledged as one's own, or was told
missing; and whatever was said and acknowledged stands in the room once.
"""

from __future__ import annotations

from collections import deque

from client.scripted import Heard
from hypothesis import example, given
from hypothesis import strategies as st

from chatproto.client.conversation import Conversation
from chatproto.client.outcomes import Receipt, Refused
from chatproto.limits import Limits
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.chat import FrameDecoder
from chatproto.wire.messages import Chat, Leave, Message, Side

ROOMY = Limits(max_text_bytes=1_024, max_queued_bytes=4_096)
FORGETFUL = Limits(max_text_bytes=1_024, max_queued_bytes=4_096, max_room_log_messages=6)

STEPS = st.sampled_from(
    [
        "others",
        "others",
        "say",
        "say same",
        "up",
        "up",
        "down",
        "down",
        "all",
        "cut",
        "vanish",
        "stop",
        "read",
        "rest",
    ]
)


class Ann:
    """Someone whose connection is in the test's hands, both directions of it."""

    def __init__(self, chat: ChatInMemory) -> None:
        self.chat = chat
        self.heard = Heard()
        self.own: list[int] = []
        self.said: list[str] = []
        self.verdicts: list[Refused] = []
        self._person: Person | None = None
        self._ghosts: list[Person] = []
        self._decoder = FrameDecoder(Side.SERVER)
        self._up: deque[Message] = deque()
        self._is_put_off = False
        self.conversation = Conversation("ann", self.heard, self, first_id=1_000, max_refusals=1_000)
        self.conversation.join("lobby", 3)

    # Carrier

    def send(self, frame: bytes) -> None:
        self._up.extend(self._decoder.receive(frame))

    def opened(self) -> None: ...

    def put_off(self, attempt: int) -> None:
        self._is_put_off = True

    def gave_up(self, refusal: Refused) -> None:
        self.verdicts.append(refusal)

    def closing(self, reason: str, retry_s: float) -> None: ...

    # What may happen

    def say(self, text: str) -> None:
        self.said.append(text)
        self.conversation.say("lobby", text).addCallback(self._acknowledged)

    def _acknowledged(self, receipt: Receipt) -> None:
        self.own.append(receipt.seq)

    def connect(self) -> None:
        if self._person is None:
            self._person = Person(self.chat)
            self.conversation.connected()

    def lose(self, *, at_once: bool) -> None:
        """Lose the connection with all that is on its way; the server learns of it now or later."""
        person, self._person = self._person, None
        if person is not None:
            self._up.clear()
            self._ghosts.append(person)
            if at_once:
                self.bury()
            self.conversation.disconnected("cut")

    def bury(self) -> None:
        """The server learns what it has not noticed."""
        while self._ghosts:
            self._ghosts.pop().disconnect()

    def up(self, most: int = 1) -> bool:
        """Deliver to the server; whether there was anything."""
        sent = bool(self._up)
        for _ in range(min(most, len(self._up))):
            if self._person is not None and self._up:
                self._person.ask(self._up.popleft())
        return sent

    def down(self, most: int = 1) -> bool:
        """Deliver to the client; whether there was anything."""
        person = self._person
        if person is None:
            return False
        arrived, person.received = person.received[:most], person.received[most:]
        for message in arrived:
            self.conversation.received(message)
        if not person.received and not person.is_connected:
            self.lose(at_once=True)
            return True
        return bool(arrived)

    def stop_reading(self) -> None:
        if self._person is not None:
            self._person.stop_reading()

    def read(self) -> None:
        if self._person is not None:
            self._person.read()

    def rest(self) -> None:
        """Let things take their course until nothing more happens."""
        self.connect()
        self.bury()
        self.read()
        quiet = 0
        while quiet < 3:
            moved = self.up(100)
            self.chat.pass_time(0)
            moved = self.down(100) or moved
            if self._is_put_off:
                self._is_put_off = False
                self.conversation.resume()
                moved = True
            if self._person is None:
                self.connect()
                moved = True
            quiet = 0 if moved else quiet + 1


def live_through(limits: Limits, steps: list[str]) -> tuple[Ann, ChatInMemory]:
    """Do what *steps* say, then let things take their course."""
    chat = ChatInMemory(limits)
    bob = chat.join("bob", "lobby")
    for number in range(4):
        bob.say(f"before {number}", "lobby")
    ann = Ann(chat)
    ann.connect()
    others = 0
    for number, step in enumerate(steps):
        if step == "others":
            for _ in range(3):
                others += 1
                bob.say(f"others {others} " + "x" * 700, "lobby")
        elif step == "say":
            ann.say(f"own {number}")
        elif step == "say same":
            ann.say("own again")
        elif step == "up":
            ann.up()
        elif step == "down":
            ann.down()
        elif step == "all":
            ann.up(100)
            ann.down(100)
            chat.pass_time(0)
        elif step == "cut":
            ann.lose(at_once=True)
            ann.connect()
        elif step == "vanish":
            ann.lose(at_once=False)
            ann.connect()
        elif step == "stop":
            ann.stop_reading()
        elif step == "read":
            ann.read()
            chat.pass_time(0)
        else:
            ann.rest()
    ann.rest()
    bob.say("the end", "lobby")
    ann.rest()
    return ann, chat


def kept(chat: ChatInMemory) -> list[Chat]:
    """Everything that the log still has."""
    oldest, newest = chat.hub.log.bounds("lobby")
    messages = chat.hub.log.read("lobby", oldest, newest, 2**30)
    assert isinstance(messages, list)
    return messages


@given(st.lists(STEPS, max_size=40))
@example(["say", "all", "others", "say", "up", "cut", "say same", "say same", "all", "rest"])
@example(["all", "stop", "others", "others", "others", "say", "all", "read", "rest", "vanish", "others"])
def test_nothing_is_lost_and_nothing_comes_twice(steps: list[str]) -> None:
    ann, chat = live_through(ROOMY, steps)
    everything = kept(chat)
    told = ann.heard.seqs
    assert ann.heard.of("missing") == []
    assert told == sorted(set(told))
    assert len(ann.own) == len(ann.said)
    assert not set(told) & set(ann.own)
    # One's own may come before: the first join may have to be repeated, and then wants the newest again.
    assert {*told, *ann.own} >= set(range(told[0], everything[-1].seq + 1))
    texts = [message.text for message in everything if message.nick == "ann"]
    assert sorted(texts) == sorted(ann.said)


@given(st.lists(STEPS, max_size=40))
@example(["say same", "say same", "up", "down", "up", "others", "up", "cut", "up", "others"])
@example(["say same", "say same", "up", "down", "up", "others", "up", "cut"])
def test_what_is_lost_is_told(steps: list[str]) -> None:
    ann, chat = live_through(FORGETFUL, steps)
    told = ann.heard.seqs
    missing = [seq for _, first, last in ann.heard.of("missing") for seq in range(first, last + 1)]
    assert told == sorted(set(told))
    assert missing == sorted(set(missing))
    assert not set(told) & set(missing)
    assert not set(told) & set(ann.own)
    assert len(ann.own) == len(ann.said)
    newest = kept(chat)[-1].seq
    assert {*told, *missing, *ann.own} >= set(range(min([*told, *missing]), newest + 1))


def test_the_end_of_a_session_is_the_end_of_the_connection() -> None:
    ann, chat = live_through(ROOMY, ["all"])
    ann.send(b"\0\0\0\3\3\0\0")
    assert ann._up[-1] == Leave("")
    ann.up()
    assert [session.nick_text for session in chat.hub.sessions.values()] == ["bob"]
