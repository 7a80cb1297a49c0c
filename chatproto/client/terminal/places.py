"""The rooms one is in and the people one talks with alone: which one is on the screen, and what is unread."""

from __future__ import annotations

from chatproto.client.terminal.editor import Editor, History
from chatproto.client.terminal.scroll import View
from chatproto.client.terminal.transcript import Entry, Transcript

__all__ = ["Place", "Places"]

PRIVATE = "@"
"""Before the name of someone one talks with alone; no room's name begins with it."""


class Place:
    """A room, or with an `@` before its *name* a person."""

    def __init__(self, name: str, history: History) -> None:
        self.name = name
        self.transcript = Transcript()
        self.view = View()
        self.editor = Editor(history)
        self.members: dict[str, None] = {}
        """Who is there, who spoke last first."""
        self.total = 0
        """How many are there, as far as one knows."""
        self.unread = 0
        self.mentions = 0
        self.is_entered = False
        """What comes now is new; before that it is of the past."""
        self.is_loading = False
        """Older messages were asked for."""

    @property
    def is_private(self) -> bool:
        """Whether it is a person."""
        return self.name.startswith(PRIVATE)

    @property
    def person(self) -> str:
        """The nickname of that person."""
        return self.name.removeprefix(PRIVATE)

    def spoke(self, nick: str) -> None:
        """*nick* is the first to be offered when a name is completed."""
        if nick in self.members:
            del self.members[nick]
            self.members = {nick: None, **self.members}

    def set_members(self, nicks: tuple[str, ...], total: int) -> None:
        """These are there."""
        known = [nick for nick in self.members if nick in set(nicks)]
        self.members = dict.fromkeys([*known, *nicks])
        self.total = max(total, len(self.members))

    def came(self, nick: str) -> None:
        """*nick* is there too."""
        if nick not in self.members:
            self.members[nick] = None
            self.total += 1

    def went(self, nick: str) -> None:
        """*nick* is not there any more."""
        if nick in self.members:
            del self.members[nick]
            self.total = max(self.total - 1, len(self.members))

    def renamed(self, old: str, new: str) -> bool:
        """Whether *old*, who is *new* now, is there."""
        if old not in self.members:
            return False
        self.members = {new if nick == old else nick: None for nick in self.members}
        return True


class Places:
    """All places in their order, of which one is on the screen."""

    def __init__(self) -> None:
        self.history = History()
        self.all: list[Place] = []
        self.nowhere = Place("", self.history)
        """What is on the screen while one is in no place."""
        self.current = self.nowhere

    def find(self, name: str) -> Place | None:
        """The place of that name. People are the same without regard to case."""
        if name.startswith(PRIVATE):
            return next((place for place in self.all if place.name.casefold() == name.casefold()), None)
        return next((place for place in self.all if place.name == name), None)

    def open(self, name: str) -> Place:
        """The place of that name, at the end of the list if it is new."""
        place = self.find(name)
        if place is None:
            place = Place(name, self.history)
            self.all.append(place)
            if self.current is self.nowhere:
                place.editor.set(self.nowhere.editor.text, self.nowhere.editor.cursor)
                self.nowhere.editor.set("")
                self.show(place)
        return place

    def close(self, place: Place) -> None:
        """Take *place* out of the list; its neighbour takes its place on the screen."""
        if place not in self.all:
            return
        index = self.all.index(place)
        self.all.remove(place)
        if place is self.current:
            self.current = self.nowhere
            if self.all:
                self.show(self.all[min(index, len(self.all) - 1)])

    def show(self, place: Place) -> None:
        """Have *place* on the screen. Where one was is left off."""
        if place is not self.current:
            self.current.transcript.leave_off()
            self.current.view.to_end()
            self.current = place
        place.unread = place.mentions = 0

    def step(self, step: int) -> None:
        """Go *step* places on, round and round."""
        if self.all:
            index = self.all.index(self.current) if self.current in self.all else 0
            self.show(self.all[(index + step) % len(self.all)])

    def to_number(self, number: int) -> bool:
        """Go to place *number*, from 1; whether there is one."""
        if not 1 <= number <= len(self.all):
            return False
        self.show(self.all[number - 1])
        return True

    def to_unread(self) -> bool:
        """Go where one's name was said, or else where anything is unread; whether there is such a place."""
        waiting = [place for place in self.all if place.unread]
        if not waiting:
            return False
        self.show(max(waiting, key=lambda place: (place.mentions > 0, place.is_private)))
        return True

    def put(self, place: Place, entry: Entry, is_new: bool) -> bool:
        """Put *entry* into *place*, and count it as unread if it is new and not on the screen."""
        if not place.transcript.add(entry):
            return False
        place.transcript.trim(not place.view.follows)
        if is_new and entry.nick and not entry.own and place is not self.current:
            place.unread += 1
            place.mentions += entry.mentions or place.is_private
        return True
