"""One client's side of the chat, without a connection: what it wants, waits for and has seen.

A `Conversation` outlives connections. Whoever carries it hands it the messages that arrive, and takes the
frames that it sends; on each new connection it goes back to its rooms and says again what has no `ack`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from chatproto.client.events import ChatEvents, tell_event
from chatproto.client.outbox import Outbox, Said
from chatproto.client.outcomes import Disconnected, Entered, Receipt, Refused, TooManyWaiting
from chatproto.client.requests import Request, Requests
from chatproto.client.sequence import Sequence
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    MAX_U64,
    Ack,
    Chat,
    End,
    Error,
    Goodbye,
    History,
    Join,
    Joined,
    Lagged,
    Leave,
    Left,
    Login,
    Message,
    Moderate,
    Nick,
    Notice,
    Pong,
    Renamed,
    Roster,
    Say,
    Search,
    Tell,
    Told,
    Welcome,
    Who,
)

__all__ = ["Carrier", "Conversation"]

DEFAULT_ROOM = "lobby"
EVERYTHING = 2**16 - 1  # the `limit` of a join that wants all it has missed
STATUS_ANEW = 2
_FATAL = frozenset(code for code in ErrorCode if code.fatal)
_PUT_OUT = frozenset({"left", "kicked"})  # the other reasons end the session, and that one shall come back
_NOT_IN_ROOM = "one is not in that room"


class Carrier(Protocol):
    """What a conversation needs of the side that has the connection and the clock."""

    def send(self, frame: bytes) -> None:
        """Send *frame*; only called between `Conversation.connected` and `disconnected`."""

    def opened(self) -> None:
        """The server has let the client in."""

    def put_off(self, attempt: int) -> None:
        """Call `Conversation.resume` after a while: this was refusal *attempt*, from 1, in a row."""

    def gave_up(self, refusal: Refused) -> None:
        """The server does not take the client back."""

    def closing(self, reason: str, retry_s: float) -> None:
        """The server is about to close the connection, and wants no other for *retry_s* seconds."""


@dataclass(slots=True, eq=False)
class _Room:
    name: str
    limit: int  # of the first join
    waiting: list[Deferred[Entered]] = field(default_factory=list)
    sequence: Sequence = field(default_factory=Sequence)
    epoch: int = 0
    asked: bool = False  # on this connection a join was sent
    inside: bool = False  # on this connection it was answered
    entered: bool = False  # on any

    def fail(self, error: Exception) -> bool:
        """Fail who waits for the join, if anyone does."""
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer.errback(error)
        return bool(waiting)


class Conversation:
    """What `ChatClient` is made of; the methods that people call are described there.

    *first_id* is the id of the first message said, and MUST lie above those of earlier conversations under
    the same nickname. *max_waiting* bounds the unacknowledged messages, and apart from them the unanswered
    requests. *max_refusals* is how often in a row a rejoin may be refused for a reason that passes.
    """

    def __init__(
        self,
        nick: str,
        events: ChatEvents,
        carrier: Carrier,
        *,
        first_id: int,
        max_waiting: int = 1_000,
        max_refusals: int = 10,
    ) -> None:
        encode_frame(Join(nick))
        self.nick = nick
        self._events = events
        self._carrier = carrier
        self._max_waiting = max_waiting
        self._max_refusals = max_refusals

        # What outlives a connection.
        self._rooms: dict[str, _Room] = {}
        self._outbox = Outbox(first_id, max_waiting)
        self._requests: Requests[_Room] = Requests(carrier.send, max_waiting)
        self._credentials: Login | None = None
        self._held_login: Deferred[str] | None = None
        self._was_open = False
        self._refusals = 0

        # What belongs to one connection.
        self._connected = False
        self._welcome: Welcome | None = None

    # --- what people ask for --------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether a session is open."""
        return self._welcome is not None

    @property
    def rooms(self) -> tuple[str, ...]:
        """As `ChatClient.rooms`."""
        return tuple(self._rooms)

    def join(self, room: str = "", limit: int = 0) -> Deferred[Entered]:
        """As `ChatClient.join`."""
        name = room or DEFAULT_ROOM
        encode_frame(Join(self.nick, name, 0, 0, limit))
        known = self._rooms.get(name)
        if known is not None and known.inside and not known.waiting:
            return self.who(name).addCallback(_entered, 0)
        if known is None:
            if len(self._rooms) >= self._max_waiting:
                return fail(TooManyWaiting(f"{len(self._rooms)} rooms are as many as this client joins"))
            known = self._rooms[name] = _Room(name, limit)
        answer: Deferred[Entered] = Deferred()
        known.waiting.append(answer)
        self.resume()
        return answer

    def leave(self, room: str = "") -> Deferred[None]:
        """As `ChatClient.leave`."""
        known = self._rooms.get(room or DEFAULT_ROOM)
        if known is None:
            return fail(Refused(ErrorCode.NOT_IN_ROOM, _NOT_IN_ROOM))
        asked = known.asked
        self._drop(known, Refused(ErrorCode.NOT_IN_ROOM, "one has left that room"))
        if not asked:
            return succeed(None)
        answer = self._ask(Leave(known.name), fenced=True)
        return answer.addCallbacks(lambda nothing: None, self._not_left, errbackArgs=(known,))

    def say(self, room: str, text: str) -> Deferred[Receipt]:
        """As `ChatClient.say`."""
        name = room or DEFAULT_ROOM
        if name not in self._rooms:
            return fail(Refused(ErrorCode.NOT_IN_ROOM, _NOT_IN_ROOM))
        return self._outbox.add(lambda message_id: Say(message_id, name, text), self._send_said)

    def tell(self, nick: str, text: str) -> Deferred[Receipt]:
        """As `ChatClient.tell`."""
        return self._outbox.add(lambda message_id: Tell(message_id, nick, text), self._send_said)

    def who(self, room: str = "") -> Deferred[Roster]:
        """As `ChatClient.who`."""
        return self._ask(Who(room or DEFAULT_ROOM))

    def history(self, room: str = "", before: int = 0, limit: int = 50) -> Deferred[list[Chat]]:
        """As `ChatClient.history`."""
        name = room or DEFAULT_ROOM
        known = self._rooms.get(name)
        if known is not None and known.sequence.last is not None:
            # Only what has been seen, so that nothing live can be taken for a part of the answer.
            before = min(before or MAX_U64, known.sequence.last + 1)
        return self._ask(History(name, before, limit))

    def search(self, room: str, query: str, limit: int = 50) -> Deferred[list[Chat]]:
        """As `ChatClient.search`."""
        return self._ask(Search(room or DEFAULT_ROOM, query, limit))

    def rename(self, nick: str) -> Deferred[str]:
        """As `ChatClient.rename`."""
        if not self._was_open and not any(room.asked for room in self._rooms.values()):
            encode_frame(Join(nick))
            self.nick = nick
            return succeed(nick)
        return self._ask(Nick(nick), fenced=True)

    def login(self, user: str, secret: str) -> Deferred[str]:
        """As `ChatClient.login`."""
        message = Login(user, secret)
        encode_frame(message)
        replaced, self._held_login = self._held_login, None
        if replaced is not None:
            replaced.errback(Disconnected("another login took the place of this one"))
        self._credentials = message
        if self._connected:
            return self._requests.ask(Request(message, fenced=True), hold=False)
        self._held_login = Deferred()
        return self._held_login

    def moderate(self, action: int, room: str, nick: str, seconds: int, reason: str) -> Deferred[str]:
        """As `ChatClient.moderate`."""
        message = Moderate(action, room or DEFAULT_ROOM, nick, seconds, reason)
        return self._ask(message, fenced=True)

    def ping(self) -> Deferred[None]:
        """Fires when the server has answered, after all that was asked for before."""
        if not self._connected:
            return fail(Disconnected("there is no connection"))
        return self._requests.ping()

    # --- what the carrier tells -----------------------------------------------------------------------------

    def connected(self) -> None:
        """There is a connection. Something goes out at once: after 1 s without, the server expects lines."""
        self._connected = True
        if self._credentials is not None:
            answer, self._held_login = self._held_login, None
            if answer is None:
                answer = Deferred()
                answer.addErrback(self._relogin_failed)
            self._requests.send(Request(self._credentials, answer, fenced=True))
        elif not self._rooms:
            self._requests.send_ping()
        self.resume()

    def disconnected(self, reason: str) -> None:
        """The connection is gone. What can be done again on the next one waits for it, the rest fails."""
        self._connected = False
        self._welcome = None
        for room in self._rooms.values():
            room.asked = room.inside = False
        self._outbox.unsend()
        self._requests.disconnected(reason)
        # Nothing will bring these to the server any more.
        self._outbox.fail(
            Disconnected(reason), lambda said: said.room not in self._rooms if said.room else not self._rooms
        )

    def resume(self) -> None:
        """Join what is not joined, and send what was waiting for that. May be called at any time."""
        # A join must have the nickname that the session has when it arrives.
        if not self._connected or self._requests.awaits(Nick):
            return
        rooms = [room for room in self._rooms.values() if not room.asked]
        if not self.open:
            if len(rooms) < len(self._rooms):
                return
            # One opens the session. Were a second one sent, it would do so when the first is refused.
            rooms = rooms[:1]
        for room in rooms:
            room.asked = True
            last = room.sequence.last
            if last is None:
                message = Join(self.nick, room.name, 0, 0, room.limit)
            else:
                message = Join(self.nick, room.name, room.epoch, last, EVERYTHING)
            self._requests.send(Request(message, room=room))
        if self.open:
            for said in self._outbox:
                self._send_said(said)
            self._requests.release()

    def say_goodbye(self) -> None:
        """End the session; the server then closes the connection."""
        if self._connected:
            self._carrier.send(encode_frame(Leave("")))

    def end(self, error: Exception) -> None:
        """Without a connection: whatever still waits fails with *error*, and all rooms are forgotten."""
        rooms = list(self._rooms.values())
        login, self._held_login = self._held_login, None
        self._rooms.clear()
        self._was_open = False
        self._refusals = 0
        for room in rooms:
            room.fail(error)
        self._requests.end(error)
        if login is not None:
            login.errback(error)
        self._outbox.fail(error, lambda said: True)

    def received(self, message: Message) -> None:
        """Take one message of the server."""
        match message:
            case Chat():
                self._take_chat(message)
            case Ack():
                self._take_ack(message)
            case Error():
                self._take_error(message)
            case Welcome():
                self._take_welcome(message)
            case Roster():
                self._take_roster(message)
            case End():
                self._take_end(message)
            case Pong():
                self._take_pong(message)
            case Renamed():
                self._take_renamed(message)
            case Left():
                self._take_left(message)
            case Lagged():
                self._take_lagged(message)
            case Notice():
                self._take_notice(message)
            case Goodbye():
                self._carrier.closing(message.text, message.retry_ms / 1_000)
            case Joined():
                tell_event(self._events.joined, message)
            case Told():
                tell_event(self._events.told, message)

    # --- sending --------------------------------------------------------------------------------------------

    def _send_said(self, said: Said) -> None:
        room = self._rooms.get(said.room)
        if self.open and not said.sent and (not said.room or (room is not None and room.asked)):
            said.sent = True
            self._carrier.send(said.frame)

    def _ask(self, message: Message, *, fenced: bool = False) -> Deferred[Any]:
        return self._requests.ask(Request(message, fenced=fenced), hold=not self.open)

    # --- receiving ------------------------------------------------------------------------------------------

    def _take_welcome(self, message: Welcome) -> None:
        self._welcome = message
        self._was_open = True
        self._refusals = 0
        self.nick = message.nick
        self._carrier.opened()
        tell_event(self._events.connected, message)
        self.resume()

    def _take_roster(self, message: Roster) -> None:
        request = self._requests.asked(Join, Who)
        if request is None or _room_of(request.message) != message.room:
            tell_event(self._events.roster, message)
            return
        room = request.room
        if room is None:
            self._requests.take()
            request.answer.callback(message)
            return
        request.roster = message
        room.inside = room.entered = True
        epoch = self._welcome.epoch if self._welcome is not None else 0
        last = room.sequence.last
        if last is not None and (room.epoch != epoch or message.last < last):
            # `end` is going to say so too, but until then the new numbers would pass for old ones.
            room.sequence.forget()
            request.anew = last > 0
            if request.anew:
                tell_event(self._events.missing, room.name, 0, 0)
        room.epoch = epoch

    def _take_chat(self, message: Chat) -> None:
        room = self._rooms.get(message.room)
        request = self._requests.asked(History, Search)
        if request is not None and _is_part(message, request.message, room):
            request.chats[message.seq] = message
            return
        if room is None or not room.inside or not room.sequence.see(message.seq):
            return
        if room.sequence.last != message.seq:
            joining = self._requests.asked(Join)
            # The replay of a join brings one's own messages too, so nothing is in doubt there.
            in_replay = joining is not None and joining.room is room
            self._expect(room, message.seq, certain=in_replay)
        if message.nick != self.nick or not self._outbox.claim(message):
            tell_event(self._events.chat, message)

    def _take_end(self, message: End) -> None:
        request = self._requests.asked(Join, History, Search)
        if request is None:
            return
        self._requests.take()
        room, roster = request.room, request.roster
        if room is None:
            seqs = sorted(seq for seq in request.chats if message.first <= seq <= message.last)
            request.answer.callback([request.chats[seq] for seq in seqs])
            return
        if roster is None:
            return
        self._refusals = 0
        assert isinstance(request.message, Join)
        if message.status == STATUS_ANEW and request.message.epoch and not request.anew:
            tell_event(self._events.missing, room.name, 0, 0)
        if room.sequence.last is None:
            room.sequence.begin(roster.last)
        else:
            self._expect(room, message.first - 1 if message.last else roster.last, certain=True)
        waiting, room.waiting = room.waiting, []
        for answer in waiting:
            answer.callback(_entered(roster, message.status))

    def _take_lagged(self, message: Lagged) -> None:
        tell_event(self._events.lagged, message)
        room = self._rooms.get(message.room)
        if room is not None and room.inside:
            self._expect(room, message.first - 1)

    def _expect(self, room: _Room, seq: int, *, certain: bool = False) -> None:
        """All messages up to *seq* should have come; if not *certain*, but for `ack`s still to come."""
        sent_ids = [] if certain else self._outbox.sent_ids(room.name)
        room.sequence.reach(seq, max(sent_ids, default=0))
        self._tell_lost(room)

    def _tell_lost(self, room: _Room) -> None:
        if room.sequence.open:
            oldest_id = min(self._outbox.sent_ids(room.name), default=0)
            for first, last in room.sequence.lost(oldest_id):
                tell_event(self._events.missing, room.name, first, last)

    def _take_ack(self, message: Ack) -> None:
        said = self._outbox.take(message.id)
        if said is None:
            return
        room = self._rooms.get(said.room)
        if room is not None and room.sequence.last is not None:
            room.sequence.see(message.seq)
            self._tell_lost(room)
        if said.shown is not None and said.shown.seq != message.seq:
            tell_event(self._events.chat, said.shown)  # it was another message with the same text
        self._outbox.acknowledge(said, message)

    def _take_error(self, message: Error) -> None:
        refusal = Refused(message.code, message.text)
        if message.code in _FATAL:
            self._carrier.closing(f"{refusal.label}: {message.text}", 0.0)
        elif message.id:
            self._said_refused(message.id, refusal)
        else:
            self._request_refused(self._requests.take(), refusal)

    def _said_refused(self, message_id: int, refusal: Refused) -> None:
        said = self._outbox.take(message_id)
        if said is None:
            return
        room = self._rooms.get(said.room)
        if said.shown is not None:
            tell_event(self._events.chat, said.shown)
        if room is not None:
            self._tell_lost(room)
            if refusal.code == ErrorCode.NOT_IN_ROOM and room.inside:
                self._drop(room, refusal)  # put out, in a room too large for `left` to be sent
        said.receipt.errback(refusal)

    def _request_refused(self, request: Request[_Room] | None, refusal: Refused) -> None:
        if request is None:
            tell_event(self._events.refused, "", refusal)
        elif request.room is not None:
            self._join_refused(request.room, refusal)
        else:
            if isinstance(request.message, Login):
                self._credentials = None
            request.answer.errback(refusal)
            self.resume()

    def _join_refused(self, room: _Room, refusal: Refused) -> None:
        room.asked = False
        locked_out = self._was_open and not self.open
        # The server may hold the lost session for a while, and with it the nickname.
        passes = (refusal.code == ErrorCode.NICK_TAKEN and locked_out) or (
            refusal.code == ErrorCode.RATE_LIMITED and room.entered
        )
        if passes:
            self._refusals += 1
            if self._refusals <= self._max_refusals:
                self._carrier.put_off(self._refusals)
                return
        if not self._drop(room, refusal):
            tell_event(self._events.refused, room.name, refusal)
        if locked_out and (passes or not self._rooms):
            self._carrier.gave_up(refusal)
        else:
            self.resume()

    def _relogin_failed(self, failure: Failure) -> None:
        if isinstance(failure.value, Refused):
            tell_event(self._events.refused, "", failure.value)

    def _not_left(self, failure: Failure, room: _Room) -> Failure | None:
        if isinstance(failure.value, Refused):
            if failure.value.code == ErrorCode.NOT_IN_ROOM:
                return None
            self._rooms.setdefault(room.name, room)
        return failure

    def _drop(self, room: _Room, error: Exception) -> bool:
        """Want *room* no more, and fail what waits for it; whether a join did."""
        if self._rooms.get(room.name) is room:
            del self._rooms[room.name]
            self._outbox.fail(error, lambda said: said.room == room.name and not said.sent)
        return room.fail(error)

    def _take_pong(self, message: Pong) -> None:
        unanswered = self._requests.pong(message.token)
        if unanswered is not None:
            unanswered.answer.callback(self.nick if isinstance(unanswered.message, Nick) else "")
            self.resume()

    def _take_renamed(self, message: Renamed) -> None:
        own = message.old == self.nick
        if own:
            self.nick = message.new
        tell_event(self._events.renamed, message)
        request = self._requests.asked(Nick)
        if own and request is not None:
            self._requests.take()
            request.answer.callback(message.new)
            self.resume()

    def _take_left(self, message: Left) -> None:
        room = self._rooms.get(message.room)
        if room is not None and room.inside and message.nick == self.nick and message.reason in _PUT_OUT:
            self._drop(room, Refused(ErrorCode.NOT_IN_ROOM, "one was put out of that room"))
        tell_event(self._events.left, message)

    def _take_notice(self, message: Notice) -> None:
        request = self._requests.asked(Login, Moderate)
        if request is None:
            tell_event(self._events.notice, message)
        else:
            self._requests.take()
            request.answer.callback(message.text)


def _entered(roster: Roster, status: int) -> Entered:
    return Entered(roster.room, roster.nicks, roster.total, roster.last, status)


def _room_of(asked: Message) -> str:
    assert isinstance(asked, Join | Who | History | Search)
    return asked.room


def _is_part(chat: Chat, asked: Message, room: _Room | None) -> bool:
    """Whether *chat* is part of the answer to *asked*, a `history` or `search`, or else live."""
    if _room_of(asked) != chat.room:
        return False
    if room is None or not room.inside:
        return True
    if isinstance(asked, History) and asked.before:
        return chat.seq < asked.before
    return chat.seq != (room.sequence.last or 0) + 1
