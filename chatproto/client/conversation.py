"""One client's side of the chat, without a connection: what it wants, waits for and has seen.

A `Conversation` outlives connections. Whoever carries it hands it the messages that arrive, and takes the
frames that it sends; on each new connection it goes back to its rooms and says again what has no `ack`.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from chatproto.client.events import ChatEvents, tell_event
from chatproto.client.membership import Membership
from chatproto.client.outbox import Outbox, Said
from chatproto.client.outcomes import Disconnected, Entered, Receipt, Refused, TooManyWaiting
from chatproto.client.requests import Request, Requests
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

_FATAL = frozenset(code for code in ErrorCode if code.fatal)
_PUT_OUT = frozenset({"left", "kicked"})  # the other reasons end the session, and that one shall come back
_NOT_IN_ROOM = "one is not in that room"

MOST_MIXED_IN = 1_000
"""Messages that were said while an answer was on its way, and could be taken for a part of it."""


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
        self._rooms: dict[str, Membership] = {}
        self._default_room = ""  # its name, once it is known
        self._outbox = Outbox(first_id, max_waiting)
        self._requests: Requests = Requests(carrier.send, max_waiting)
        self._credentials: Login | None = None
        self._held_login: Deferred[str] | None = None
        self._was_open = False
        self._may_be_held = False  # the nickname, by a session that the server believes to be alive
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
        name = room or self._default_room
        encode_frame(Join(self.nick, name, 0, 0, limit))
        known = self._rooms.get(name)
        if known is not None and known.inside and not known.waiting:
            return self.who(name).addCallback(_entered, 0)
        if known is None:
            if len(self._rooms) >= self._max_waiting:
                return fail(TooManyWaiting(f"{len(self._rooms)} rooms are as many as this client joins"))
            known = self._rooms[name] = Membership(name, limit, self._events, self._outbox)
        answer: Deferred[Entered] = Deferred()
        known.waiting.append(answer)
        self.resume()
        return answer

    def leave(self, room: str = "") -> Deferred[None]:
        """As `ChatClient.leave`."""
        known = self._rooms.get(room or self._default_room)
        if known is None:
            return fail(Refused(ErrorCode.NOT_IN_ROOM, _NOT_IN_ROOM))
        if known.asked and not known.name:
            # A `leave` without a name would end the session.
            entered: Deferred[Entered] = Deferred()
            known.waiting.append(entered)
            return entered.addCallback(lambda there: self.leave(there.room))
        asked = known.asked
        self._drop(known, Refused(ErrorCode.NOT_IN_ROOM, "one has left that room"))
        if not asked:
            return succeed(None)
        answer = self._ask(Leave(known.name), fenced=True)
        return answer.addCallbacks(lambda nothing: None, self._not_left, errbackArgs=(known,))

    def say(self, room: str, text: str) -> Deferred[Receipt]:
        """As `ChatClient.say`."""
        name = room or self._default_room
        if name not in self._rooms:
            return fail(Refused(ErrorCode.NOT_IN_ROOM, _NOT_IN_ROOM))
        return self._outbox.add(lambda message_id: Say(message_id, name, text), self._send_said)

    def tell(self, nick: str, text: str) -> Deferred[Receipt]:
        """As `ChatClient.tell`."""
        return self._outbox.add(lambda message_id: Tell(message_id, nick, text), self._send_said)

    def who(self, room: str = "") -> Deferred[Roster]:
        """As `ChatClient.who`."""
        return self._ask(Who(room or self._default_room))

    def history(self, room: str = "", before: int = 0, limit: int = 50) -> Deferred[list[Chat]]:
        """As `ChatClient.history`."""
        name = room or self._default_room
        known = self._rooms.get(name)
        if known is not None and known.last is not None:
            # Only what has been seen, so that nothing live can be taken for a part of the answer.
            before = min(before or MAX_U64, known.last + 1)
        return self._ask(History(name, before, limit))

    def search(self, room: str, query: str, limit: int = 50) -> Deferred[list[Chat]]:
        """As `ChatClient.search`."""
        return self._ask(Search(room or self._default_room, query, limit))

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
        message = Moderate(action, room or self._default_room, nick, seconds, reason)
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
        self._may_be_held |= self.open or self._requests.awaits(Join)
        self._welcome = None
        for room in self._rooms.values():
            room.disconnected()
        self._outbox.unsend()
        self._requests.disconnected(reason)
        # Nothing will bring these to the server any more.
        self._outbox.fail(
            Disconnected(reason),
            lambda said: said.room not in self._rooms if said.room is not None else not self._rooms,
        )

    def resume(self) -> None:
        """Join what is not joined, and send what was waiting for that. May be called at any time."""
        # A join must have the nickname that the session has when it arrives.
        if not self._connected or self._requests.awaits(Nick):
            return
        # Nor must one join the default room twice, once by its name: the second would not be answered.
        default = self._rooms.get("")
        if default is not None and default.asked:
            return
        rooms = [room for room in self._rooms.values() if not room.asked]
        if not self.open:
            if len(rooms) < len(self._rooms):
                return
            # One opens the session. Were a second one sent, it would do so when the first is refused.
            rooms = rooms[:1]
        for room in rooms:
            self._requests.send(Request(room.join(self.nick), room=room, fenced=not room.name))
        if self.open:
            for said in self._outbox:
                self._send_said(said)
            self._requests.release()

    def send_ping(self) -> None:
        """Make the server send something."""
        self._requests.send_ping()

    def say_goodbye(self) -> None:
        """End the session; the server then closes the connection."""
        if self._connected:
            self._carrier.send(encode_frame(Leave("")))

    def end(self, error: Exception) -> None:
        """Without a connection: whatever still waits fails with *error*, and all rooms are forgotten."""
        rooms = list(self._rooms.values())
        login, self._held_login = self._held_login, None
        self._rooms.clear()
        self._was_open = self._may_be_held = False
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

    def _room_of(self, said: Said) -> Membership | None:
        return None if said.room is None else self._rooms.get(said.room)

    def _send_said(self, said: Said) -> None:
        room = self._room_of(said)
        if self.open and not said.sent and (said.room is None or (room is not None and room.asked)):
            said.sent = True
            self._carrier.send(said.frame)

    def _ask(self, message: Message, *, fenced: bool = False) -> Deferred[Any]:
        return self._requests.ask(Request(message, fenced=fenced), hold=not self.open)

    # --- receiving ------------------------------------------------------------------------------------------

    def _take_welcome(self, message: Welcome) -> None:
        self._welcome = message
        self._was_open = True
        self._may_be_held = False
        self._refusals = 0
        self.nick = message.nick
        self._carrier.opened()
        tell_event(self._events.connected, message)
        self.resume()

    def _take_roster(self, message: Roster) -> None:
        request = self._requests.asked(Join, Who)
        if request is None or _room_asked(request.message) not in ("", message.room):
            tell_event(self._events.roster, message)
            return
        room = request.room
        if room is None:
            self._requests.take()
            request.answer.callback(message)
            return
        if not room.name:
            self._name_default(room, message.room)
        room.take_roster(message, self._welcome.epoch if self._welcome is not None else 0)
        self.resume()

    def _name_default(self, default: Membership, name: str) -> None:
        """The server has said which room it is that has no name."""
        joined_by_name = self._rooms.pop(name, None)
        if joined_by_name is not None:
            default.waiting += joined_by_name.waiting
        default.name = name
        self._rooms = {room.name: room for room in self._rooms.values()}
        self._learn_default(name)

    def _default_unanswered(self, default: Membership) -> None:
        """One is in the default room by its name, so the join without a name was ignored."""
        answer: Deferred[Roster] = self._ask(Who(""))
        answer.addCallbacks(
            self._default_found, lambda failure: self._drop(default, failure.value), callbackArgs=(default,)
        )

    def _default_found(self, roster: Roster, default: Membership) -> None:
        if self._rooms.get("") is default:
            del self._rooms[""]
        self._learn_default(roster.room)
        default.succeed(_entered(roster, 0))
        self.resume()

    def _learn_default(self, name: str) -> None:
        self._default_room = name
        for said in self._outbox:
            if said.room == "":
                said.room = name

    def _take_chat(self, message: Chat) -> None:
        room = self._rooms.get(message.room)
        request = self._requests.asked(History, Search)
        if request is not None and _is_part(message, request.message, room):
            # What is too much for an answer is none, however long a server goes on.
            asked = request.message
            assert isinstance(asked, History | Search)
            if len(request.chats) < asked.limit + MOST_MIXED_IN:
                request.chats[message.seq] = message
            return
        if room is not None:
            room.take_chat(message, self.nick)

    def _take_end(self, message: End) -> None:
        request = self._requests.asked(Join, History, Search)
        if request is None:
            return
        self._requests.take()
        if request.room is not None:
            self._refusals = 0
            request.room.take_end(message)
        else:
            seqs = sorted(seq for seq in request.chats if message.first <= seq <= message.last)
            request.answer.callback([request.chats[seq] for seq in seqs])

    def _take_lagged(self, message: Lagged) -> None:
        room = self._rooms.get(message.room)
        if room is not None:
            room.take_lagged(message)

    def _take_ack(self, message: Ack) -> None:
        said = self._outbox.take(message.id)
        if said is None:
            return
        room = self._room_of(said)
        if room is not None:
            room.take_own(message.seq)
        if said.shown is not None and said.shown.seq != message.seq:
            self._mistaken(said.shown)
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
        room = self._room_of(said)
        if said.shown is not None:
            self._mistaken(said.shown)
        if room is not None:
            room.settle()
            if refusal.code == ErrorCode.NOT_IN_ROOM and room.inside:
                self._drop(room, refusal)  # put out, in a room too large for `left` to be sent
        said.receipt.errback(refusal)

    def _mistaken(self, shown: Chat) -> None:
        """What was taken for one of one's own is the next that says the same, or somebody else's."""
        if not self._outbox.claim(shown):
            tell_event(self._events.chat, shown)

    def _request_refused(self, request: Request | None, refusal: Refused) -> None:
        if request is None:
            tell_event(self._events.refused, "", refusal)
        elif request.room is not None:
            self._join_refused(request.room, refusal)
        else:
            if isinstance(request.message, Login):
                self._credentials = None
            request.answer.errback(refusal)
            self.resume()

    def _join_refused(self, room: Membership, refusal: Refused) -> None:
        room.asked = False
        passes = (refusal.code == ErrorCode.NICK_TAKEN and self._may_be_held) or (
            refusal.code == ErrorCode.RATE_LIMITED and room.entered
        )
        if passes:
            self._refusals += 1
            if self._refusals <= self._max_refusals:
                self._carrier.put_off(self._refusals)
                return
        is_wanted = self._rooms.get(room.name) is room
        if not self._drop(room, refusal) and is_wanted:
            tell_event(self._events.refused, room.name, refusal)
        if not self.open and (passes or (self._was_open and not self._rooms)):
            self._carrier.gave_up(refusal)
        else:
            self.resume()

    def _relogin_failed(self, failure: Failure) -> None:
        if isinstance(failure.value, Refused):
            tell_event(self._events.refused, "", failure.value)

    def _not_left(self, failure: Failure, room: Membership) -> Failure | None:
        if isinstance(failure.value, Refused):
            if failure.value.code == ErrorCode.NOT_IN_ROOM:
                return None
            self._rooms.setdefault(room.name, room)
        return failure

    def _drop(self, room: Membership, error: Exception) -> bool:
        """Want *room* no more, and fail what waits for it; whether a join did."""
        if self._rooms.get(room.name) is room:
            del self._rooms[room.name]
            self._outbox.fail(error, lambda said: said.room == room.name and not said.sent)
        return room.fail(error)

    def _take_pong(self, message: Pong) -> None:
        unanswered = self._requests.pong(message.token)
        if unanswered is None:
            return
        if unanswered.room is not None:
            self._default_unanswered(unanswered.room)
        else:
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


def _room_asked(asked: Message) -> str:
    assert isinstance(asked, Join | Who | History | Search)
    return asked.room


def _is_part(chat: Chat, asked: Message, room: Membership | None) -> bool:
    """Whether *chat* is part of the answer to *asked*, a `history` or `search`, or else live."""
    if _room_asked(asked) not in ("", chat.room):
        return False
    if room is None or not room.inside:
        return True
    if isinstance(asked, History) and asked.before:
        return chat.seq < asked.before
    return chat.seq != (room.last or 0) + 1
