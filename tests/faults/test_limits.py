"""Every limit that strangers meet, over real sockets: it holds, they are told, and it is counted."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from forms import Binary, Json
from live import PATIENCE_S, Framed, Server, eventually, patiently

from chatproto.accounts.passwordfile import FileAccount, edit_accounts
from chatproto.accounts.scrypt import hash_password
from chatproto.net.admission import EXPLAINED_PER_S
from chatproto.rooms.record import LIMITING
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
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
    Nick,
    Ping,
    Pong,
    Say,
    Search,
)

MEMORY = ("--history", "memory")
BEHIND_PROXY = (
    *MEMORY,
    "--listen",
    "haproxy:tcp:0:interface=127.0.0.1",
    "--listen",
    "tcp:0:interface=127.0.0.1",
)
"""The first port takes the word of whoever connects for where they come from, as they are on this machine."""

ANSWERS = {
    "web": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 "),
    "websocket": (b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", b"HTTP/1.1 "),
    "lines": (b"ann\n", b"* "),
}


def ports(server: Server) -> list[int]:
    return [int(port) for port in re.findall(r"listening on 127\.0\.0\.1 port (\d+)", server.log())]


def metric(server: Server, limit: str) -> int:
    """How often the limit was met, as `/metrics` has it."""
    with socket.create_connection(("127.0.0.1", ports(server)[-1]), PATIENCE_S) as plain:
        plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := plain.recv(2**16):
            answer += data
    [found] = re.findall(rf'chat_limited_total\{{limit="{limit}"\}} (\S+)', answer.decode())
    return int(float(found))


def counted(server: Server, limit: str) -> None:
    assert limit in LIMITING
    eventually(lambda: metric(server, limit) > 0, f"{limit} was not counted")


def from_address(server: Server, address: str, first: bytes = b"") -> socket.socket:
    """A connection that a proxy has passed on."""
    plain = socket.create_connection(("127.0.0.1", ports(server)[0]), PATIENCE_S)
    plain.settimeout(PATIENCE_S)
    kind, to = ("TCP6", "::1") if ":" in address else ("TCP4", "127.0.0.1")
    plain.sendall(f"PROXY {kind} {address} {to} 40000 80\r\n".encode() + first)
    return plain


def until_closed(plain: socket.socket) -> bytes:
    received = b""
    with closing(plain):
        while data := plain.recv(2**16):
            received += data
    return received


def told_in_every_form(connect: Callable[[bytes], socket.socket], sentence: str, status: int) -> None:
    """Whoever comes now is not let in, and told so in what they speak."""
    client = Framed(connect(b""))
    client.send(Join("ann"))
    error, goodbye = client.until_closed()
    assert isinstance(error, Error)
    assert isinstance(goodbye, Goodbye)
    assert (error.code, error.text) == (ErrorCode.RATE_LIMITED, sentence)
    assert goodbye.retry_ms >= 1_000
    client.close()
    for first, begin in ANSWERS.values():
        answer = until_closed(connect(first))
        assert answer.startswith(begin)
        assert sentence in answer.decode().lower()
        if begin != b"* ":
            head = answer.partition(b"\r\n\r\n")[0]
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert re.search(rb"\r\nRetry-After: \d+", head)


class TestConnections:
    def test_past_the_most_in_all_nobody_is_let_in_and_each_is_told_why(self) -> None:
        with Server(*MEMORY, "--max-connections", "3", "--status", "tcp:0:interface=127.0.0.1") as server:
            people = [server.join(f"guest{number}") for number in range(3)]

            def connect(first: bytes) -> socket.socket:
                plain = server.raw()
                plain.sendall(first)
                return plain

            told_in_every_form(connect, "the server is full; try again later", 503)
            people[0].close()
            for _ in patiently():  # as soon as there is room
                client = server.connect()
                client.send(Join("late"))
                while not client.received:
                    client.receive()
                if not isinstance(client.received[0], Error):
                    break
            else:
                raise AssertionError("nobody is let in any more")
            people[1].send(Ping(1))
            assert people[1].until(Pong)

    def test_past_the_most_of_an_address_that_one_alone_is_turned_away(self) -> None:
        with Server(*BEHIND_PROXY, "--max-connections-per-address", "2") as server, ExitStack() as open_:
            for _ in range(2):
                first = open_.enter_context(from_address(server, "192.0.2.1", b"\0\0\0\x09\x08" + bytes(8)))
                assert first.recv(13)
            told_in_every_form(
                lambda first: from_address(server, "192.0.2.1", first),
                "there are too many connections from your address; close one",
                429,
            )
            other = Framed(from_address(server, "192.0.2.2"))
            other.send(Join("bob"))
            assert other.until(End)
            counted(server, "max_connections_per_address")

    def test_an_ipv6_network_of_64_bits_is_one_address(self) -> None:
        with (
            Server(*BEHIND_PROXY, "--max-connections-per-address", "1") as server,
            from_address(server, "2001:db8::1", b"ann\n") as ann,
        ):
            assert ann.recv(1)
            assert b"too many" in until_closed(from_address(server, "2001:db8::ffff:2", b"bob\n"))
            with from_address(server, "2001:db8:0:1::1", b"cid\n") as cid:
                assert cid.recv(9) == b"* welcome"

    def test_a_websocket_counts_for_the_client_that_a_trusted_proxy_names(self) -> None:
        def answered(server: Server, address: str) -> tuple[socket.socket, bytes]:
            plain = server.raw()
            plain.sendall(
                b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"X-Forwarded-For: " + address.encode() + b"\r\n\r\n"
            )
            return plain, plain.recv(2**16)

        with Server(*MEMORY, "--max-connections-per-address", "1") as server:
            first, answer = answered(server, "192.0.2.1")
            assert answer.startswith(b"HTTP/1.1 101 ")
            refused, answer = answered(server, "192.0.2.1")
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nretry-after: 10\r\n" in answer.lower()
            other, answer = answered(server, "192.0.2.2")
            assert answer.startswith(b"HTTP/1.1 101 ")
            first.close()
            for _ in patiently():
                again, answer = answered(server, "192.0.2.1")
                again.close()
                if answer.startswith(b"HTTP/1.1 101 "):
                    break
            else:
                raise AssertionError("the place was not given back")
            for plain in (refused, other):
                plain.close()

    def test_this_machine_is_many(self) -> None:
        options = ("--max-connections-per-address", "1", "--max-arrivals-per-address-per-s", "1")
        with Server(*MEMORY, *options) as server:
            assert len([server.join(f"guest{number}") for number in range(5)]) == 5

    def test_more_than_may_come_in_a_second_are_told_to_come_back(self) -> None:
        with Server(*MEMORY, "--max-arrivals-per-s", "5") as server:
            outcomes = set[str]()
            for number in range(40):
                client = server.connect()
                client.send(Join(f"guest{number}"))
                first = client.until(Message)
                outcomes.add(type(first).__name__)
                if isinstance(first, Error):
                    assert first.text == "too many come at once; try again in a moment"
                    assert client.until(Goodbye).retry_ms == 2_000
            assert outcomes == {"Welcome", "Error"}
            for _ in patiently(0.3):
                with suppress_full():
                    counted(server, "max_arrivals_per_s")
                    break

    def test_who_connects_too_often_does_not_keep_others_out(self) -> None:
        options = ("--max-arrivals-per-address-per-s", "3", "--max-arrivals-per-s", "20")
        with Server(*BEHIND_PROXY, *options) as server:
            answers = [
                until_closed_or_in(from_address(server, "192.0.2.1", b"ann%d\n" % n)) for n in range(60)
            ]
            assert any(b"connects too often" in answer for answer in answers)
            for _ in patiently(0.3):
                if until_closed_or_in(from_address(server, "192.0.2.9", b"bob\n")).startswith(b"* welcome"):
                    break
            else:
                raise AssertionError("others are kept out")
            for _ in patiently(0.3):
                with suppress_full():
                    counted(server, "max_arrivals_per_address_per_s")
                    break

    def test_a_flood_is_closed_without_a_word_and_the_server_goes_on(self) -> None:
        with Server(*MEMORY, "--max-connections", "1") as server:
            ann = server.join("ann")
            silent, begun_s = 0, time.monotonic()
            plains = []
            for _ in range(600):
                try:
                    plains.append(server.raw())
                except ConnectionResetError:  # closed before this had seen that it was open
                    silent += 1
            for plain in plains:
                with plain:
                    try:
                        plain.sendall(b"guest\n")
                        silent += not plain.recv(100)
                    except ConnectionError:
                        silent += 1
            took_s = time.monotonic() - begun_s
            assert silent >= 600 - EXPLAINED_PER_S * (took_s + 2)  # each second some are told why
            ann.send(Ping(1))
            assert ann.until(Pong)
            ann.close()
            eventually(lambda: server.descriptors() < 30)


def until_closed_or_in(plain: socket.socket) -> bytes:
    with closing(plain):
        try:
            return plain.recv(200)
        except ConnectionResetError:
            return b""


class suppress_full:
    """Somebody who asks for figures may be one too many for this second too."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        return isinstance(error, ValueError | ConnectionError)


