"""People who talk through whatever happens, and what must be true afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from live import PATIENCE_S, Framed, Server, patiently

from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, Join, Leave, Message, Roster, Say, Welcome, Who

__all__ = ["Speaker", "Talk"]

MANY = 65_535


class Speaker:
    """Says one thing after the other, hears others, and goes to the next server when its own is gone.

    What was neither acknowledged nor refused is sent again under its id. A text is said once, so all can see
    what became of it.
    """

    def __init__(self, nick: str, servers: Sequence[Server], first: int, room: str) -> None:
        self.nick = nick
        self.room = room
        self.acked: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self.heard: list[tuple[int, str]] = []
        self.returns = -1
        self._servers = servers
        self._server = first
        self._client: Framed | None = None
        self._seen = 0
        self._newest_id = 0
        self._unanswered: dict[int, str] = {}
        self._said_again: set[int] = set()
        self._epoch = self._after = 0
        self._is_in = False
        self._retry_s = 0.0

    def step(self, is_talking: bool, window: int = 8) -> None:
        """Do what can be done now."""
        if self._client is None:
            self._connect()
            return
        with suppress(OSError):
            self._client.drain()
        for message in self._client.received[self._seen :]:
            self._seen += 1
            self._take(message)
            if self._client is None:
                return
        if self._client.at_end:
            self._lose()
        elif self._is_in and is_talking and len(self._unanswered) < window:
            self._newest_id += 1
            self._unanswered[self._newest_id] = f"{self.nick} {self._newest_id}"
            self._say(self._newest_id)

    @property
    def is_done(self) -> bool:
        """Whether everything is answered."""
        return self._is_in and not self._unanswered

    def move(self) -> None:
        """Go to the next server, as if the connection were lost."""
        if self._client is not None:
            self._client.reset()
        self._lose()

    def _connect(self) -> None:
        if time.monotonic() < self._retry_s:
            return
        self._server = (self._server + (self.returns >= 0)) % len(self._servers)
        self._retry_s = time.monotonic() + 0.1
        with suppress(OSError):
            self._client = Framed(self._servers[self._server].port)
            self._seen = 0
            self.returns += 1
            self._client.send(Join(self.nick, self.room, self._epoch, self._after, MANY))

    def _take(self, message: Message) -> None:
        if isinstance(message, Welcome):
            if self._epoch not in (0, message.epoch):
                self.heard, self._after = [], 0
            self._epoch = message.epoch
        elif isinstance(message, Chat):
            self.heard.append((message.seq, message.text))
            self._after = max(self._after, message.seq)
        elif isinstance(message, End):
            self._is_in = True
            self._said_again |= self._unanswered.keys()
            for id in list(self._unanswered):
                self._say(id)
        elif isinstance(message, Ack):
            text = self._unanswered.pop(message.id, "")
            assert text, f"{message} came without a question"
            self.acked[text] = message.seq
        elif isinstance(message, Error) and message.id:
            assert message.code == ErrorCode.NOT_STORED, message
            text = self._unanswered.pop(message.id, "")
            assert text, f"{message} came without a question"
            if message.id not in self._said_again:
                # Of what was sent before as well nobody can say now whether that got there.
                self.refused[text] = message.code
        elif isinstance(message, Error) and message.code in (ErrorCode.NICK_TAKEN, ErrorCode.RATE_LIMITED):
            self.move()  # the session before is not gone yet, or the store not there

    def _say(self, id: int) -> None:
        assert self._client is not None
        with suppress(OSError):
            self._client.send(Say(id, self.room, self._unanswered[id]))

    def _lose(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None
        self._is_in = False

    def close(self) -> None:
        """Be done."""
        if self._client is not None:
            self._client.close()


class Talk:
    """A speaker at each of *servers*, all in one room."""

    def __init__(self, servers: Sequence[Server], room: str = "lobby") -> None:
        self.servers = servers
        self.room = room
        self.speakers = [Speaker(f"s{n}", servers, n, room) for n in range(len(servers))]

    def until(self, holds: Callable[[], object], what: str = "", *, is_talking: bool = True) -> None:
        """Have everybody talk until something holds."""
        deadline_s = time.monotonic() + 2 * PATIENCE_S
        while not holds():
            for speaker in self.speakers:
                speaker.step(is_talking)
            assert time.monotonic() < deadline_s, what or "it did not come to hold"
            time.sleep(0.002)

    def for_s(self, seconds: float) -> None:
        """Have everybody talk for so long."""
        until_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > until_s)

    def until_more_is_kept(self, n: int = 30) -> None:
        """Have everybody talk until each has *n* more acknowledgements."""
        wanted = [len(speaker.acked) + n for speaker in self.speakers]
        self.until(
            lambda: all(len(s.acked) >= w for s, w in zip(self.speakers, wanted, strict=True)), "more acks"
        )

    def end(self, *, may_have_begun_anew: bool = False) -> list[tuple[int, str]]:
        """Let everything be answered, and check what must be true; what is kept."""
        self.until(lambda: all(speaker.is_done for speaker in self.speakers), "answers", is_talking=False)
        for _ in patiently(0.1):  # what one has said last is perhaps on its way to another still
            orders = [self._all_of(server) for server in self.servers]
            order = orders[0]
            if all(other == order for other in orders):
                break
        assert all(other == order for other in orders), "servers have different orders"
        assert [seq for seq, _ in order] == list(range(1, len(order) + 1)), "numbers have holes"
        texts = [text for _, text in order]
        assert len(set(texts)) == len(texts), "something is there twice"
        by_text = {text: seq for seq, text in order}
        for speaker in self.speakers:
            assert not speaker.acked.keys() & speaker.refused.keys()
            assert not [text for text in speaker.refused if text in by_text], "refused, and kept all the same"
            if not may_have_begun_anew:
                lost = {text: seq for text, seq in speaker.acked.items() if by_text.get(text) != seq}
                assert not lost, "acknowledged, and not kept in that place"
            own = set(speaker.acked)
            self._check_heard(speaker, order, own)
        for speaker in self.speakers:
            speaker.close()
        return order

    def _check_heard(self, speaker: Speaker, order: list[tuple[int, str]], own: set[str]) -> None:
        newest = order[-1][0] if order else 0
        self.until(
            lambda: (
                not speaker.heard
                or {seq for seq, _ in speaker.heard} | {speaker.acked[text] for text in own}
                >= set(range(speaker.heard[0][0], newest + 1))
            ),
            f"{speaker.nick} has not heard everything",
            is_talking=False,
        )
        assert len(set(speaker.heard)) == len(speaker.heard), f"{speaker.nick} heard something twice"
        assert set(speaker.heard) <= set(order), f"{speaker.nick} heard what is not kept"
        assert speaker.heard == sorted(speaker.heard), f"{speaker.nick} heard things out of order"

    def people_at(self, server: Server) -> tuple[str, ...]:
        """Who is in the room, as *server* has it, when everybody else has left."""
        client = server.connect()
        client.send(Join(f"check{server.port}", self.room, 0, 0, 0))
        for _ in patiently():
            client.send(Who(self.room))
            found = client.until(Roster).nicks
            if len(found) == 1:
                break
        client.close()
        return found

    def _all_of(self, server: Server) -> list[tuple[int, str]]:
        client = server.connect()
        client.send(Join(f"check{server.port}", self.room, 0, 0, MANY))
        found: list[tuple[int, str]] = []
        client.until(End)
        found = [(chat.seq, chat.text) for chat in client.of(Chat)]
        here = {f"check{server.port}", *(speaker.nick for speaker in self.speakers)}
        for _ in patiently():
            client.send(Who(self.room))
            if set(client.until(Roster).nicks) == here:
                break
        assert set(client.of(Roster)[-1].nicks) == here, "the roster is wrong"
        assert len(client.of(Roster)[-1].nicks) == len(here)
        client.send(Leave(""))
        client.until_closed()
        return found
