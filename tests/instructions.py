"""What the hot paths cost in machine instructions: the work, and its counting under callgrind.

`python tests/instructions.py` counts and prints; with `--record` it also writes the figures of this machine's
build into `data/instructions.json`, which `test_instructions.py` compares with. With `--work` it only does
the work: that is what runs under callgrind.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORDED = HERE / "data" / "instructions.json"

REFERENCE = "reference"
"""Work of the interpreter's and the C library's own, which no change of the project makes dearer."""

TEXT = b"a" * 64


class Sink:
    """A transport that takes everything and keeps nothing."""

    def write(self, data: bytes) -> None:
        pass

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass

    def getPeer(self) -> None:
        return None


def reference() -> Callable[[], object]:
    counts: dict[bytes, int] = {}

    def work() -> None:
        for i in range(200):
            key = b"%d" % (i & 15)
            counts[key] = counts.get(key, 0) + len(bytes(TEXT).translate(None, b"b"))

    return work


def decode() -> Callable[[], object]:
    """A hundred frames of 64 bytes out of one read."""
    from chatproto.wire.encoding import encode_masked
    from chatproto.wire.messages import Side
    from chatproto.wire.websocket import WebSocketDecoder

    decoder = WebSocketDecoder(Side.SERVER)
    frames = encode_masked(1, TEXT, key=b"abcd") * 50 + encode_masked(2, TEXT, key=b"abcd") * 50
    return lambda: decoder.receive(frames)


def build() -> Callable[[], object]:
    """A hundred frames of 64 bytes, for one recipient each."""
    from chatproto.wire.encoding import encode_frame, encode_message

    text = TEXT.decode()

    def work() -> None:
        for _ in range(50):
            encode_message(text)
            encode_frame(2, TEXT)

    return work


def publish() -> Callable[[], object]:
    """One thing to a hundred queues, and the end of the turn."""
    from twisted.internet.task import Clock

    from chatproto.net.sendqueue import SendQueue, Turn
    from chatproto.wire.prepared import Prepared

    clock = Clock()
    turn = Turn(clock, 10.0)
    owner: Any = object()
    sink: Any = Sink()
    queues = [SendQueue(sink, owner, turn, bytes, 1_000_000) for _ in range(100)]

    def work() -> None:
        prepared = Prepared(TEXT, "lobby", 1)
        for queue in queues:
            queue.publish(prepared)
        clock.advance(0)

    return work


def echo() -> Callable[[], object]:
    """Twenty WebSocket messages, each in a read of its own, and their echoes."""
    from twisted.internet.task import Clock

    from chatproto.websocket import WebSocketFactory, WebSocketProtocol
    from chatproto.wire.encoding import encode_masked

    class Echo(WebSocketProtocol):
        def textMessageReceived(self, message: str) -> None:
            self.transport.sendTextMessage(message)

    class Echoes:
        def buildProtocol(self, request: object) -> Echo:
            return Echo()

    clock: Any = Clock()
    sink: Any = Sink()
    protocol = WebSocketFactory(Echoes(), reactor=clock).buildProtocol(None)
    protocol.makeConnection(sink)
    protocol.dataReceived(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert protocol.is_open
    frame = encode_masked(1, TEXT, key=b"abcd")

    def work() -> None:
        for _ in range(20):
            protocol.dataReceived(frame)

    return work


def say() -> Callable[[], object]:
    """One `say` in a frame, through the hub, to twenty others in the room, and its `ack`."""
    from twisted.internet.task import Clock

    from chatproto import ChatFactory, Hub, Limits
    from chatproto.wire.chat import encode_frame
    from chatproto.wire.messages import Join, Say

    clock: Any = Clock()
    sink: Any = Sink()
    hub = Hub(clock, None, Limits(max_messages_per_s=0.0), wall_clock=clock.seconds)
    factory = ChatFactory(hub)
    people: list[Any] = []
    for number in range(21):
        person = factory.buildProtocol(None)
        assert person is not None
        person.makeConnection(sink)
        person.dataReceived(encode_frame(Join(f"p{number}", "")))
        clock.advance(0)
        people.append(person)
    ids = iter(range(1, 1_000_000))

    def work() -> None:
        people[0].dataReceived(encode_frame(Say(next(ids), "lobby", "a" * 64)))
        clock.advance(0)

    return work


ROUNDS: dict[Callable[[], Callable[[], object]], int] = {
    reference: 40,
    decode: 40,
    build: 40,
    publish: 40,
    echo: 20,
    say: 40,
}


def mark() -> None:
    """Where callgrind begins to count anew: nothing else calls this function of the C library."""
    os.getpgrp()


def run() -> None:
    """Do all work, each part between two marks. What it does not count is done before."""
    works = [(prepare(), rounds) for prepare, rounds in ROUNDS.items()]
    for work, _ in works:
        for _ in range(5):
            work()
    gc.collect()
    gc.disable()
    for work, rounds in works:
        turns = range(rounds)
        mark()
        for _ in turns:
            work()
        mark()


def counted(valgrind: str) -> dict[str, int]:
    """The instructions of each part, by its name, on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            valgrind,
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/out",
            "--dump-before=getpgrp",
        ]
        done = subprocess.run(
            [*command, sys.executable, "-P", __file__, "--work"],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the work under callgrind failed: {done.stderr[-2_000:]}")
        totals: dict[int, int] = {}
        for path in Path(folder).glob("out.*"):
            found = re.search(r"^(?:summary|totals): (\d+)", path.read_text(), re.MULTILINE)
            assert found is not None, path.read_text()[:500]
            totals[int(path.name.removeprefix("out."))] = int(found[1])
    between = [total for _, total in sorted(totals.items())][1::2]
    names = [prepare.__name__ for prepare in ROUNDS]
    return dict(zip(names, between, strict=True))


def build_name() -> str:
    """What the figures depend on beside the project: one string for each Python and compiler."""
    compiler = subprocess.run(
        [os.environ.get("CC", "cc"), "-dumpfullversion"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return ", ".join(
        (platform.python_version(), " ".join(platform.python_build()), platform.machine(), f"cc {compiler}")
    )


def relative(counts: dict[str, int]) -> dict[str, float]:
    """How many times the instructions of the reference each part has."""
    return {name: round(count / counts[REFERENCE], 4) for name, count in counts.items() if name != REFERENCE}


def main() -> None:
    """See the module."""
    if "--work" in sys.argv:
        run()
        return
    counts = counted("valgrind")
    for name, ratio in relative(counts).items():
        print(f"{name:8} {counts[name]:>10,} instructions, {ratio:.3f} of the reference")
    if "--record" in sys.argv:
        recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
        recorded[build_name()] = relative(counts)
        RECORDED.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
