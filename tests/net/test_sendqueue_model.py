"""The send queue against a model, on sockets that take what they like and under system calls that fail."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from net.queues import ENTRY_BYTES, Buffer, InMemory, OnSocket

from chatproto.wire.prepared import Prepared

MOST_BYTES = 20_000
TOPICS = st.sampled_from(["one", "two", "three"])
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([1_000, 16_384, 16_385, 18_000]))


class Entry(NamedTuple):
    """What the model knows of something queued."""

    data: bytes
    topic: str | None
    position: int


class Model(RuleBasedStateMachine):
    """A queue is a list of entries, of which the newest are still in it and the others have gone out."""

    def __init__(self) -> None:
        super().__init__()
        self.ways = self.make()
        self.queue = self.ways.queue
        self.entries: list[Entry] = []
        self.received = bytearray()
        self.position = 0
        self.asked = 0
        self.closed = False

    def make(self) -> Any:
        raise NotImplementedError

    def take(self, most_bytes: int) -> None:
        """The peer reads."""
        raise NotImplementedError

    def take_everything(self) -> None:
        raise NotImplementedError

    def fresh(self, size: int) -> bytes:
        """Bytes that stand nowhere else in the stream."""
        self.position += 1
        return (b"%d|" % self.position * (size // 2 + 1))[:size]

    # --- what may happen ----------------------------------------------------------------------------------

    @rule(size=SIZES)
    def write(self, size: int) -> None:
        data = self.fresh(size)
        self.queue.write(data)
        if data and not self.closed:
            self.entries.append(Entry(data, None, 0))

    @rule(size=SIZES, topic=TOPICS | st.none(), times=st.integers(1, 30))
    def publish(self, size: int, topic: str | None, times: int) -> None:
        for _ in range(times):
            data = self.fresh(size)
            queued_before = self.queue.queued_bytes
            taken = self.queue.publish(Prepared(data, topic, self.position))
            fits = queued_before + len(data) + ENTRY_BYTES <= MOST_BYTES
            assert taken or not fits
            if taken and data and not self.closed:
                self.entries.append(Entry(data, topic, self.position))
                assert self.queue.queued_bytes <= MOST_BYTES

    @rule()
    def drop(self) -> None:
        waiting = self.entries[len(self.entries) - len(self.queue) :]
        firsts = self.queue.drop()
        kept = len(self.queue)
        stay = [entry for entry in waiting if entry.topic is None]
        if kept > len(stay):
            # Of the first one something had gone out already.
            assert waiting[0].topic is not None
            stay.insert(0, waiting[0])
        assert kept == len(stay)
        expected: dict[str, int] = {}
        for entry in waiting:
            if entry not in stay and entry.topic is not None:
                expected.setdefault(entry.topic, entry.position)
        assert firsts == expected
        self.entries[len(self.entries) - len(waiting) :] = stay

    @rule()
    def end_turn(self) -> None:
        self.ways.end_turn()

    @rule(most_bytes=st.sampled_from([1, 100, 20_000, 500_000]))
    def read(self, most_bytes: int) -> None:
        self.take(most_bytes)

    @rule()
    def become_writable(self) -> None:
        self.ways.transport.become_writable()

    @rule()
    def notify(self) -> None:
        if not self.closed:
            self.asked += 1
        self.queue.notify()

    @precondition(lambda self: len(self.entries) > 10)
    @rule()
    def close(self) -> None:
        self.queue.close()
        self.closed = True

    # --- what always holds --------------------------------------------------------------------------------

    @invariant()
    def what_is_queued_is_counted_to_the_byte(self) -> None:
        count = len(self.queue)
        waiting = self.entries[len(self.entries) - count :]
        assert self.queue.queued_bytes == sum(len(entry.data) + ENTRY_BYTES for entry in waiting)
        assert self.ways.turn.queued_bytes == self.queue.queued_bytes

    @invariant()
    def what_came_is_what_went_out(self) -> None:
        assert b"".join(entry.data for entry in self.entries).startswith(self.received)

    @invariant()
    def nobody_is_told_more_often_than_they_asked(self) -> None:
        told = self.ways.owner.told
        assert told.count("drained") <= self.asked
        assert told.count("flushed") <= self.closed
        assert "stalled" not in told

    def teardown(self) -> None:
        self.take_everything()
        assert bytes(self.received) == b"".join(entry.data for entry in self.entries)
        assert self.queue.queued_bytes == len(self.queue) == 0
        assert self.ways.owner.told.count("flushed") == self.closed
        if self.asked and not self.closed:
            assert "drained" in self.ways.owner.told


CAPRICIOUS_IS_LOADED = "capricious" in os.environ.get("LD_PRELOAD", "")


class SocketModel(Model):
    """A queue that writes to the socket itself."""

    ways: OnSocket

    def make(self) -> OnSocket:
        if CAPRICIOUS_IS_LOADED:
            ctypes.CDLL(None).begin_anew()
        return OnSocket(max_queued_bytes=MOST_BYTES, send_buffer_bytes=1)

    def take(self, most_bytes: int) -> None:
        self.received += self.ways.read(most_bytes)

    def take_everything(self) -> None:
        self.ways.end_turn()
        self.received += self.ways.drain()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.ways.__exit__()


class TransportModel(Model):
    """A queue that goes through a transport."""

    ways: InMemory
    buffer: Buffer

    def make(self) -> InMemory:
        self.buffer = Buffer(enough_bytes=5_000)
        return InMemory(self.buffer, MOST_BYTES)

    def take(self, most_bytes: int) -> None:
        self.received += self.buffer.sent[:most_bytes]
        del self.buffer.sent[:most_bytes]

    def take_everything(self) -> None:
        self.ways.end_turn()
        while len(self.queue) or self.buffer.unsent:
            self.buffer.become_writable()
        # Asked for while the transport was full, which is empty now.
        self.ways.end_turn()
        self.take(10**9)


EXAMPLES = settings(deadline=None, max_examples=60, stateful_step_count=40)

TestOnSocket = SocketModel.TestCase
TestOnSocket.settings = EXAMPLES
TestOnTransport = TransportModel.TestCase
TestOnTransport.settings = EXAMPLES

CAPRICIOUS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

static unsigned state = 12345;
/* The same caprices for each example, or hypothesis could not repeat one. */
void begin_anew(void) { state = 12345; }
static unsigned next(void) { return (state = state * 1103515245u + 12345u) >> 16; }

/* Takes part of what it is given, or nothing, for each reason that is no fault of the connection's. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    static ssize_t (*real)(int, const struct msghdr *, int);
    static const int reasons[] = {EINTR, EAGAIN, ENOBUFS, ENOMEM};
    struct iovec part[1024];
    struct msghdr less = *message;
    size_t i, left;
    if (!real) real = dlsym(RTLD_NEXT, "sendmsg");
    if (next() % 4 == 0) { errno = reasons[next() % 4]; return -1; }
    if (next() % 4 == 0) return real(fd, message, flags);
    left = 1 + next() % (next() % 2 ? 8 : 20000);
    for (i = 0; i < message->msg_iovlen && left; i++) {
        part[i] = message->msg_iov[i];
        if (part[i].iov_len > left) part[i].iov_len = left;
        left -= part[i].iov_len;
    }
    less.msg_iov = part;
    less.msg_iovlen = i;
    return real(fd, &less, flags);
}

/* The same for what is in one piece. Without MSG_DONTWAIT it is somebody else's. */
ssize_t send(int fd, const void *data, size_t size, int flags) {
    struct iovec whole = {(void *)data, size};
    struct msghdr message = {.msg_iov = &whole, .msg_iovlen = 1};
    if (!(flags & MSG_DONTWAIT)) return sendto(fd, data, size, flags, NULL, 0);
    return sendmsg(fd, &message, flags);
}
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler to make capricious calls with")
@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is the loader's of Linux")
@pytest.mark.skipif(CAPRICIOUS_IS_LOADED, reason="this is already within the capricious system")
def test_every_property_holds_under_a_capricious_system(tmp_path: Path) -> None:
    """Short writes of any length, and EINTR, EAGAIN, ENOBUFS and ENOMEM at any time."""
    source, library = tmp_path / "capricious.c", tmp_path / "capricious.so"
    source.write_text(CAPRICIOUS)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    here = Path(__file__)
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", here, "-k", "TestOnSocket"],
        cwd=here.parents[2],
        env={**os.environ, "LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {library}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout[-3_000:]
    assert "1 passed" in outcome.stdout
