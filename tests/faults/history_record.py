"""What was said, acknowledged and seen, held against the history: the judge of a durable one.

It knows nothing of servers. Whatever contradicts the protocol's promise raises AssertionError.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from chatproto.wire.messages import Ack, Chat

__all__ = ["Record", "Said"]


@dataclass(slots=True, eq=False)
class Said:
    """Something that somebody said, once or again and again. No two have the same text."""

    room: str
    nick: str
    id: int
    text: str
    receipt: Ack | None = None
    is_refused: bool = False
    """The last that was heard of it is that it was not kept and nobody saw it."""


class Record:
    """All that is known of one history, over all servers that kept it.

    `history` has what was found in it of each room, the message with the number 1 first.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[Chat]] = defaultdict(list)
        self.acknowledged = 0
        self.refused = 0
        self.epoch = 0
        self._said: dict[str, Said] = {}
        self._place: dict[str, tuple[str, int]] = {}
        self._seen: set[Chat] = set()

    # --- what is heard of it ------------------------------------------------------------------------------

    def opened(self, epoch: int) -> None:
        """Somebody was welcomed."""
        assert self.epoch in (0, epoch), "the sequence started anew"
        self.epoch = epoch

    def will_say(self, said: Said) -> None:
        """Somebody says something for the first time."""
        assert said.text not in self._said
        self._said[said.text] = said

    def was_acknowledged(self, said: Said, ack: Ack) -> None:
        """*said* has a receipt, perhaps not the first."""
        assert ack.id == said.id, f"{ack} is not for {said}"
        if said.receipt is None:
            said.receipt = ack
            self.acknowledged += 1
        assert said.receipt == ack, f"said again, it has another receipt: {said.receipt}, then {ack}"
        said.is_refused = False
        self._seen.add(Chat(said.room, ack.seq, ack.time, said.nick, said.text))

    def was_refused(self, said: Said) -> None:
        """*said* was answered with error 13."""
        assert said.receipt is None, f"what was acknowledged is refused when it is said again: {said}"
        said.is_refused = True
        self.refused += 1

    def was_seen(self, chat: Chat) -> None:
        """Somebody was sent a message."""
        self._seen.add(chat)

    def was_found(self, room: str, chats: Sequence[Chat]) -> None:
        """The history has *chats* after what was found before."""
        found = self.history[room]
        for chat in chats:
            said = self._said.get(chat.text)
            assert said is not None, f"nobody said that: {chat}"
            assert (chat.room, chat.nick) == (room, said.nick) == (said.room, said.nick), (
                f"not so said: {chat}"
            )
            assert chat.seq == len(found) + 1, f"a hole: {chat} stands after {found[-1:]}"
            assert chat.text not in self._place, f"it is there twice: {chat} and {self._place[chat.text]}"
            assert not found or chat.time >= found[-1].time, f"time goes back: {found[-1]}, then {chat}"
            assert not said.is_refused, f"it was refused, and is there: {chat}"
            self._place[chat.text] = (room, chat.seq)
            found.append(chat)

    # --- what must hold -----------------------------------------------------------------------------------

    def check(self) -> None:
        """What was acknowledged or seen so far is in what was found, where everybody saw it."""
        for chat in self._seen:
            found = self.history[chat.room]
            assert 1 <= chat.seq <= len(found), f"it is lost: {chat}; the newest is {found[-1:]}"
            kept = found[chat.seq - 1]
            assert kept == chat, f"a number was used twice: somebody was told {chat}, and it is {kept}"
        self._seen.clear()

    def check_run(self, room: str, texts: Sequence[str]) -> None:
        """Whoever saw just these *texts* saw a piece of the history of *room* without a hole."""
        places = [self._place.get(text, ("", 0)) for text in texts]
        first = places[0][1] if places else 0
        expected = [(room, seq) for seq in range(first, first + len(places))]
        assert places == expected, f"{texts} are at {places}"

    def check_again(self, room: str, chats: Sequence[Chat]) -> None:
        """All of the history of *room* is *chats*, which were read once more."""
        assert list(chats) == self.history[room], "the history changed"

    @property
    def newest(self) -> dict[str, int]:
        """The newest number that was found in each room."""
        return {room: len(chats) for room, chats in self.history.items()}
