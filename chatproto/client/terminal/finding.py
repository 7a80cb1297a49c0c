"""Goes back in what was said: scrolling into the server's history, and searching it."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chatproto.client.client import ChatClient
from chatproto.client.outcomes import Disconnected, Refused, TooManyWaiting
from chatproto.client.terminal.desk import Desk
from chatproto.client.terminal.layout import Reel, clock_time, day, nick_style
from chatproto.client.terminal.panel import Item, Panel
from chatproto.client.terminal.picture import body_width
from chatproto.client.terminal.places import Place
from chatproto.client.terminal.transcript import Entry
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Chat

__all__ = ["Finding"]

PAGE_MESSAGES = 100
"""What is asked of the server when one has scrolled to the top."""
JUMP_PAGE_MESSAGES = 500
MAX_JUMP_PAGES = 20
MAX_FOUND = 100


class Finding:
    """Scrolling and searching at *desk*."""

    def __init__(self, desk: Desk, client: ChatClient) -> None:
        self._desk = desk
        self._client = client

    # --- scrolling ------------------------------------------------------------------------------------------

    def up(self, count: int) -> None:
        """Scroll up *count* rows, and have older messages fetched at the top."""
        place = self._desk.current
        if not place.view.up(self._reel(place), count, self._desk.body_rows):
            Deferred.fromCoroutine(self._load_quietly(place))
        self._desk.changed()

    def down(self, count: int) -> None:
        """Scroll down *count* rows."""
        place = self._desk.current
        place.view.down(self._reel(place), count)
        self._desk.changed()

    def to_end(self) -> None:
        """Follow what is said again."""
        self._desk.current.view.to_end()
        self._desk.changed()

    async def load(self, place: Place, limit: int) -> int:
        """Fetch *limit* older messages of *place*; how many came."""
        if place.is_private or place.is_loading or place.transcript.is_complete or not place.name:
            return 0
        place.is_loading = True
        self._desk.changed()
        try:
            chats = await self._client.history(place.name, place.transcript.oldest_seq, limit)
        finally:
            place.is_loading = False
        place.transcript.is_complete = not chats
        return place.transcript.add_older(map(self._entry, chats))

    async def _load_quietly(self, place: Place) -> None:
        if not self._client.open:
            return  # it is asked for again by the next key
        try:
            await self.load(place, PAGE_MESSAGES)
        except (Refused, Disconnected, TooManyWaiting) as error:
            self._desk.hint = f"no older messages: {error}"
        self._desk.changed()

    # --- searching ------------------------------------------------------------------------------------------

    async def search(self, query: str) -> None:
        """Show what matches *query* in the place on the screen; one of it can be gone to."""
        place = self._desk.current
        where = place.name
        try:
            if place.is_private or not self._client.open:
                raise Refused(ErrorCode.NOT_SUPPORTED, "")
            found = list(map(self._entry, await self._client.search(place.name, query, MAX_FOUND)))
        except Refused as refusal:
            if refusal.code != ErrorCode.NOT_SUPPORTED:
                raise
            words = query.casefold().split()
            found = [
                entry
                for entry in place.transcript.entries
                if entry.nick and all(word in entry.text.casefold() for word in words)
            ][-MAX_FOUND:]
            where = f"{place.name}, in what is here"
        if not found:
            self._desk.hint = f"nothing found for {query!r} in {where}"
            return
        items = [Item(self._runs(entry), entry.seq) for entry in found]

        def choose(item: Item) -> None:
            self._desk.panel = None
            Deferred.fromCoroutine(self._go_to(place, item.seq))

        count = "one message" if len(items) == 1 else f"{len(items)} messages"
        self._desk.panel = Panel(f"{count} with {query} in {where}", items, choose)

    async def _go_to(self, place: Place, seq: int) -> None:
        self._desk.places.show(place)
        try:
            for _ in range(MAX_JUMP_PAGES):
                entry = self._loaded(place, seq)
                if entry is not None:
                    place.view.show(self._reel(place), entry, self._desk.body_rows)
                    break
                if not await self.load(place, JUMP_PAGE_MESSAGES):
                    self._desk.hint = "it is not to be had any more"
                    break
            else:
                self._desk.hint = "that is too far back"
        except (Refused, Disconnected, TooManyWaiting) as error:
            self._desk.hint = f"not found: {error}"
        self._desk.changed()

    def _loaded(self, place: Place, seq: int) -> Entry | None:
        transcript = place.transcript
        return next(
            (entry for entry in transcript.entries if entry.seq == seq and entry.epoch == transcript.epoch),
            None,
        )

    def _runs(self, entry: Entry) -> tuple[tuple[str, str], ...]:
        when = f"{day(entry.time_ms)}, {clock_time(entry.time_ms)}  "
        text = " ".join(entry.text.split())
        return ("time", when), (nick_style(entry.nick, entry.own), entry.nick), ("text", f"  {text}")

    def _entry(self, chat: Chat) -> Entry:
        own = chat.nick == self._desk.nick
        entry = Entry(chat.time, chat.nick, chat.text, chat.seq, own)
        entry.mentions = not own and self._desk.names_me(chat.text)
        return entry

    def _reel(self, place: Place) -> Reel:
        return Reel(place.transcript, body_width(self._desk))
