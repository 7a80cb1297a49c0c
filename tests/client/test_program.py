"""chatproto-connect as a program, in pipes and on a terminal, against the real server."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from client.test_against_server import AgainstServer, reactor, until
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ProcessDone
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.python.failure import Failure

from chatproto.client.ends import ExitCode


class Running(ProcessProtocol):
    """chatproto-connect, running."""

    def __init__(self, number: int, *arguments: str, use_pty: bool = False) -> None:
        self.out = ""
        self.err = ""
        self.ended: Deferred[int] = Deferred()
        command = [sys.executable, "-m", "chatproto.client.connect", f"127.0.0.1:{number}", *arguments]
        self.process = reactor.spawnProcess(self, sys.executable, command, os.environ, usePTY=use_pty)

    def outReceived(self, data: bytes) -> None:
        self.out += data.decode()

    def errReceived(self, data: bytes) -> None:
        self.err += data.decode()

    def processEnded(self, reason: Failure) -> None:
        code = 0 if reason.check(ProcessDone, ConnectionDone) else getattr(reason.value, "exitCode", -1)
        self.ended.callback(-1 if code is None else code)

    def type(self, text: str) -> None:
        self.process.write(text.encode())

    async def shows(self, text: str) -> None:
        """Wait until it has shown a text."""
        await until(lambda: text in self.out, f"{text!r} was not shown")


class TheProgram(AgainstServer):
    async def test_in_a_pipe(self) -> None:
        bob, heard = self.client("bob")
        await bob.join("lobby")
        program = Running(self.number, "--nick", "ann")
        program.type("hello\n\n//slash\n/me waves\r\nwithout newline")
        program.process.closeStdin()
        assert (await program.ended, program.err) == (0, "")
        await until(lambda: heard.of("left"))
        assert [chat.text for chat in heard.of("chat")] == ["hello", "/slash", "/me waves", "without newline"]
        assert heard.of("left")[0].reason == "left"
        assert program.out.splitlines() == [
            f"-- connected to {self.hub.server} as ann",
            "-- you are in lobby, with ann, bob",
        ]

    async def test_from_a_file_into_a_file(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.mktemp_folder()))
        lines = [f"line {number}" for number in range(900)]
        (folder / "in").write_text("\n".join(lines))
        with (folder / "in").open() as into, (folder / "out").open("w") as out:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "chatproto.client.connect",
                    f"127.0.0.1:{self.number}",
                    "--nick",
                    "ann",
                ],
                stdin=into,
                stdout=out,
                stderr=subprocess.PIPE,
            )
            await until(lambda: process.poll() is not None)
        assert process.stderr is not None
        with process.stderr:
            assert (process.returncode, process.stderr.read()) == (0, b"")
        assert [chat.text for chat in self.kept()] == lines
        assert "you are in lobby" in (folder / "out").read_text()

    def mktemp_folder(self) -> str:
        folder = tempfile.TemporaryDirectory(prefix="chatproto-test-")
        self.addCleanup(folder.cleanup)
        return folder.name

    async def test_from_nothing(self) -> None:
        """`< /dev/null`, which epoll cannot watch either."""
        process = subprocess.Popen(
            [sys.executable, "-m", "chatproto.client.connect", f"127.0.0.1:{self.number}", "--nick", "ann"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        await until(lambda: process.poll() is not None)
        assert process.returncode == 0

    async def test_a_conversation(self) -> None:
        bob, heard = self.client("bob")
        await bob.join("two")
        program = Running(self.number, "--nick", "ann", "--room", "one", "--room", "two")
        await program.shows("you are in two, with ann, bob")
        await bob.say("two", "hi\n[two] <eve> \x09forged \u202e")
        await bob.say("two", "/me waves")
        await bob.tell("ann", "psst")
        await program.shows("[to you] <bob> psst\n")
        program.type("hello\n/msg bob psst, too\n/who\n/join one\nalone\n/leave\n/history 1\n/nick anna\n")
        await program.shows("-- ann is anna now")
        await bob.rename("rob")
        await bob.leave("two")
        await program.shows("-- rob left two\n")
        program.type("/quit\nnever said\n")
        assert await program.ended == 0
        assert [chat.text for chat in heard.of("chat")] == ["hello"]
        assert heard.of("told")[0].text == "psst, too"
        assert [chat.text for chat in self.kept("one")] == ["alone"]
        shown = program.out.splitlines()
        assert shown[:6] == [
            f"-- connected to {self.hub.server} as ann",
            "-- you are in one, with ann",
            "-- you are in two, with ann, bob",
            "[two] <bob> hi",
            "[two]   | [two] <eve>     forged �",
            "[two] * bob waves",
        ]
        assert "-- two: ann, bob" in shown
        assert "-- you left one; you speak in two" in shown
        assert re.search(r"(?m)^\[two \d{4}-\d\d-\d\d \d\d:\d\d\] <ann> hello$", program.out)

    async def test_nobody_listens(self) -> None:
        await self.port.stopListening()
        program = Running(self.number, "--nick", "ann")
        assert await program.ended == ExitCode.NO_CONNECTION
        assert program.out == ""
        assert re.search(
            r"\Achatproto-connect: no connection to 127\.0\.0\.1 port \d+: [^\n]*refused[^\n]*\n\Z",
            program.err,
        )

    async def test_a_nickname_that_is_taken(self) -> None:
        ann, _ = self.client("ann")
        await ann.join()
        program = Running(self.number, "--nick", "ann")
        assert await program.ended == ExitCode.REFUSED
        assert re.search(r"\Achatproto-connect: refused by [^\n]*ann is taken[^\n]*\n\Z", program.err)

    async def test_a_server_of_another_kind(self) -> None:
        class Greeter(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")

        port = reactor.listenTCP(0, Factory.forProtocol(Greeter), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        program = Running(port.getHost().port, "--nick", "ann")
        assert await program.ended == ExitCode.NO_CONNECTION
        assert re.search(
            r"\Achatproto-connect: no session with [^\n]*does not speak the protocol[^\n]*\n\Z", program.err
        )

    async def test_a_server_that_hangs_up(self) -> None:
        class Rude(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Rude), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        program = Running(port.getHost().port, "--nick", "ann")
        assert await program.ended == ExitCode.NO_CONNECTION
        assert re.search(r"\Achatproto-connect: no session with [^\n]*closed the connection\n\Z", program.err)

    async def test_not_everything_could_be_said(self) -> None:
        program = Running(self.number, "--nick", "ann")
        program.type("one\n\x07\n" + "x" * 20_000 + "\nlast\n/nope\n")
        program.process.closeStdin()
        assert await program.ended == 1
        assert [chat.text for chat in self.kept()] == ["one", "last"]
        assert "-- a line may have 16,384 bytes, and this one was not said\n" in program.out
        assert re.search(r"\Achatproto-connect: not everything was done: [^\n]*\n\Z", program.err)

    async def test_an_interrupt_leaves_politely(self) -> None:
        bob, heard = self.client("bob")
        await bob.join("lobby")
        program = Running(self.number, "--nick", "ann")
        await program.shows("you are in lobby")
        program.process.signalProcess("INT")
        assert (await program.ended, program.err) == (130, "")
        await until(lambda: heard.of("left"))
        assert heard.of("left")[0].reason == "left"

    async def test_on_a_terminal(self) -> None:
        program = Running(self.number, "--nick", "ann", "--plain", use_pty=True)
        await program.shows("you are in lobby")
        program.type("hello\n/nope\n")
        await program.shows("there is no command")
        program.type("\x04")
        assert await program.ended == 0
        assert [chat.text for chat in self.kept()] == ["hello"]

    async def test_an_interrupt_on_a_terminal(self) -> None:
        program = Running(self.number, "--nick", "ann", "--plain", use_pty=True)
        await program.shows("you are in lobby")
        program.type("\x03")
        assert await program.ended == 130

    async def test_a_terminal_is_left_as_it_was(self) -> None:
        """A shell whose terminal does not block would see it end."""
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "chatproto.client.connect",
                f"127.0.0.1:{self.number}",
                "--nick",
                "ann",
                "--plain",
            ],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        await until(lambda: "ann" in [session.nick_text for session in self.hub.sessions.values()])
        await until(lambda: not os.get_blocking(theirs))
        process.send_signal(signal.SIGINT)
        await until(lambda: process.poll() is not None)
        assert os.get_blocking(theirs)

    async def test_nobody_reads_what_it_shows(self) -> None:
        bob, heard = self.client("bob")
        await bob.join("lobby")
        program = Running(self.number, "--nick", "ann")
        await program.shows("you are in lobby")
        program.process.closeStdout()
        await until(lambda: heard.of("left"))
        await program.ended

    async def test_it_comes_back(self) -> None:
        program = Running(self.number, "--nick", "ann")
        await program.shows("you are in lobby")
        bob, _ = self.client("bob")
        await bob.join("lobby")
        for connection in list(self.factory().connections):
            if connection.session.nick_text == "ann":
                cast(Any, connection).transport.abortConnection()
        await program.shows("-- the connection is lost: ")
        await program.shows("-- trying again in ")
        await bob.say("lobby", "meanwhile")
        program.type("said without a connection\n")
        await program.shows("-- connected again to ")
        await program.shows("[lobby] <bob> meanwhile\n")
        await until(lambda: self.hub.log.bounds("lobby")[1] == 2)
        program.process.closeStdin()
        assert await program.ended == 0

    async def test_quitting_without_a_connection(self) -> None:
        program = Running(self.number, "--nick", "ann")
        await program.shows("you are in lobby")
        await self.port.stopListening()
        for connection in list(self.factory().connections):
            cast(Any, connection).transport.abortConnection()
        await program.shows("-- trying again in ")
        program.type("never said\n/quit\n")
        assert await program.ended == 0
