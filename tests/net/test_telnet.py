"""Lines over telnet: in memory what a client may ask for, and the real programs at a terminal."""

from __future__ import annotations

import itertools
import shutil
import socket
from collections.abc import Iterator

import pytest
from live import Server, eventually
from net.memory import Chat
from net.terminal import ESCAPE, INTERRUPT, Terminal

from chatproto.wire.messages import Chat as Said
from chatproto.wire.messages import Join, Left, Roster, Say

IAC = b"\xff"
NAWS_OFFERED, NAWS_ASKED_FOR = b"\xff\xfb\x1f", b"\xff\xfd\x1f"
ARE_YOU_THERE, INTERRUPTED, TIMING_MARK = b"\xff\xf6", b"\xff\xf4", b"\xff\xfd\x06"
MARKED = b"\xff\xfb\x06"


class TestInMemory:
    def test_nobody_who_does_not_negotiate_sees_any_of_it(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(b"alice\r\n" + ARE_YOU_THERE + b"/help\r\n/who\r\n" + INTERRUPTED)
        assert IAC not in line.received()

    def test_who_asks_whether_anybody_is_there_is_answered_in_words(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(ARE_YOU_THERE)
        assert line.lines()[-1] == "* yes; what is your nickname?"
        line.send(b"alice\r\n/join ops\r\n" + ARE_YOU_THERE)
        assert line.lines()[-1] == "* yes; you are talking in ops now"

    @pytest.mark.parametrize("stop", [INTERRUPTED, b"\xff\xee", b"\xff\xec"])
    def test_an_interrupt_is_the_end_after_what_was_said_before_it(self, stop: bytes) -> None:
        chat = Chat()
        bob = chat.person("bob")
        alice = chat.person("alice")
        bob.lines()
        alice.send(b"hi\r\n" + stop + b"not said\r\n")
        assert alice.lines() == ["* bye, alice"]
        assert not alice.connected
        assert bob.lines() == ["[lobby 00:00] alice: hi", "* alice left lobby (left)"]

    def test_a_timing_mark_is_set_where_what_came_before_it_is_done(self) -> None:
        chat = Chat()
        line = chat.person("alice")
        line.send(b"/who\r\n" + TIMING_MARK + b"/who\r\n" + TIMING_MARK)
        assert line.received() == NAWS_ASKED_FOR + (b"* in lobby: alice\r\n" + MARKED) * 2

    def test_the_mark_that_comes_with_an_interrupt_is_set_before_the_last_words(self) -> None:
        """A telnet shows nothing until it has its mark."""
        line = Chat().person("alice")
        line.send(INTERRUPTED + TIMING_MARK)
        assert line.received() == NAWS_ASKED_FOR + MARKED + b"* bye, alice\r\n"

    def test_a_window_that_grows_is_used(self) -> None:
        chat = Chat()
        for number in range(20):
            chat.person(f"somebody{number}")
        line = chat.connect()
        line.send(NAWS_OFFERED + b"\xff\xfa\x1f\x00\x28\x00\x18\xff\xf0alice\r\n")
        assert NAWS_ASKED_FOR in line.received()
        for columns, most in ((60, 60), (100, 100), (0, 80)):
            line.send(b"\xff\xfa\x1f\x00" + bytes([columns]) + b"\x00\x18\xff\xf0/who\r\n")
            widest = max(map(len, line.lines()))
            assert most - len("somebody10, ") < widest <= most

    @pytest.mark.parametrize("flood", [TIMING_MARK, ARE_YOU_THERE])
    def test_who_asks_and_asks_and_does_not_read_is_not_read_either(self, flood: bytes) -> None:
        chat = Chat()
        line = chat.person("alice")
        (connection,) = chat.factory.connections
        line.send(flood * 20_000)
        assert line.producerState == "paused"
        assert connection.queued_bytes < 200_000

    def test_an_interrupt_at_the_door_goes_away(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(INTERRUPTED)
        assert line.lines()[-1] == "* bye"
        assert not line.connected


@pytest.fixture(scope="module")
def place() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def server(place: Server) -> Iterator[Server]:
    """One server for all of these, with nobody there before any of them."""
    yield place
    names = (f"checker{number}" for number in itertools.count())

    def nobody_is_there() -> bool:
        checker = place.connect()
        checker.send(Join(next(names)))
        total = checker.until(Roster).total
        checker.close()
        return total == 1

    eventually(nobody_is_there, "everybody is gone")


def test_an_urgent_mark_takes_nothing_with_it(server: Server) -> None:
    """The mark of a synch (RFC 854) travels as urgent data, which a socket takes out of the stream."""
    watcher = server.join("watcher")
    plain = server.raw()
    plain.sendall(b"alice\r\n")
    heard = b""
    while b"in lobby: " not in heard:
        heard += plain.recv(4_096)
    plain.sendall(b"one\r\n\xff")
    plain.send(b"\xf2", socket.MSG_OOB)
    plain.sendall(b"hello\r\n")
    assert watcher.until(Said).text == "one"
    assert watcher.until(Said).text == "hello"
    plain.close()


@pytest.fixture
def port(server: Server) -> str:
    return str(server.port)


@pytest.mark.system
@pytest.mark.skipif(not shutil.which("telnet"), reason="there is no telnet here")
class TestTelnet:
    """The `telnet` of the system."""

    @pytest.fixture
    def quiet(self, port: str) -> Iterator[Terminal]:
        """One that does not negotiate, as on every port but telnet's own."""
        with Terminal("telnet", "127.0.0.1", port) as terminal:
            terminal.sees("* welcome to chatproto; what is your nickname?\r\n")
            yield terminal

    @pytest.fixture
    def negotiating(self, port: str) -> Iterator[Terminal]:
        """One that begins to negotiate at once, which the minus asks for, in a window of 40 columns."""
        with Terminal("telnet", "--", "127.0.0.1", f"-{port}", columns=40) as terminal:
            terminal.sees("* welcome to chatproto; what is your nickname?\r\n")
            yield terminal

    def test_someone_talks(self, server: Server, quiet: Terminal) -> None:
        watcher = server.join("watcher")
        quiet.type("alice")
        quiet.sees("* in lobby: watcher, alice\r\n")
        quiet.type("grüß dich")
        assert watcher.until(Said).text == "grüß dich"
        watcher.send(Say(0, "", "hi"))
        quiet.sees("] watcher: hi\r\n")
        quiet.type("/quit")
        assert "\ufffd" not in quiet.sees("* bye, alice\r\nConnection closed by foreign host.")

    def test_the_window_s_width_is_kept_to(self, server: Server, negotiating: Terminal) -> None:
        crowd = [server.join(f"somebody{number}") for number in range(6)]
        negotiating.type("alice")
        negotiating.sees(
            "* in lobby: somebody0, somebody1,\r\n"
            "*   somebody2, somebody3, somebody4,\r\n"
            "*   somebody5, alice\r\n"
        )
        negotiating.type("/help")
        shown = negotiating.sees("/quit  leave the chat\r\n")
        assert all(len(line) <= 40 for line in shown.split("\r\n"))
        for one in crowd:
            one.close()

    @pytest.mark.parametrize("kind", ["quiet", "negotiating"])
    def test_control_c_leaves(self, server: Server, kind: str, request: pytest.FixtureRequest) -> None:
        terminal = request.getfixturevalue(kind)
        watcher = server.join("watcher")
        terminal.type("alice")
        terminal.sees("* in lobby: watcher, alice\r\n")
        terminal.press(INTERRUPT)
        terminal.sees("* bye, alice\r\nConnection closed by foreign host.")
        assert watcher.until(Left).reason == "left"

    def test_what_one_asks_telnet_to_send_is_answered_or_harmless(
        self, server: Server, quiet: Terminal
    ) -> None:
        watcher = server.join("watcher")
        quiet.type("alice")
        quiet.sees("* in lobby: watcher, alice\r\n")
        for command, answer in (
            ("send ayt", "* yes; you are talking in lobby now\r\n"),
            ("send nop", "\r\n"),
            ("send ga", "\r\n"),
            ("send brk", "\r\n"),
            ("send do 24", "\r\n"),
            ("send will 1", "\r\n"),
            ("send synch", "\r\n"),
        ):
            quiet.press(ESCAPE)
            quiet.sees("telnet> ")
            quiet.type(command)
            quiet.sees(answer)
            quiet.type(f"after {command}")
            assert watcher.until(Said).text == f"after {command}"


@pytest.mark.system
@pytest.mark.skipif(not shutil.which("busybox"), reason="there is no busybox here")
def test_someone_talks_with_busybox_telnet(server: Server, port: str) -> None:
    watcher = server.join("watcher")
    with Terminal("busybox", "telnet", "127.0.0.1", port) as terminal:
        terminal.sees("what is your nickname?")
        terminal.type("alice")
        terminal.sees("* in lobby: watcher, alice")
        terminal.type("grüß dich")
        assert watcher.until(Said).text == "grüß dich"
        terminal.type("/quit")
        terminal.sees("Connection closed by foreign host")


@pytest.mark.system
@pytest.mark.skipif(not shutil.which("socat"), reason="there is no socat here")
def test_someone_talks_from_a_terminal_in_raw_mode(server: Server, port: str) -> None:
    """Every key comes by itself, return as a bare CR, and what was wrong is taken back here."""
    watcher = server.join("watcher")
    with Terminal("socat", "-,rawer", f"TCP:127.0.0.1:{port}") as terminal:
        terminal.sees("what is your nickname?")
        for key in "alice\r":
            terminal.press(key)
        terminal.sees("* in lobby: watcher, alice")
        for key in "grß\x7füß\x7f\x7füßx\x08 dich\r":
            terminal.press(key)
        assert watcher.until(Said).text == "grüß dich"
        for key in "/jion\x15/quit\r":
            terminal.press(key)
        terminal.sees("* bye, alice")