class TestPeople:
    def test_no_more_can_join_than_there_may_be_sessions(self) -> None:
        with Server(*MEMORY, "--max-sessions", "2") as server:
            ann, _ = server.join("ann"), server.join("bob")
            cid = server.connect()
            cid.send(Join("cid"))
            refusal = cid.until(Error)
            assert (refusal.code, refusal.text) == (
                ErrorCode.RATE_LIMITED,
                "the server is full: 2 people are here; try later",
            )
            ann.send(Join("ann", "other"))  # who is in may go on
            ann.until(End)
            ann.close()
            for _ in patiently():
                cid.send(Join("cid"))
                if not isinstance(cid.until(Message), Error):
                    break
            counted(server, "max_sessions")

    def test_a_room_that_is_full_takes_nobody_more(self) -> None:
        with Server(*MEMORY, "--max-people-per-room", "2") as server:
            inside = [server.join(nick) for nick in ("ann", "bob")]
            cid = server.join("cid", "other")
            cid.send(Join("cid"))
            refusal = cid.until(Error)
            assert refusal.text == "the room is full: 2 people are in it; try later"
            assert refusal.code == ErrorCode.RATE_LIMITED
            counted(server, "max_people_per_room")
            inside[0].send(Leave("lobby"))
            inside[1].until(Left)
            cid.send(Join("cid"))
            assert cid.until(End)

    def test_rooms_of_one_session_and_of_the_server(self) -> None:
        with Server(*MEMORY, "--max-rooms-per-session", "2", "--max-rooms", "3") as server:
            ann, bob = server.join("ann", "a"), server.join("bob", "b")
            ann.send(Join("ann", "c"))
            ann.until(End)
            ann.send(Join("ann", "b"))
            assert ann.until(Error).code == ErrorCode.TOO_MANY_ROOMS
            bob.send(Join("bob", "d"))
            assert bob.until(Error).code == ErrorCode.TOO_MANY_ROOMS
            counted(server, "max_rooms_per_session")
            counted(server, "max_rooms")


