"""Whatever a peer sends, it gets a clear end, costs a bounded amount of memory, and nobody else notices.

Every test ends with a new client being served and a log without a traceback.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from faults.crowd import fresh_ids
from faults.places import Place
from faults.watching import assert_log_is_clean, assert_well, quiet_descriptors
from live import PATIENCE_S, eventually

from chatproto.limits import Limits
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Chat,
    End,
    Error,
    History,
    Join,
    Leave,
    Left,
    Login,
    Nick,
    Ping,
    Pong,
    Renamed,
    Say,
    Who,
)

MB = 1_000_000
SLACK_BYTES = 4 * MB
"""For what else moves in a process: the allocator's arenas, one read and its messages."""

JOIN_TIMEOUT_S = 2
NICKNAME_TIMEOUT_S = 1.5


@pytest.fixture(scope="module")
def quiet_place() -> Iterator[tuple[Place, int]]:
    """A server for most of what is here, and its open descriptors while nobody is connected."""
    options = (
        "--join-timeout-s",
        str(JOIN_TIMEOUT_S),
        "--nickname-timeout-s",
        str(NICKNAME_TIMEOUT_S),
        "--max-bytes-before-join",  # what is tested here is what holds without that
        str(2**40),
        "--close-timeout-s",
        "0.5",
        "--rename-interval-s",
        "600",
    )
    with Place(*options, "--max-room-log-messages", "70000") as running:
        yield running, quiet_descriptors(running.server)


@pytest.fixture
def place(quiet_place: tuple[Place, int]) -> Iterator[Place]:
    """A server that nobody is connected to, neither before nor after."""
    running, descriptors = quiet_place
    yield from running.in_use(descriptors)


class Bystanders:
    """Two people who talk to each other while something else goes on."""

    def __init__(self, place: Place) -> None:
        self.alice, self.bob = place.join("alice", ("meanwhile",)), place.join("bob", ("meanwhile",))

    def talk(self) -> None:
        id = next(fresh_ids)
        text = f"hi {id}"
        self.alice.send(Say(id, "meanwhile", text))
        self.alice.until(Ack, lambda ack: ack.id == id)
        self.bob.until(Chat, lambda chat: chat.text == text)

    def close(self) -> None:
        self.alice.close()
        self.bob.close()


@pytest.fixture
def bystanders(place: Place) -> Iterator[Bystanders]:
    """They are served in the end, too."""
    both = Bystanders(place)
    both.talk()
    yield both
    both.talk()
    both.close()


def send_unread(plain: socket.socket, data: bytes, most_bytes: int) -> int:
    """Send *data* again and again without reading, until nothing is taken for a while; how much it was."""
    plain.setblocking(False)
    sent = 0
    last_s = time.monotonic()
    while sent < most_bytes and time.monotonic() - last_s < 0.5:
        try:
            sent += plain.send(data[sent % len(data) :])
            last_s = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    plain.settimeout(PATIENCE_S)
    return sent


def _is_of(room: str, end: End) -> bool:
    return end.room == room


