"""The chat over WebSocket as it runs: `twistd chat`, and `websockets` as it comes at the other end."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faults.watching import WatchedServer, assert_log_is_clean
from forms import Binary, Json
from live import PATIENCE_S, Framed, Server, eventually
from net.certificate import write_certificate
from net.test_two_nc import Netcat
from websockets import ConnectionClosed, InvalidStatus, Origin, Subprotocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.sync.client import ClientConnection, connect

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, Goodbye, Join, Left, Say, Side


class JsonPeer:
    """Someone who speaks JSON through `websockets`."""

    def __init__(self, where: Server | str, **options: Any) -> None:
        url = where if isinstance(where, str) else f"ws://127.0.0.1:{where.port}/chat"
        # Tests end it in many ways, so it is no block of its own.
        self.connection: ClientConnection = connect(
            url, proxy=None, open_timeout=PATIENCE_S, **options
        ).__enter__()

    def send(self, type: str, **fields: object) -> None:
        self.connection.send(json.dumps({"type": type, **fields}))

    def next(self) -> dict[str, Any]:
        received = self.connection.recv(timeout=PATIENCE_S)
        assert isinstance(received, str)
        message: dict[str, Any] = json.loads(received)
        return message

    def until(self, type: str) -> dict[str, Any]:
        """The next message of a type."""
        while True:
            message = self.next()
            if message["type"] == type:
                return message

    def join(self, nick: str) -> None:
        self.send("join", nick=nick)
        self.until("end")

    def closed_with(self) -> int:
        """Read to the end: the server's close code."""
        with suppress(ConnectionClosed):
            while True:
                self.connection.recv(timeout=PATIENCE_S)
        code = self.connection.close_code
        assert code is not None
        return code


@pytest.mark.system
@pytest.mark.skipif(not shutil.which("nc"), reason="there is no nc here")
def test_nc_frames_and_both_subprotocols_are_in_one_room(server: Server) -> None:
    said = {"frames": "hi from frames", "bin": "grüße ☕", "json": "json says\nthis", "nc": "hi from nc"}
    frames = server.join("frames")
    binary = Framed(server.port, Binary())
    binary.send(Join("bin"))
    binary.until(End)
    peer = JsonPeer(server, subprotocols=[Subprotocol("chat.v1.json")])
    peer.join("json")
    with Netcat(server) as nc:
        nc.type("nc")
        eventually(lambda: "* in lobby: " in nc.shown())
        frames.send(Say(0, "", said["frames"]))
        binary.send(Say(0, "", said["bin"]))
        peer.send("say", room="lobby", text=said["json"])
        nc.type(said["nc"])

        def heard_by(client: Framed) -> dict[str, str]:
            return {chat.nick: chat.text for chat in client.of(Chat)}

        for name, client in (("frames", frames), ("bin", binary)):
            client.gather(lambda: len(client.of(Chat)) == 3, "what the others say")  # noqa: B023
            assert heard_by(client) == {nick: text for nick, text in said.items() if nick != name}
        heard = [peer.until("chat") for _ in range(3)]
        assert {chat["nick"]: chat["text"] for chat in heard} == {
            nick: text for nick, text in said.items() if nick != "json"
        }
        eventually(
            lambda: all(
                f"{nick}: {text.replace(chr(10), ' ⏎ ')}" in nc.shown()
                for nick, text in said.items()
                if nick != "nc"
            )
        )
    for client in (frames, binary):
        client.close()
    peer.connection.close()