class TestBeforeJoining:
    def test_there_is_only_so_much_time(self) -> None:
        with Server(*MEMORY, "--join-timeout-s", "2") as server:
            client = server.connect()
            client.send(Ping(1))
            assert isinstance(client.until_closed()[-1], Error)
            assert client.of(Error)[0].code == ErrorCode.TIMEOUT
            counted(server, "join_timeout_s")

    def test_a_person_has_more_of_it_and_no_more_than_that(self) -> None:
        with Server(*MEMORY, "--join-timeout-s", "60", "--nickname-timeout-s", "0.3") as server:
            with server.raw() as plain:
                assert until_closed(plain).endswith(b"* nobody joined within 0.3 s\r\n")
            counted(server, "nickname_timeout_s")
            assert metric(server, "join_timeout_s") == 0

    @pytest.mark.parametrize("form", [None, Binary, Json])
    def test_there_are_only_so_many_bytes(self, form: type[Binary | Json] | None) -> None:
        with Server(*MEMORY, "--max-bytes-before-join", "2000", "--join-timeout-s", "60") as server:
            client = Framed(server.port, form() if form else None)
            with suppress(ConnectionError):
                for number in range(1_000):
                    client.send(Ping(number))
                    client.drain()
                # What comes in one read is judged when the next comes: these may have been few.
                for _ in patiently():
                    client.send(Ping(0))
                    client.drain()
                    if client.at_end:
                        break
            client.until_closed()
            assert client.of(Error)[0].text == "nobody joined within 2,000 bytes"
            counted(server, "max_bytes_before_join")

    def test_a_frame_that_trickles_in_takes_no_more_memory_than_that(self) -> None:
        with Server(*MEMORY, "--max-frame-bytes", "10000000", "--max-bytes-before-join", "2000") as server:
            client = server.connect()
            client.socket.sendall(b"\x00\x90\x00\x00\x09")
            before_bytes = server.rss_bytes()
            for _ in range(500):
                client.socket.sendall(bytes(4_096))
            assert client.until(Error).text == "nobody joined within 2,000 bytes"
            assert server.rss_bytes() - before_bytes < 1_000_000

    def test_what_is_typed_ahead_behind_the_nickname_does_not_count(self) -> None:
        with Server(*MEMORY, "--max-bytes-before-join", "1024") as server:
            ann = server.join("ann")
            with server.raw() as script:
                script.sendall(b"bot\n" + b"x" * 60 + b"\n" + b"y" * 3_000 + b"\n")
                assert ann.until(Chat).text == "x" * 60
                assert ann.until(Chat).text == "y" * 3_000