def read_to_end(plain: socket.socket) -> bytes:
    """What comes until the server closes, with a reset or without."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := plain.recv(2**16):
            received += data
    return received


class TestLengths:
    lengths = sorted(
        {2**power + more for power in range(33) for more in (-1, 0, 1) if 2**power + more < 2**32}
    )

    @staticmethod
    def expected(length: int) -> set[int]:
        """The error for a frame of so many bytes that is a ping followed by zeros."""
        if length == 0:
            return {ErrorCode.MALFORMED}
        if length > Limits().max_frame_bytes:
            return {ErrorCode.TOO_BIG}
        return set() if length == 9 else {ErrorCode.MALFORMED}

    def test_every_announced_length_has_a_clear_answer(self, place: Place) -> None:
        assert {0, 1, 9 - 1, 65_535, 65_536, 65_537, 2**24, 2**31, 2**32 - 1} <= {*self.lengths}
        for length in (*self.lengths, 9):
            body = b"\x08".ljust(min(length, 65_536), b"\0")[:length]
            client = place.join(f"client-{length}")
            client.socket.sendall(struct.pack(">I", length) + body)
            if expected := self.expected(length):
                client.until_closed()
                assert {error.code for error in client.of(Error)} == expected, length
                assert isinstance(client.received[-1], Error)
            else:
                client.until(Pong)
            client.close()

    def test_every_announced_length_has_a_clear_answer_as_the_first_frame_too(self, place: Place) -> None:
        for length in (*self.lengths, 9):
            if length >= 2**24:
                break  # does not begin with a zero, and so is no frame; see TestJunk
            client = place.call()
            client.socket.sendall(
                struct.pack(">I", length) + b"\x08".ljust(min(length, 65_536), b"\0")[:length]
            )
            if expected := self.expected(length):
                client.until_closed()
                assert [error.code for error in client.of(Error)] == [*expected], length
            else:
                client.until(Pong)
            client.close()

    def test_the_largest_frame_is_taken_and_one_byte_more_is_not(self, place: Place) -> None:
        most = Limits().max_frame_bytes
        fits = encode_frame(Login("u" * 65_000, "s" * (most - 5 - 65_000)))
        assert len(fits) == 4 + most
        client = place.call()
        client.socket.sendall(fits)
        assert client.until(Error).code == ErrorCode.NOT_SUPPORTED  # it was understood: there are no accounts
        client.send(Ping(7))
        assert client.until(Pong).token == 7
        client.socket.sendall(encode_frame(Login("u" * 65_000, "s" * (most - 4 - 65_000))))
        assert client.until(Error).code == ErrorCode.TOO_BIG
        client.until_closed()
        client.close()

    def test_frames_that_come_byte_by_byte_work(self, place: Place, bystanders: Bystanders) -> None:
        client = place.call()
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        frames = b"".join(
            map(encode_frame, (Join("dribbler", "meanwhile"), Say(5, "meanwhile", "drip drop")))
        )
        for byte in frames:
            client.socket.sendall(bytes([byte]))
            time.sleep(0.001)  # so that each travels alone
        assert client.until(Ack).id == 5
        assert bystanders.bob.until(Chat, lambda chat: chat.nick == "dribbler").text == "drip drop"
        client.close()


class TestMemory:
    def test_frames_that_lack_a_byte_cost_their_size_and_end_with_the_join_timeout(
        self, place: Place, bystanders: Bystanders
    ) -> None:
        count, most = 200, Limits().max_frame_bytes
        before = place.server.rss_bytes()
        clients = []
        almost = struct.pack(">I", most) + b"\x09".ljust(most - 1, b"\0")
        for _ in range(count):
            clients.append(place.call())
            clients[-1].socket.sendall(almost)  # at once: who is silent is taken for a person
        bystanders.talk()
        grown = place.server.rss_bytes() - before
        print(f"{count} frames of {most} bytes that lack one: {grown / MB:.1f} MB")
        # Twice: what comes in pieces is moved as it grows, and leaves holes behind.
        assert grown <= count * 2 * most + SLACK_BYTES
        for client in clients:
            client.until_closed()
            assert [error.code for error in client.of(Error)] == [ErrorCode.TIMEOUT]
            client.close()

    def test_pings_whose_pongs_are_never_read_are_taken_no_more(
        self, place: Place, bystanders: Bystanders
    ) -> None:
        before = place.server.rss_bytes()
        client = place.join("client", kind="unix")
        ping = encode_frame(Ping(1))
        sent = send_unread(client.socket, ping * 5_000, 50 * MB)
        assert sent < 50 * MB, "the server goes on reading"
        bystanders.talk()
        grown = place.server.rss_bytes() - before
        print(f"{sent // len(ping)} pings: {grown / MB:.1f} MB")
        assert grown <= Limits().max_queued_bytes + SLACK_BYTES
        # Whoever reads after all gets every answer.
        client.gather(lambda: len(client.of(Pong)) == sent // len(ping), "all the pongs")
        client.close()

    def test_long_answers_that_are_never_read_are_not_made(
        self, place: Place, bystanders: Bystanders
    ) -> None:
        """A request of 17 bytes is worth megabytes of history, and one of 5 a thousand names."""
        talker = place.join("talker", ("history",))
        for _ in range(60):
            talker.send(*[Say(0, "history", "x")] * 1_000)
        talker.send(Ping(1))
        talker.until(Pong)
        greedy = [place.join(f"greedy{number}", ("history",), kind="unix") for number in range(20)]
        requests = b"".join(map(encode_frame, (History("history", 0, 65_535), Who("history")))) * 500
        before = place.server.rss_bytes()
        for client in greedy:
            client.socket.setblocking(False)
            client.socket.send(requests)
            client.socket.settimeout(PATIENCE_S)
        most = before
        for _ in range(20):
            bystanders.talk()
            most = max(most, place.server.rss_bytes())
        print(f"{len(greedy)} who ask without reading: {(most - before) / MB:.1f} MB")
        assert most - before <= len(greedy) * 300_000 + SLACK_BYTES
        # Whoever reads after all is answered, completely.
        first = greedy[0]
        first.gather(lambda: len(first.of(End)) == 4, "the answers that wait")
        due = [seq for end in first.of(End)[1:] for seq in range(end.first, end.last + 1)]
        assert len(due) > 10_000
        assert [chat.seq for chat in first.of(Chat)][: len(due)] == due
        for client in (*greedy, talker):
            client.close()

    @pytest.mark.parametrize(
        ("begin", "data"),
        [
            (b"number%d\n", b"\n" * 65_536),
            (b"number%d\n/leave\n", b"a\n" * 32_768),
            (encode_frame(Join("number%d")), encode_frame(Say(0, "x", "")) * 3_000),
        ],
        ids=["empty lines", "lines", "frames"],
    )
    def test_many_short_requests_at_once_cost_no_more_than_a_few_times_their_size(
        self, begin: bytes, data: bytes
    ) -> None:
        """The shortest there are, so that 64 KiB are as many as can be."""
        count = 20
        # They go on being taken up for long, so the server is one of its own.
        with Place() as place:
            bystanders = Bystanders(place)
            clients = [place.connect() for _ in range(count)]
            for number, client in enumerate(clients):
                client.sendall(begin.replace(b"%d", b"%d" % (number + 10)))
            bystanders.talk()
            before = most = place.server.rss_bytes()
            for client in clients:
                client.sendall(data)
            for _ in range(20):
                bystanders.talk()
                most = max(most, place.server.rss_bytes())
            print(f"{count} times {data[:9]!r}...: {(most - before) / MB:.1f} MB")
            assert most - before <= count * MB + SLACK_BYTES
            place.hang_up()
            assert_log_is_clean(place.server)

    def test_the_body_of_a_request_is_kept_nowhere(self, place: Place, bystanders: Bystanders) -> None:
        before = place.server.rss_bytes()
        client = place.connect()
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(20):
            client.sendall(bytes(MB))
        bystanders.talk()
        assert place.server.rss_bytes() - before <= SLACK_BYTES
        folder = Path(f"/proc/{place.server.process.pid}/fd")
        files = [(os.readlink(path), path.stat().st_size) for path in folder.iterdir() if path.is_file()]
        assert not [(name, size) for name, size in files if size > MB], "it is written to disk"
        client.close()


class TestFloods:
    def test_of_many_changes_of_nickname_others_see_only_the_allowed(
        self, place: Place, bystanders: Bystanders
    ) -> None:
        count, burst = 3_000, Limits().rename_burst
        client = place.join("flooder", ("meanwhile",))
        client.send(*(Nick(f"flooder{number}") for number in range(count)))
        bystanders.talk()
        client.gather(lambda: len(client.of(Error)) == count - burst, "the refusals")
        assert {error.code for error in client.of(Error)} == {ErrorCode.RATE_LIMITED}
        expected = [f"flooder{number}" for number in range(burst)]
        assert [renamed.new for renamed in client.of(Renamed)] == expected
        bystanders.talk()
        for bystander in (bystanders.alice, bystanders.bob):
            bystander.drain()
            assert [renamed.new for renamed in bystander.of(Renamed)] == expected
        client.close()

    def test_a_session_gets_only_so_many_rooms(self, place: Place, bystanders: Bystanders) -> None:
        count, most = 10_000, Limits().max_rooms_per_session
        client = place.join("collector", ("room0",))
        client.send(*(Join("collector", f"room{number}") for number in range(1, count)))
        bystanders.talk()
        client.gather(lambda: len(client.of(Error)) == count - most, "the refusals")
        assert {error.code for error in client.of(Error)} == {ErrorCode.TOO_MANY_ROOMS}
        assert len(client.of(End)) == most
        assert place.server.state()["rooms"] == most + 1
        client.close()
        eventually(lambda: place.server.state()["rooms"] == 1, "the rooms are gone")

    def test_the_server_has_only_so_many_rooms(self) -> None:
        with Place("--max-rooms", "50") as place:
            client = place.join("collector", ("room0",))
            client.send(*(Join("collector", f"room{number}") for number in range(1, 60)))
            client.gather(lambda: len(client.of(Error)) == 10, "the refusals")
            assert {error.code for error in client.of(Error)} == {ErrorCode.TOO_MANY_ROOMS}
            other = place.call()
            other.send(Join("other", "mine"))
            assert other.until(Error).code == ErrorCode.TOO_MANY_ROOMS
            other.send(Join("other", "room49"))
            other.until(End)
            client.send(Leave("room0"))
            client.send(Join("collector", "mine"))
            client.until(End, lambda end: end.room == "mine")
            client.close()
            other.close()

    def test_rooms_that_come_and_go_leave_only_a_bounded_amount_behind(self) -> None:
        with Place("--max-rooms", "1000") as place:
            bystanders = Bystanders(place)
            client = place.join("walker", ("home",))

            def walk(first: int, count: int) -> None:
                for begin in range(first, first + count, 100):
                    for number in range(begin, begin + 100):
                        room = f"room{number}"
                        client.send(Join("walker", room), Say(0, room, "x" * 1_000), Leave(room))
                    client.until(End, partial(_is_of, f"room{begin + 99}"))

            walk(0, 3_000)
            before = place.server.rss_bytes()
            walk(3_000, 10_000)
            bystanders.talk()
            grown = place.server.rss_bytes() - before
            print(f"10,000 more rooms: {grown / MB:.2f} MB")
            assert grown <= SLACK_BYTES
            assert place.server.state()["rooms"] == 2
            assert_well(place.server)

    def test_telnet_options_are_refused_a_bounded_number_of_times(
        self, place: Place, bystanders: Bystanders
    ) -> None:
        client = place.connect()
        verbs = b"\xfd\xfb\xfe\xfc"  # DO, WILL, DONT, WONT
        flood = b"".join(
            bytes([255, verb, option]) for option in range(256) for verb in verbs if option != 255
        )
        client.sendall(b"telnet\r\n/join meanwhile\r\n")
        for _ in range(100):
            client.sendall(flood)
        client.sendall(b"\xff\xfa" + b"\x18" * MB + b"\xff\xf0")  # a subnegotiation without end, nearly
        client.sendall(b"hi there\r\n")
        bystanders.talk()
        assert bystanders.bob.until(Chat, lambda chat: chat.nick == "telnet").text == "hi there"
        client.shutdown(socket.SHUT_WR)
        answers = read_to_end(client)
        assert answers.count(b"\xff\xfc") + answers.count(b"\xff\xfe") <= 2 * 256
        client.close()

    def test_a_line_of_a_million_bytes_is_skipped_with_one_sentence(
        self, place: Place, bystanders: Bystanders
    ) -> None:
        client = place.connect()
        client.sendall(b"longwinded\n/join meanwhile\n")
        client.sendall(b"x" * MB)
        client.sendall(b"\nshort\n")
        assert bystanders.bob.until(Chat, lambda chat: chat.nick == "longwinded").text == "short"
        client.shutdown(socket.SHUT_WR)
        lines = read_to_end(client).decode().splitlines()
        assert [line for line in lines if "bytes" in line] == [
            "* a line has at most 4096 bytes; yours was not sent"
        ]
        client.close()

    @pytest.mark.parametrize("count", [1, 64, 65, 500])
    @pytest.mark.parametrize("wants_acks", [False, True])
    def test_what_was_said_before_closing_at_once_is_delivered(
        self, place: Place, bystanders: Bystanders, count: int, wants_acks: bool
    ) -> None:
        client = place.join("hasty", ("meanwhile",))
        client.send(
            *(
                Say(next(fresh_ids) if wants_acks else 0, "meanwhile", f"{number}")
                for number in range(1, count + 1)
            )
        )
        client.close()
        bob = bystanders.bob
        bob.gather(lambda: [chat for chat in bob.of(Chat) if chat.text == str(count)] != [], "the last word")
        said = [chat.text for chat in bob.of(Chat) if chat.nick == "hasty"]
        assert said == [str(number) for number in range(1, count + 1)]
        bob.until(Left, lambda left: left.nick == "hasty")


class TestSilence:
    def test_whoever_does_not_join_in_time_is_told_so_and_let_go(self, place: Place) -> None:
        half = place.call()
        half.socket.sendall(encode_frame(Join("half"))[:-3])
        pings = place.call()
        pings.send(Ping(1))
        for client in (half, pings):
            client.until_closed()
            assert [error.code for error in client.of(Error)] == [ErrorCode.TIMEOUT]
            client.close()

    def test_whoever_says_nothing_at_all_gets_lines_and_is_let_go(self, place: Place) -> None:
        silent = {kind: place.connect(kind) for kind in ("tcp", "unix", "tls")}
        for plain in silent.values():
            lines = read_to_end(plain).decode().splitlines()
            assert lines == [
                "* welcome to chatproto; what is your nickname?",
                f"* nobody joined within {NICKNAME_TIMEOUT_S} s",
            ]
            plain.close()

    def test_whoever_never_shakes_hands_on_the_tls_port_is_let_go(self, place: Place) -> None:
        begun = (b"", b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n")
        clients = [place.connect("tls-port") for _ in begun]
        for client, data in zip(clients, begun, strict=True):
            client.sendall(data)
        for client in clients:
            read_to_end(client)

    def test_half_a_request_is_no_line(self, place: Place, bystanders: Bystanders) -> None:
        client = place.connect()
        client.sendall(b"GET /")
        bystanders.talk()
        client.shutdown(socket.SHUT_WR)
        assert b"welcome" not in read_to_end(client)
        client.close()


HELLO = (
    bytes.fromhex(
        # What openssl s_client begins with: a TLS record with a ClientHello of 512 bytes.
        "1603010200010001fc0303"
    )
    + bytes(range(256)) * 2
)


class TestJunk:
    @pytest.mark.parametrize("ends_input", [True, False])
    def test_every_first_byte_leads_to_an_end(
        self, place: Place, bystanders: Bystanders, ends_input: bool
    ) -> None:
        """Random bytes; the seed is the first byte."""
        clients = []
        for first in range(256):
            client = place.connect()
            client.sendall(bytes([first]) + random.Random(first).randbytes(200))
            if ends_input:
                client.shutdown(socket.SHUT_WR)
            clients.append(client)
        bystanders.talk()
        for client in clients:
            read_to_end(client)
            client.close()

    @pytest.mark.parametrize(
        "begin",
        [
            HELLO,
            b"\r\n\r\n",
            b"\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET \x1b[2J\xff HTTP/1.1\r\nHost: \xff\r\n\r\n",
            b"EHLO me\r\n",
            b"\xff\xfd\x01\xff\xfd",
        ],
    )
    def test_whoever_speaks_another_protocol_is_let_go(self, place: Place, begin: bytes) -> None:
        client = place.connect()
        client.sendall(begin)
        time.sleep(0.05)
        client.shutdown(socket.SHUT_WR)
        read_to_end(client)
        client.close()