def test_over_tls_it_is_the_same(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    with Server("--listen", f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}") as server:
        url = f"wss://localhost:{server.port}/chat"
        trust = ssl.create_default_context(cafile=certificate)
        own = Origin(f"https://localhost:{server.port}")
        ann, bob = (JsonPeer(url, ssl=trust, origin=own) for _ in range(2))
        ann.join("ann")
        bob.join("bob")
        # Somebody on the way could have written a page that came without TLS.
        with pytest.raises(InvalidStatus):
            JsonPeer(url, ssl=trust, origin=Origin(f"http://localhost:{server.port}"))
        ann.send("say", id=1, text="x" * 4_000)
        assert ann.until("ack")["seq"] == 1
        assert bob.until("chat")["text"] == "x" * 4_000
        server.process.send_signal(signal.SIGTERM)
        for peer in (ann, bob):
            assert 1_000 <= peer.until("goodbye")["retry_ms"] < 1_010
            assert peer.closed_with() == 1001  # it is a page
        assert server.process.wait(PATIENCE_S) == -signal.SIGTERM  # as twistd ends
        assert_log_is_clean(server)


class TestOrigins:
    def test_pages_of_others_are_kept_out_unless_they_are_named(self) -> None:
        with Server("--origin", "https://friend.example", "--origin", "http://friend.example:8080") as server:
            for origin in (
                f"http://127.0.0.1:{server.port}",
                "https://friend.example",
                "http://friend.example:8080",
            ):
                JsonPeer(server, origin=Origin(origin)).connection.close()
            for origin in ("http://friend.example", "http://127.0.0.1", "null"):
                with pytest.raises(InvalidStatus) as refused:
                    JsonPeer(server, origin=Origin(origin))
                assert refused.value.response.status_code == 403


class TestCompression:
    def test_it_is_off_by_default(self, server: Server) -> None:
        peer = JsonPeer(server, compression="deflate")
        assert peer.connection.protocol.extensions == []
        peer.connection.close()

    def test_one_option_turns_it_on_and_nobody_keeps_a_window(self) -> None:
        with Server("--deflate") as server:
            ann, bob = JsonPeer(server), JsonPeer(server)
            [extension] = ann.connection.protocol.extensions
            assert isinstance(extension, PerMessageDeflate)
            assert extension.remote_no_context_takeover
            assert extension.local_no_context_takeover
            ann.join("ann")
            bob.join("bob")
            for number in range(20):
                ann.send("say", text=f"{number} " * 500)
            for number in range(20):
                assert bob.until("chat")["text"] == f"{number} " * 500
            plain = JsonPeer(server, compression=None)
            plain.send("join", nick="plain", limit=5)
            assert plain.until("chat")["text"] == "15 " * 500
            for peer in (ann, bob, plain):
                peer.connection.close()
            assert_log_is_clean(server)


class TestHeartbeat:
    def test_who_answers_stays_and_who_does_not_has_timed_out(self) -> None:
        options = ("--ping-interval-s", "0.5", "--pong-timeout-s", "3", "--close-timeout-s", "0.5")
        with WatchedServer(*options) as server:
            witness = server.join("witness")
            alive = JsonPeer(server)  # has a thread that answers
            alive.join("alive")
            silent = Framed(server.port, Json())
            silent.send(Join("silent"))
            silent.until(End)
            assert witness.until(Left) == Left("lobby", "silent", "timeout")
            silent.until_closed()
            last = silent.received[-1]
            assert isinstance(last, Error)
            assert last.code == ErrorCode.TIMEOUT
            assert silent.form.closed_with == 1011
            silent.close()
            time.sleep(1)
            alive.send("say", id=1, text="still here")
            assert alive.until("ack")["seq"] == 1
            assert witness.of(Left) == [Left("lobby", "silent", "timeout")]
            alive.connection.close()
            assert witness.until(Left) == Left("lobby", "alive", "closed")
            assert_log_is_clean(server)


class TestEnding:
    def test_everybody_hears_goodbye_whatever_they_speak_and_it_takes_no_longer_than_it_may(self) -> None:
        with Server("--close-timeout-s", "1") as server:
            frames = server.join("frames")
            sockets = [Framed(server.port, form()) for form in (Binary, Json)]
            for client in sockets:
                client.send(Join(type(client.form).__name__))
                client.until(End)
            stranger = Framed(server.port, Json())
            while stranger.form.peer.state.name == "CONNECTING":  # type: ignore[attr-defined]
                stranger.receive()
            begun = socket.create_connection(("127.0.0.1", server.port))
            begun.sendall(b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: web")
            unread = server.raw(receive_buffer_bytes=4_096)
            form = Json()
            unread.sendall(form.output())
            eventually(lambda: bool(unread.recv(4_096, socket.MSG_PEEK)))
            asked_s = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            for client in (frames, *sockets, stranger):
                goodbye = client.until(Goodbye)
                assert goodbye.text == "the server is shutting down"
                client.until_closed()
                assert client.form.closed_with in (None, 1012)
                client.close()
            begun.settimeout(PATIENCE_S)
            with suppress(ConnectionResetError):  # there is nothing to say to half a request
                assert begun.recv(4_096) == b""
            assert server.process.wait(PATIENCE_S) == -signal.SIGTERM  # as twistd ends
            print(f"ended after {time.monotonic() - asked_s:.1f} s")
            assert_log_is_clean(server)
            for each in (begun, unread):
                each.close()

    def test_a_client_that_comes_back_finds_what_it_missed(self, server: Server) -> None:
        witness = server.join("witness")
        ann = JsonPeer(server)
        ann.send("join", nick="ann")
        epoch = ann.until("welcome")["epoch"]
        ann.until("end")
        ann.connection.close()
        witness.send(*(Say(0, "", f"{number}") for number in range(3)))
        witness.send(Say(1, "", "3"))
        witness.until(Ack)
        again = JsonPeer(server)
        again.send("join", nick="ann", epoch=epoch, after=1, limit=10)
        assert [again.until("chat")["text"] for _ in range(3)] == ["1", "2", "3"]
        assert again.until("end") == {"type": "end", "room": "lobby", "first": 2, "last": 4, "status": 0}
        again.connection.close()


def test_the_binary_form_is_a_frame_without_its_length(server: Server) -> None:
    """Byte by byte, and not by what the tests have for it elsewhere."""
    url = f"ws://127.0.0.1:{server.port}/chat"
    with connect(url, subprotocols=[Subprotocol("chat.v1.bin")], proxy=None, open_timeout=PATIENCE_S) as peer:
        peer.send(b"\x08" + (7).to_bytes(8, "big"))
        assert peer.recv(timeout=PATIENCE_S) == b"\x89" + (7).to_bytes(8, "big")
        peer.send(encode_frame(Join("ann"))[4:])
        data = peer.recv(timeout=PATIENCE_S)
        assert isinstance(data, bytes)
        [welcome] = FrameDecoder(Side.CLIENT).receive(len(data).to_bytes(4, "big") + data)
        assert welcome.type == "welcome"