class TestSizes:
    def test_a_frame_and_a_text_that_are_too_long(self) -> None:
        with Server(*MEMORY) as server:
            ann = server.join("ann")
            ann.send(Say(1, "", "x" * 4_097))
            assert ann.until(Error).code == ErrorCode.BAD_TEXT
            counted(server, "max_text_bytes")
            ann.socket.sendall(b"\x00\x01\x00\x01\x02")
            assert ann.until(Error).code == ErrorCode.TOO_BIG
            counted(server, "max_frame_bytes")

    def test_a_line_that_is_too_long(self) -> None:
        with Server(*MEMORY, "--max-line-bytes", "64") as server, server.raw() as plain:
            plain.sendall(b"ann\n" + b"x" * 65 + b"\n\xff\n/quit\n")
            assert b"a line has at most 64 bytes; yours was not sent" in until_closed(plain)
            counted(server, "max_line_bytes")
            assert metric(server, "max_line_bytes") == 1


class TestPace:
    OPTIONS = (*MEMORY, "--message-burst", "10", "--max-messages-per-s", "50")

    @pytest.mark.parametrize("form", [None, Binary, Json])
    def test_who_says_too_much_is_read_more_slowly_and_loses_nothing(
        self, form: type[Binary | Json] | None
    ) -> None:
        with Server(*self.OPTIONS) as server:
            ann = server.join("ann")
            bob = Framed(server.port, form() if form else None)
            bob.send(Join("bob"))
            bob.until(End)
            begun_s = time.monotonic()
            bob.send(*(Say(number, "", f"{number}") for number in range(1, 61)))
            ann.send(Say(1, "", "me too"))
            assert ann.until(Ack)  # others do not wait for that
            bob.until(Ack, lambda ack: ack.id == 60)
            took_s = time.monotonic() - begun_s
            assert (
                took_s > 0.9
            )  # 50 of them at 50 a second: a bound of the server's own, whatever the machine
            assert [ack.id for ack in bob.of(Ack)] == [*range(1, 61)]
            ann.until(Chat, lambda chat: chat.text == "60")
            assert [chat.text for chat in ann.of(Chat)] == [f"{number}" for number in range(1, 61)]
            counted(server, "max_messages_per_s")

    def test_who_types_lines_too_fast_is_read_more_slowly_too(self) -> None:
        with Server(*self.OPTIONS) as server:
            ann = server.join("ann")
            with server.raw() as script:
                script.sendall(b"bot\n" + b"".join(b"%d\n" % number for number in range(40)))
                script.shutdown(socket.SHUT_WR)
                ann.until(Chat, lambda chat: chat.text == "39")
            assert [chat.text for chat in ann.of(Chat)] == [f"{number}" for number in range(40)]
            counted(server, "max_messages_per_s")

    def test_a_websocket_that_is_read_more_slowly_is_not_taken_for_dead(self) -> None:
        liveness = ("--ping-interval-s", "0.5", "--pong-timeout-s", "1")
        with Server(*MEMORY, *liveness, "--message-burst", "5", "--max-messages-per-s", "10") as server:
            bob = Framed(server.port, Json())
            bob.send(Join("bob"))
            bob.until(End)
            bob.send(*(Say(number, "", "x") for number in range(1, 41)))
            bob.until(Ack, lambda ack: ack.id == 40)
            assert not bob.of(Error)

    def test_pings_of_a_websocket_behind_much_that_was_said_are_answered(self) -> None:
        with Server(*self.OPTIONS) as server:
            bob = Framed(server.port, Json())
            bob.send(Join("bob"))
            bob.until(End)
            bob.send(*(Say(number, "", "x") for number in range(1, 31)))
            form = bob.form
            assert isinstance(form, Json)
            form.peer.send_ping(b"there?")
            bob.socket.sendall(form.output())
            bob.until(Ack, lambda ack: ack.id == 30)
            assert not bob.at_end

    def test_the_history_is_read_only_so_often(self) -> None:
        options = ("--history-burst", "3", "--max-history-reads-per-s", "10", "--max-history-messages", "2")
        with Server(*MEMORY, *options) as server:
            ann = server.join("ann")
            ann.send(*(Say(number, "", "hello") for number in range(1, 5)))
            ann.until(Ack, lambda ack: ack.id == 4)
            ann.send(*[History("", 0, 100)] * 6, *[Search("", "hello", 100)] * 2, Ping(9))
            ann.until(Pong)
            ends = ann.of(End)[1:]
            assert [(end.first, end.last, end.status) for end in ends[:6]] == [(3, 4, 1)] * 6
            assert len(ends) == 8  # slower, but all of them
            counted(server, "max_history_reads_per_s")
            counted(server, "max_history_messages")
            bob = server.join("bob", limit=100)
            assert [chat.seq for chat in bob.of(Chat)] == [3, 4]

    def test_who_comes_back_gets_all_that_was_missed(self) -> None:
        with Server(*MEMORY, "--max-history-messages", "2") as server:
            ann, bob = server.join("ann"), server.join("bob")
            ann.send(*(Say(number, "", "hello") for number in range(1, 10)))
            bob.until(Chat, lambda chat: chat.seq == 9)
            epoch = bob.received[0].epoch  # type: ignore[attr-defined]
            bob.close()
            back = server.connect()
            back.send(Join("bob2", "", epoch, 3, 65_535))
            assert back.until(End).status == 0
            assert [chat.seq for chat in back.of(Chat)] == [4, 5, 6, 7, 8, 9]

    def test_nicknames_change_only_so_often(self) -> None:
        with Server(*MEMORY, "--rename-burst", "2") as server:
            ann = server.join("ann")
            ann.send(Nick("ann1"), Nick("ann2"), Nick("ann3"))
            assert ann.until(Error).code == ErrorCode.RATE_LIMITED
            counted(server, "rename_burst")


