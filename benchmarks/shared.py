"""What it costs to share rooms: the log in a store beside those in memory and in a file, in turn.

Starts `redis-server` for itself, on loopback, and `twistd chat` with each log in turn. See README.md.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from generator import building
from history_server import Crowded, crowd
from servers import HOST, Served, chat_program, serving

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.messages import Ack, Chat, End, Join, Message, Say, Side

PATIENCE_S = 60.0

TALKERS = (("2 people, 200 in flight", 2, 200), ("50 people, 4 in flight", 50, 4))


@contextmanager
def storing(fsync: str) -> Iterator[str]:
    """A store; its URL."""
    if shutil.which("redis-server") is None:
        sys.exit("redis-server is not here; apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="chatproto-benchmark-") as folder, socket.socket() as plain:
        plain.bind((HOST, 0))
        port = plain.getsockname()[1]
        plain.close()
        command = ["redis-server", "--bind", HOST, "--port", str(port), "--dir", folder, "--save", ""]
        command += (
            ["--appendonly", "no"] if fsync == "none" else ["--appendonly", "yes", "--appendfsync", fsync]
        )
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            _wait(lambda: socket.create_connection((HOST, port)).close())
            yield f"redis://{HOST}:{port}/0"
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _wait(attempt: Callable[[], object]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            attempt()
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.02)
        else:
            return


class Client:
    """Somebody who blocks."""

    def __init__(self, served: Served, nick: str, room: str) -> None:
        self._socket = socket.create_connection((HOST, served.port), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = FrameDecoder(Side.CLIENT, 2**24 - 1)
        self._received: deque[Message] = deque()
        self.room = room
        self.send(Join(nick, room, 0, 0, 0))
        self.until(End)

    def send(self, message: Message) -> None:
        """Send one message."""
        self._socket.sendall(encode_frame(message))

    def until(self, kind: type[Message], text: str = "") -> None:
        """Wait for the next message of a kind, and of that text if one is given."""
        while True:
            while self._received:
                message = self._received.popleft()
                if isinstance(message, kind) and (not text or getattr(message, "text", "") == text):
                    return
            data = self._socket.recv(2**16)
            if not data:
                sys.exit("the server closed the connection")
            self._received += self._decoder.receive(data)


def lonely(speaker: Client, reader: Client, times: int) -> tuple[list[float], list[float]]:
    """Milliseconds until one message after the other is acknowledged, and until it is read by *reader*."""
    acked_ms, seen_ms = [], []
    first = time.time_ns() >> 12  # a store knows the ids of a round before
    for id in range(first, first + times):
        begun_s = time.perf_counter()
        speaker.send(Say(id, speaker.room, "x" * 64))
        speaker.until(Ack)
        acked_ms.append((time.perf_counter() - begun_s) * 1000)
        begun_s = time.perf_counter()
        text = f"{id:064}"
        speaker.send(Say(times + id, speaker.room, text))
        reader.until(Chat, text)
        seen_ms.append((time.perf_counter() - begun_s) * 1000)
        speaker.until(Ack)
    return acked_ms, seen_ms


def cpu_s(served: Served) -> float:
    """CPU time of a server so far."""
    return (
        sum(
            int((task / "schedstat").read_text().split()[0])
            for task in Path(f"/proc/{served.pid}/task").iterdir()
        )
        / 1e9
    )


def spread(values_ms: list[float]) -> str:
    """The median and the 99th of a hundred."""
    ordered = sorted(values_ms)
    return f"{statistics.median(ordered):6.2f} {ordered[int(len(ordered) * 0.99)]:6.2f}"


def following(url: str, seconds: float) -> float:
    """CPU of a server that only follows a room in which others talk elsewhere, in us for each message."""
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(serving(chat_program("store", history=url), None)) for _ in range(2)
        )
        speaker, reader = Client(one, "fs", "follow"), Client(other, "fr", "follow")
        before_s, messages, until_s = cpu_s(other), 0, time.monotonic() + seconds
        while time.monotonic() < until_s:
            for _ in range(50):
                speaker.send(Say(0, "follow", "x" * 64))
            messages += 50
            messages += 1
            text = f"{messages:064}"
            speaker.send(Say(messages, "follow", text))
            reader.until(Chat, text)
        return (cpu_s(other) - before_s) * 1e6 / messages


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of all logs in turn (%(default)s)")
    options = parser.parse_args()
    with ExitStack() as stack:
        generator = stack.enter_context(building())
        logs = {"memory": "memory", "file": "chat.sqlite"}
        for fsync in ("none", "everysec", "always"):
            logs[f"store, fsync {fsync}"] = stack.enter_context(storing(fsync))
        loads: dict[tuple[str, str], list[Crowded]] = {}
        waits: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in logs}
        for _ in range(options.rounds):
            for name, history in logs.items():
                with serving(chat_program(name, history=history), None) as served:
                    for what, clients, window in TALKERS:
                        loads.setdefault((name, what), []).append(
                            crowd(generator, served, clients, window, options.seconds)
                        )
                    speaker, reader = Client(served, "one", "alone"), Client(served, "two", "alone")
                    for all_ms, more_ms in zip(waits[name], lonely(speaker, reader, 300), strict=True):
                        all_ms += more_ms
        for what, clients, _ in TALKERS:
            print(f"\n{what}: messages/s, us of the server's CPU for each message, and for each delivery")
            for name in logs:
                rate = statistics.median(one.rate for one in loads[name, what])
                cpu_us = statistics.median(one.cpu_us for one in loads[name, what])
                print(f"  {name:22} {rate:9,.0f} {cpu_us:8.1f} {cpu_us / (clients - 1):8.2f}")
        print("\none message at a time, ms, p50 and p99: until the ack, until somebody else reads it")
        for name in logs:
            print(f"  {name:22} {spread(waits[name][0])}   {spread(waits[name][1])}")
        print("\na server that follows a room in which others talk elsewhere, us of CPU for each message")
        print(f"  {following(logs['store, fsync none'], options.seconds):.1f}")
    with storing("everysec") as url, building() as generator:
        print("\n200 people, 4 of whom talk, on one port: deliveries/s, us of all servers' CPU for each")
        for n in (1, 2):
            with ExitStack() as stack:
                one = stack.enter_context(serving(chat_program("one", "--reuse-port", history=url), None))
                servers = [one]
                if n == 2:
                    same = ("--reuse-port", "--listen", f"tcp:{one.port}:interface={HOST}:backlog=4096")
                    servers += [stack.enter_context(serving(chat_program("two", *same, history=url), None))]
                before_s = sum(cpu_s(server) for server in servers)
                talk = {"clients": 200, "senders": 4, "window": 4, "bytes": 64}
                found = generator.load(one, **talk, warmup=0.5, seconds=options.seconds)
                all_s = sum(cpu_s(server) for server in servers) - before_s
                rate = found.deliveries / found.wall_s
                # The load warms up for half a second and lets everybody join first: that is counted too.
                per_us = all_s * 1e6 / (rate * (options.seconds + 0.5))
                print(f"  {n} {'process' if n == 1 else 'processes'} {rate:12,.0f} {per_us:8.2f}")


if __name__ == "__main__":
    main()
