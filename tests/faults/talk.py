"""People who talk, so that a number of bytes go by for someone who does not read them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from faults.crowd import Caller, Crowd, fresh_ids

from chatproto.wire.messages import Ack, Chat, End, Error, Join, Lagged, Left, Message, Roster, Say

WINDOW = 8


class Talk:
    """Talkers and listeners in *rooms*; what goes by is counted in bytes of text."""

    def __init__(
        self,
        crowd: Crowd,
        rooms: Sequence[str] = ("lobby",),
        *,
        talkers: int = 2,
        listeners: int = 3,
        text_bytes: int = 4_000,
        window: int = WINDOW,
    ) -> None:
        self.crowd = crowd
        self.rooms = rooms
        self.text_bytes = text_bytes
        self.window = window
        self.newest = dict.fromkeys(rooms, 0)
        self.delays_s: list[float] = []  # of every delivery to a listener
        self._said_at_s: dict[int, float] = {}
        self._said = self._acknowledged = self._heard = self._to_say = 0
        self.talkers = [crowd.call() for _ in range(talkers)]
        self.listeners = [crowd.call() for _ in range(listeners)]
        self.lefts: dict[Caller, list[Left]] = {caller: [] for caller in self.listeners}
        for number, caller in enumerate((*self.talkers, *self.listeners)):
            nick = f"talker{number}" if caller in self.talkers else f"listener{number}"
            caller.send(*(Join(nick, room) for room in rooms))
        everybody = (*self.talkers, *self.listeners)
        crowd.run_until(
            lambda: all(len(caller.of(End)) == len(rooms) for caller in everybody), "everybody in the rooms"
        )
        for caller in everybody:
            caller.keeps = False  # it may be much
            caller.heard = self._listen

    def go_by(self, n_bytes: int = 1) -> None:
        """Have about so many bytes said, and heard by all listeners; at least one message."""
        self._to_say += max(1, n_bytes // self.text_bytes)
        for talker in self.talkers * self.window:
            self._say(talker)
        self.crowd.run_until(lambda: self._acknowledged == self._to_say, "everything is said")
        self.crowd.run_until(lambda: self._heard == self._to_say * len(self.listeners), "everything is heard")

    def _say(self, talker: Caller) -> None:
        if self._said < self._to_say:
            room = self.rooms[self._said % len(self.rooms)]
            self._said += 1
            id = next(fresh_ids)
            self._said_at_s[id] = time.perf_counter()
            talker.send(Say(id, room, f"{id} ".ljust(self.text_bytes, "x")))

    def _listen(self, caller: Caller, message: Message) -> None:
        if isinstance(message, Ack):
            self._acknowledged += 1
            self._say(caller)
        elif isinstance(message, Chat):
            self.newest[message.room] = max(self.newest[message.room], message.seq)
            if caller in self.lefts and message.nick.startswith("talker"):
                self._heard += 1
                id = int(message.text.split(maxsplit=1)[0])
                self.delays_s.append(time.perf_counter() - self._said_at_s[id])
        elif isinstance(message, Left) and caller in self.lefts:
            self.lefts[caller].append(message)
        else:
            # Nobody else is to notice anything of a slow reader.
            assert not isinstance(message, Error | Lagged), message


def assert_whole(messages: Sequence[Message], room: str, own: Collection[int] = ()) -> list[Lagged]:
    """In what someone got of *room* every gap is announced by `lagged`, and nothing is doubled.

    *messages* are all that came since they joined; *own* are the numbers of what they said themselves, which
    nobody gets back. Returns the `lagged` messages.
    """
    lags = [message for message in messages if isinstance(message, Lagged) and message.room == room]
    next_seq = next(each.last + 1 for each in messages if isinstance(each, Roster) and each.room == room)
    has_just_lagged = False
    for message in messages:
        if isinstance(message, Lagged) and message.room == room:
            assert message.first >= next_seq, f"{message} after {next_seq - 1}"
            assert message.last >= message.first
            assert not has_just_lagged, f"{message}, and nothing came since the last one"
            next_seq, has_just_lagged = message.first, True
        elif isinstance(message, Chat) and message.room == room:
            assert message.seq not in own, "an own message came back"
            while next_seq in own:
                next_seq += 1
            assert message.seq == next_seq, f"{message.seq} came, not {next_seq}"
            next_seq, has_just_lagged = message.seq + 1, False
    return lags