class TestSlowReaders:
    def test_one_that_takes_nothing_lags_and_is_ended(self) -> None:
        options = ("--max-queued-bytes", "65536", "--lag-timeout-s", "1", "--max-messages-per-s", "0")
        with Server(*MEMORY, *options) as server:
            talker = server.join("talker")
            deaf = server.raw(receive_buffer_bytes=4_096)
            deaf.sendall(b"deaf\n")
            talker.until(Joined)
            for number in range(1, 1_501):
                talker.send(Say(number, "", "x" * 4_000))
            talker.until(Ack, lambda ack: ack.id == 1_500)
            counted(server, "max_queued_bytes")
            counted(server, "lag_timeout_s")
            deaf.close()

    def test_where_much_waits_for_all_together_the_slowest_lag_and_nobody_loses_anything(self) -> None:
        options = ("--max-total-queued-bytes", str(2**20), "--max-queued-bytes", str(2**20))
        count = 1_600
        with Server(*MEMORY, *options, "--max-messages-per-s", "0") as server:
            talker, reader = server.join("talker"), server.join("reader")
            slow = []
            for number in range(4):
                client = Framed(server.raw(receive_buffer_bytes=4_096))
                client.send(Join(f"slow{number}"))
                client.until(End)
                slow.append(client)
            for number in range(1, count + 1):
                talker.send(Say(number, "", f"{number:05}" + "x" * 4_000))
                reader.drain()
                talker.drain()
            for _ in patiently(0):
                reader.drain()
                talker.drain()
                if len(talker.of(Ack)) == count:
                    break
            counted(server, "max_total_queued_bytes")
            for client in (reader, *slow):
                client.until(Chat, lambda chat: chat.seq == count)
                assert [chat.seq for chat in client.of(Chat)] == [*range(1, count + 1)]
            assert any(client.of(Lagged) for client in slow)
            assert not reader.of(Lagged)


class TestSilence:
    def test_a_websocket_that_answers_no_ping_is_let_go(self) -> None:
        with Server(*MEMORY, "--ping-interval-s", "0.2", "--pong-timeout-s", "0.2") as server:
            bob = Framed(server.port, Json())
            bob.send(Join("bob"))
            eventually(lambda: metric(server, "pong_timeout_s") == 1)
            counted(server, "pong_timeout_s")
            bob.close()


class TestLogins:
    def test_only_so_many_are_tried(self, tmp_path: Path) -> None:
        accounts = tmp_path / "accounts"
        with edit_accounts(str(accounts)) as file:
            file["ann"] = FileAccount("ann", hash=hash_password("right", log_n=1))
        options = ("--accounts", str(accounts), "--login-burst", "1", "--login-interval-s", "1000")
        with Server(*MEMORY, *options) as server:
            answers = []
            for number in range(3):
                client = server.connect()
                client.send(Login("ann", f"guess {number}"))
                answers.append(client)
            assert answers[0].until(Error).code == ErrorCode.LOGIN_FAILED
            assert answers[2].until(Error).code == ErrorCode.RATE_LIMITED
            counted(server, "login_burst")


def test_each_limit_that_is_counted_is_met_by_a_test_here() -> None:
    with open(__file__, encoding="utf-8") as source:
        text = source.read()
    met = {*re.findall(r'counted\(server, "(\w+)"\)', text)}
    assert {*LIMITING} - met == {
        "max_connections"
    }  # with it nobody can ask, which is tested with another port
